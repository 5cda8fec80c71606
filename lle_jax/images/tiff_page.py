"""One page of a TIFF file: its checks, its decoding, and the meaning of its samples.

tifffile decodes, with imagecodecs where that is installed (the extra `formats`). Without it, LZW
strips and tiles are unpacked one by one by the libtiff in Pillow and go through tifffile too, and
Pillow decodes the whole page of 8-bit JPEG and of fax data. Whatever neither reads is refused by
name before it is decoded, so that what then fails is damaged.
"""

import contextlib
import io
import math
import struct
from collections.abc import Callable

import numpy as np
import tifffile
from PIL import (
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from lle_jax.images import decoders, extra
from lle_jax.images.errors import ImageError
from lle_jax.images.picture import check_inflated, check_lzma, check_size, palette_to_unit, to_unit

_NONE, _LZW, _JPEG, _DEFLATE, _PACKBITS, _LZMA = 1, 5, 7, (8, 32946), 32773, 34925
_FAX = (2, 3, 4)
_BY_TIFFFILE = (_NONE, _LZW, *_DEFLATE, _PACKBITS, _LZMA)
# What holds pictures, whose own depth and colours count; the classes themselves, since only the
# decoder that the compression calls for is to run.
_HEADERS: dict[int, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    50001: WebPImagePlugin.WebPImageFile,
    34712: Jpeg2KImagePlugin.Jpeg2KImageFile,
    34933: PngImagePlugin.PngImageFile,
}
_PICTURES = (_JPEG, *_HEADERS)
_ZSTD = 50000
_BY_IMAGECODECS = (_ZSTD, *_HEADERS)
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_ORIENTATION, _FILL_ORDER = 274, 266
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_UNSPECIFIED, _ASSOCIATED_ALPHA = 0, 1
_MAX_TILE = 2**22  # samples that a tile may have whatever the image's size: all of it is decoded


def decode(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the pixels `[H, W, C]` in [0, 1] and the opacity `[H, W, 1]` as stored, or None.

    Raises:
      ImageError: for samples or a compression that are not read, and for a file cut short.
    """
    check(tif, page)
    levels = _levels(tif, page)
    if levels.shape != (page.imagelength, page.imagewidth, page.samplesperpixel):
        raise ImageError(f"its axes {page.axes} are not supported; export it as plain RGB or grey")
    if page.photometric == _PALETTE:
        colours, _ = palette(page)
        if levels.max() >= colours.shape[1]:
            raise ImageError("its pixels go beyond its palette; export the image again")
        return colours.T[levels[..., 0].astype(np.intp)], None
    return _split(levels, page)


def bits(page: tifffile.TiffPage) -> int:
    """Bits per sample to write back: 8, 16, or 32 for floating point."""
    if page.photometric == _PALETTE:
        return palette(page)[1]
    dtype = np.dtype(page.dtype)
    return 32 if dtype.kind == "f" else 16 if dtype.itemsize == 2 else 8


def palette(page: tifffile.TiffPage) -> tuple[np.ndarray, int]:
    """Returns the colours `[3, N]` in [0, 1] and their bits."""
    if page.colormap is None:
        raise ImageError("its palette is missing; export the image again")
    if 0 < page.colormap.max() < 256:  # of 8 bits, against the standard; libtiff takes it so
        return to_unit(page.colormap, 255), 8
    return palette_to_unit(page.colormap)


def check(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> None:
    """Raises ImageError for a page that is not read, and for a file cut short."""
    _check_samples(page)
    _check_compression(page)
    _check_colours(page)
    if page.planarconfig not in (1, 2):
        raise ImageError("its planar configuration is neither 1 nor 2; export the image again")
    most = max(_MAX_TILE, 4 * page.imagewidth * page.imagelength)
    if page.is_tiled and math.prod(page.chunks) > most:
        raise ImageError("its tiles are far larger than the image; export the image again")
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if any(start + size > tif.filehandle.size for start, size in segments):
        raise ImageError("the file is cut short; copy or export it again")
    if not all(size for _, size in segments):
        raise ImageError("some of its strips or tiles hold no data; export the image again")
    if page.compression in (*_DEFLATE, _LZMA, *_PICTURES):
        for start, size in segments:
            tif.filehandle.seek(start)
            _check_part(page, tif.filehandle.read(size))


def _check_part(page: tifffile.TiffPage, data: bytes) -> None:
    """Raises ImageError for a strip or a tile that decodes to more than its page says."""
    if page.compression in _PICTURES:
        width, height = _picture_size(data, page.compression)
        if height > page.chunks[0] or width > page.chunks[1]:
            raise ImageError(
                f"it is damaged: a part of {page.chunks[1]} x {page.chunks[0]} pixels holds "
                f"{width} x {height}; export the image again"
            )
        return
    expected = math.prod(page.chunks) * np.dtype(page.dtype).itemsize
    data = data.translate(_REVERSED) if page.fillorder == 2 else data
    (check_lzma if page.compression == _LZMA else check_inflated)(data, expected)


def _picture_size(data: bytes, compression: int) -> tuple[int, int]:
    """Reads width and height in the header of a picture, in which decoders believe."""
    with contextlib.suppress(OSError, Image.DecompressionBombError, ValueError, SyntaxError):
        if compression != _JPEG:
            return _HEADERS[compression](io.BytesIO(data)).size
        at = 2  # Pillow reads no JPEG of 12 bits: the frame header of ITU-T T.81, B.2.2
        while len(data) >= at + 9 and data[at] == 0xFF:
            marker = data[at + 1]
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                height, width = struct.unpack_from(">HH", data, at + 5)
                return width, height
            fill = marker == 0xFF
            at += 1 if fill else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise ImageError("some of its strips or tiles have no sound header; export the image again")


def _check_samples(page: tifffile.TiffPage) -> None:
    """Raises ImageError for numbers that are no levels."""
    if isinstance(page.bitspersample, tuple):
        raise ImageError("its samples differ in depth; save all of them with 8 or 16 bits")
    formats = np.ravel(page.tags.valueof(339, page.sampleformat))
    dtype = page.dtype
    if dtype is None or (dtype.kind, dtype.itemsize) not in (
        ("b", 1), ("u", 1), ("u", 2), ("f", 2), ("f", 4), ("f", 8)
    ) or len(set(formats)) > 1:  # fmt: skip
        raise ImageError(
            f"samples of type {dtype or 'unknown'} are not supported; save them as uint8, uint16 "
            "or as floating point in [0, 1]"
        )
    packed = page.bitspersample not in (8, 16, 32, 64)
    if packed and page.predictor != 1 and page.compression not in (*_FAX, *_PICTURES):
        raise ImageError(
            f"a predictor for {page.bitspersample} bits per sample is not supported; save it as 8 "
            "or 16 bits"
        )
    if packed and page.bitspersample != 1 and not extra.has("imagecodecs"):
        whole = 8 if page.bitspersample < 8 else 16
        raise ImageError(
            f"{page.bitspersample} bits per sample packed; save it as {whole} bits, or "
            f"{extra.INSTALL}"
        )


def _check_colours(page: tifffile.TiffPage) -> None:
    """Raises ImageError for colour spaces and further samples that are not read."""
    if page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR):
        name = getattr(page.photometric, "name", "of this file")
        raise ImageError(f"colour space {name} is not supported; convert it to RGB or greyscale")
    if page.photometric == _YCBCR and page.compression not in _PICTURES:
        raise ImageError("YCbCr is read with JPEG compression only; convert it to RGB")
    if page.imagedepth != 1:
        raise ImageError(f"a volume of depth {page.imagedepth} is not read; save it as pages")
    colours = 3 if page.photometric in (_RGB, _YCBCR) else 1
    most = colours if page.photometric == _PALETTE else colours + 1
    if not colours <= page.samplesperpixel <= most:
        raise ImageError(
            f"{page.samplesperpixel} samples a pixel are not supported; save it as RGB or "
            "greyscale, with or without alpha"
        )
    if page.samplesperpixel == colours:
        return
    if page.extrasamples[:1] == (_UNSPECIFIED,):
        raise ImageError(
            "it has a further sample that is not said to be opacity (ExtraSamples 0); save it as "
            "RGB or greyscale, with or without alpha"
        )
    if page.extrasamples[:1] == (_ASSOCIATED_ALPHA,) and page.photometric == _WHITE_IS_ZERO:
        raise ImageError("premultiplied opacity where white is 0 is not read; save black as 0")


def _check_compression(page: tifffile.TiffPage) -> None:
    """Raises ImageError for data that no decoder at hand reads, and names what would."""
    name = getattr(page.compression, "name", f"number {page.compression}")
    known = (*_BY_TIFFFILE, _JPEG, *_FAX, *_BY_IMAGECODECS)
    if page.compression not in known:
        raise ImageError(f"compression {name} is not supported; save it with LZW, Deflate or none")
    if page.compression in _FAX and (page.bitspersample != 1 or page.samplesperpixel != 1):
        raise ImageError(f"compression {name} is for 1 bit per sample; export the image again")
    if page.compression == _JPEG and page.samplesperpixel in (2, 4):
        raise ImageError("JPEG data with opacity are not read; save it with LZW, Deflate or none")
    if page.compression in (*_BY_TIFFFILE, _ZSTD) and page.predictor not in (
        1,
        2,
        3,
    ):
        raise ImageError(f"predictor {int(page.predictor)} is not supported; save it without one")
    if extra.has("imagecodecs"):
        return
    if page.compression in _BY_IMAGECODECS:
        needs = f"compression {name}"
    elif page.compression == _JPEG and (page.bitspersample != 8 or page.planarconfig != 1):
        needs = "JPEG data in separate planes or of more than 8 bits"
    elif page.compression in _BY_TIFFFILE and page.predictor == 3:
        needs = "the floating-point predictor"
    else:
        return
    raise ImageError(
        f"{needs} needs a further package; save it with LZW or Deflate, or {extra.INSTALL}"
    )


def _levels(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> np.ndarray:
    """Decodes a page -> `[H, W, samples]`, as stored (not turned by its orientation)."""
    if page.compression in (_JPEG, *_FAX) and not extra.has("imagecodecs"):
        return _by_pillow(tif, page)
    if page.compression == _LZW and not extra.has("imagecodecs"):
        levels = _lzw_page(tif, page)
    else:
        levels = page.asarray()
    levels = levels[..., None] if page.axes == "YX" else levels
    return np.moveaxis(levels, 0, -1) if page.axes == "SYX" else levels


def _lzw_page(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> np.ndarray:
    """Unpacks each strip or tile by libtiff and has tifffile read it as one stored plainly."""
    fill_order = page.fillorder
    page.compression, page.fillorder = tifffile.COMPRESSION.NONE, tifffile.FILLORDER.MSB2LSB
    out = np.zeros(page.shaped, page.dtype)  # plane, depth, row, column, sample
    for number, (start, size) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        tif.filehandle.seek(start)
        _, (plane, _, top, left, _), shape = page.decode(None, number)
        row = -(-shape[2] * shape[3] * page.bitspersample // 8)
        data = _unlzw(tif.filehandle.read(size), row, shape[1], fill_order)
        decoded, *_ = page.decode(data, number)
        block = np.asarray(decoded)[0]
        target = out[plane, 0, top : top + shape[1], left : left + shape[2]]
        target[:] = block[: target.shape[0], : target.shape[1]]
    return out.reshape(page.shape)


def _unlzw(data: bytes, width: int, height: int, fill_order: int) -> bytes:
    """Decodes LZW data to `height` rows of `width` bytes, as the one strip of a grey image."""
    short, long = 3, 4
    tags = [
        (256, long, width), (257, long, height), (258, short, 8), (259, short, _LZW),
        (262, short, _BLACK_IS_ZERO), (_FILL_ORDER, short, fill_order), (273, long, 0),
        (277, short, 1), (278, long, height), (279, long, len(data)),
    ]  # fmt: skip
    start = 8 + 2 + 12 * len(tags) + 4
    entries = [
        struct.pack("<HHII", code, kind, 1, start if code == 273 else value)
        for code, kind, value in tags
    ]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + b"".join(entries) + bytes(4)
    return TiffImagePlugin.TiffImageFile(io.BytesIO(head + data)).tobytes()


def _by_pillow(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> np.ndarray:
    """Decodes JPEG of 8 bits and fax data by libtiff; white where it is 0 is turned round here."""
    tif.filehandle.seek(0)
    data = bytearray(tif.filehandle.read())
    if _ORIENTATION in page.tags:  # Pillow would turn the page itself
        offset = page.tags[_ORIENTATION].valueoffset
        data[offset : offset + 2] = (1).to_bytes(2, "big" if tif.byteorder == ">" else "little")
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
    image.seek(page.index)
    check_size(*image.size, 1, page.imagewidth * page.imagelength)
    levels = decoders.levels_of(image)
    if page.photometric == _WHITE_IS_ZERO:  # which Pillow has inverted
        levels = 255 - levels
    return levels > 127 if page.bitspersample == 1 else levels


def _split(levels: np.ndarray, page: tifffile.TiffPage) -> tuple[np.ndarray, np.ndarray | None]:
    """Separates colour, as float32, from opacity, as stored."""
    alpha = levels[..., -1:] if levels.shape[-1] in (2, 4) else None
    colour = levels if alpha is None else levels[..., :-1]
    if levels.dtype.kind == "f":
        if not (levels.min() >= 0 and levels.max() <= 1):  # false for NaN as well
            raise ImageError("its floating-point values are not in [0, 1]; rescale them first")
        pixels, largest = colour.astype(np.float32), 1
        alpha = None if alpha is None else alpha.astype(np.float32)
    else:
        largest = 2**page.bitspersample - 1
        if levels.dtype != bool and levels.max() > largest:
            raise ImageError(f"its levels go beyond {page.bitspersample} bits; export it again")
        pixels = to_unit(colour, largest)
    if page.photometric == _WHITE_IS_ZERO:
        np.subtract(1, pixels, out=pixels)
    if alpha is not None and page.extrasamples[:1] == (_ASSOCIATED_ALPHA,):
        pixels = np.minimum(pixels / np.maximum(to_unit(alpha, largest), 1e-6), 1)
    if alpha is not None and levels.dtype.kind != "f" and page.bitspersample not in (8, 16):
        kind = np.uint16 if page.bitspersample > 8 else np.uint8  # in all bits of its type
        alpha = np.rint(alpha / largest * np.iinfo(kind).max).astype(kind)
    return pixels, alpha
