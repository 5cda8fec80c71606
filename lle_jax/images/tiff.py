"""TIFF: bytes <-> float32 [0, 1].

tifffile reads the structure of the file and the pixels that are stored plainly, deflated or as
PackBits. For other compressions (LZW, JPEG, ...) it wants a further package, so Pillow decodes
those of 8 bits and OpenCV those of more, which Pillow pushes through 8 bits.
"""

import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin

from lle_jax.images import raster
from lle_jax.images.errors import ImageError, quiet
from lle_jax.images.picture import (
    Picture,
    alpha_levels,
    check_frame,
    check_inflated,
    check_size,
    palette_to_unit,
    to_levels,
    to_unit,
    upright,
)

_PLAIN, _DEFLATE, _PACKBITS = 1, (8, 32946), 32773
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_REDUCED_OR_MASK = 0b101
_RESOLUTION_UNITS = {2: 1.0, 3: 2.54}
_ORIENTATION, _ICC, _ASSOCIATED_ALPHA = 274, 34675, 1
# Make, Model, Software, DateTime, Artist, Copyright: the EXIF tags that TIFF has as its own.
# ImageDescription is not among them: programs keep the layout of their file in it.
_TEXTS = (271, 272, 305, 306, 315, 33432)


def read(path: Path, frame: int | None, max_pixels: int) -> Picture:
    """Reads the full-resolution pages of a TIFF file, which must be alike."""
    _check_directories(path)
    with quiet(), tifffile.TiffFile(path) as tif:
        pages = [page for page in _pages(tif) if not page.subfiletype & _REDUCED_OR_MASK]
        check_frame(frame, len(pages))
        if not pages:
            raise ImageError("it holds no full-resolution page; export the image again")
        chosen = pages if frame is None else [pages[frame]]
        first = chosen[0]
        if len({(page.shape, page.dtype, page.photometric) for page in chosen}) > 1:
            raise ImageError(f"its {len(pages)} pages differ; read them one by one with frame=")
        check_size(first.imagewidth, first.imagelength, len(chosen), max_pixels)
        decoded = [_page(tif, page) for page in chosen]
        orientation = _value(first, _ORIENTATION, 1)
        pixels = upright(np.stack([colour for colour, _ in decoded]), orientation)
        opacities = [opacity for _, opacity in decoded if opacity is not None]
        alpha = upright(np.stack(opacities), orientation) if opacities else None
        if len(pixels) == 1:
            pixels, alpha = pixels[0], None if alpha is None else alpha[0]
        return Picture(
            pixels=pixels,
            path=path,
            format="tiff",
            bits=_bits(first),
            alpha=None if alpha is None else alpha[..., 0],
            exif=_exif(first),
            icc=_value(first, _ICC, None),
            dpi=_dpi(first, orientation),
            frame=frame,
        )


def _pages(tif: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """Returns the pages with their own tags; tifffile makes them all so until told otherwise."""
    pages = [page for page in tif.pages if isinstance(page, tifffile.TiffPage)]
    if len(pages) < len(tif.pages):
        raise ImageError("its list of pages is damaged; copy or export the file again")
    return pages


def _check_directories(path: Path) -> None:
    """Raises ImageError when the chain of image file directories turns in a circle or overlaps.

    tifffile would follow it for minutes. TIFF 6.0, section 2; BigTIFF has 64-bit numbers.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        order = "<" if file.read(2) == b"II" else ">"
        (version,) = struct.unpack(order + "H", file.read(2))
        # number of entries, offset of the next directory; bytes of an entry
        many, offset, entry = ("Q", "Q", 20) if version == 43 else ("H", "I", 12)
        file.seek(8 if version == 43 else 4)
        total = 0
        while where := struct.unpack(order + offset, file.read(struct.calcsize(offset)))[0]:
            file.seek(where)
            (entries,) = struct.unpack(order + many, file.read(struct.calcsize(many)))
            total += entries * entry + struct.calcsize(many) + struct.calcsize(offset)
            if entries == 0 or total > size:
                raise ImageError("its list of pages is damaged; copy or export the file again")
            file.seek(entries * entry, 1)


def _page(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the pixels `[H, W, C]` in [0, 1] and the opacity `[H, W, 1]` as stored, or None."""
    _check_page(tif, page)
    if page.compression in (_PLAIN, *_DEFLATE, _PACKBITS):
        levels = page.asarray()
        levels = levels[..., None] if page.axes == "YX" else levels
        levels = np.moveaxis(levels, 0, -1) if page.axes == "SYX" else levels
    else:
        levels = _decode_compressed(tif, page)
    if levels.shape[:2] != (page.imagelength, page.imagewidth) or levels.shape[-1] > 4:
        raise ImageError(f"its axes {page.axes} are not supported; export it as plain RGB or grey")
    if page.photometric == _PALETTE and levels.shape[-1] == 1:
        colours, _ = palette_to_unit(_palette(page))
        return colours.T[levels[..., 0]], None
    pixels, alpha = _split(levels, page)
    if page.photometric == _WHITE_IS_ZERO and not _by_pillow(page):
        pixels = 1 - pixels
    return pixels, alpha


def _by_pillow(page: tifffile.TiffPage) -> bool:
    plain = page.compression in (_PLAIN, *_DEFLATE, _PACKBITS)
    return not plain and page.bitspersample <= 8


def _split(levels: np.ndarray, page: tifffile.TiffPage) -> tuple[np.ndarray, np.ndarray | None]:
    """Separates colour, as float32, from opacity, as stored."""
    alpha = levels[..., -1:] if levels.shape[-1] in (2, 4) else None
    colour = levels if alpha is None else levels[..., :-1]
    if levels.dtype.kind == "f":
        if not (levels.min() >= 0 and levels.max() <= 1):  # false for NaN as well
            raise ImageError("its floating-point values are not in [0, 1]; rescale them first")
        pixels, largest = colour.astype(np.float32), 1
        alpha = None if alpha is None else alpha.astype(np.float32)
    elif levels.dtype == bool:
        pixels, largest = colour.astype(np.float32), 1
    else:
        # fewer than 8 bits come unscaled from tifffile, scaled from Pillow
        scaled = _by_pillow(page) or page.bitspersample > 8
        largest = np.iinfo(levels.dtype).max if scaled else 2**page.bitspersample - 1
        pixels = to_unit(colour, largest)
    if alpha is not None and page.extrasamples[:1] == (_ASSOCIATED_ALPHA,):
        opacity = to_unit(alpha, largest)
        pixels = np.minimum(pixels / np.maximum(opacity, 1e-6), 1)
    return pixels, alpha


def _check_page(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> None:
    """Raises ImageError for samples this module does not read, and for a file cut short."""
    if page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR):
        name = getattr(page.photometric, "name", "of this file")
        raise ImageError(f"colour space {name} is not supported; convert it to RGB or greyscale")
    dtype = page.dtype
    if dtype is None or (dtype.kind, dtype.itemsize) not in (
        ("b", 1), ("u", 1), ("u", 2), ("f", 2), ("f", 4), ("f", 8)
    ):  # fmt: skip
        raise ImageError(
            f"samples of type {dtype or 'unknown'} are not supported; save them as uint8, uint16 "
            "or as floating point in [0, 1]"
        )
    colours = 3 if page.photometric in (_RGB, _YCBCR) else 1
    if page.samplesperpixel not in (colours, colours + 1) or page.imagedepth != 1:
        raise ImageError(
            f"{page.samplesperpixel} samples a pixel are not supported; save it as RGB or "
            "greyscale, with or without alpha"
        )
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if any(start + size > tif.filehandle.size for start, size in segments):
        raise ImageError("the file is cut short; copy or export it again")
    if page.compression in _DEFLATE:
        chunk = int(np.prod(page.chunks)) * dtype.itemsize
        for start, size in segments:
            tif.filehandle.seek(start)
            check_inflated(tif.filehandle.read(size), chunk)


def _decode_compressed(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> np.ndarray:
    """Decodes a page by libtiff -> `[H, W, C]`, as stored (not turned by its orientation)."""
    tif.filehandle.seek(0)
    data = bytearray(tif.filehandle.read())
    for one in _pages(tif):
        if _ORIENTATION in one.tags:  # Pillow would turn the page itself
            offset = one.tags[_ORIENTATION].valueoffset
            data[offset : offset + 2] = (1).to_bytes(2, "big" if tif.byteorder == ">" else "little")
    if _by_pillow(page):
        image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
        image.seek(page.index)
        check_size(*image.size, 1, page.imagewidth * page.imagelength)
        return raster.decode(image)
    read, decoded = cv2.imdecodemulti(
        np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED, range=(page.index, page.index + 1)
    )
    if not read or decoded[0].dtype != page.dtype:
        name = getattr(page.compression, "name", "its")
        raise ImageError(f"cannot decode {name} data like these; save it without compression")
    levels = decoded[0].reshape(page.imagelength, page.imagewidth, -1)
    return levels[..., {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[levels.shape[-1]]]


def _bits(page: tifffile.TiffPage) -> int:
    if page.photometric == _PALETTE:
        return palette_to_unit(_palette(page))[1]
    dtype = np.dtype(page.dtype)
    if dtype.kind == "f":
        return 32
    return 16 if dtype.itemsize == 2 else 8


def _palette(page: tifffile.TiffPage) -> np.ndarray:
    if page.colormap is None:
        raise ImageError("its palette is missing; export the image again")
    return page.colormap


def _value(page: tifffile.TiffPage, code: int, default):
    tag = page.tags.get(code)
    return default if tag is None else tag.value


def _dpi(page: tifffile.TiffPage, orientation: int) -> tuple[float, float] | None:
    unit = _RESOLUTION_UNITS.get(_value(page, 296, 2))
    across, down = (_value(page, code, None) for code in (282, 283))
    if unit is None or not across or not down or not (all(across) and all(down)):
        return None
    dpi = (across[0] / across[1] * unit, down[0] / down[1] * unit)
    return dpi[::-1] if orientation >= 5 else dpi


def _exif(page: tifffile.TiffPage) -> bytes | None:
    block = Image.Exif()
    for code in _TEXTS:
        text = _value(page, code, None)
        if isinstance(text, str) and text:
            block[code] = text
    return block.tobytes() if len(block) else None


def encode(pixels: np.ndarray, like: Picture | None) -> bytes:
    """Float pixels `[H, W, C]` or `[N, H, W, C]` -> bytes of a deflated TIFF, one page a frame."""
    bits = like.bits if like else 8
    alpha = alpha_levels(like, pixels.shape, bits)
    levels = to_levels(pixels, bits)
    options: dict[str, Any] = {}
    if alpha is not None:
        levels = np.concatenate([levels, alpha[..., None]], axis=-1)
        options["extrasamples"] = ["unassalpha"]
    if like and like.icc and pixels.shape[-1] == like.pixels.shape[-1]:
        options["iccprofile"] = like.icc
    if like and like.dpi:
        options |= {"resolution": like.dpi, "resolutionunit": "inch"}
    if like and like.exif:
        block = Image.Exif()
        block.load(like.exif)
        texts = [(code, block.get(code)) for code in _TEXTS]
        options["extratags"] = [(code, 2, None, t, True) for code, t in texts if isinstance(t, str)]
    file = io.BytesIO()
    with quiet(), tifffile.TiffWriter(file, bigtiff=levels.nbytes > 2**31) as tif:
        for page in levels if levels.ndim == 4 else [levels]:
            tif.write(
                page[..., 0] if page.shape[-1] == 1 else page,
                photometric="rgb" if pixels.shape[-1] == 3 else "minisblack",
                planarconfig=None if page.shape[-1] == 1 else "contig",
                compression="zlib",
                metadata=None,
                software=False,
                **options,
            )
    return file.getvalue()
