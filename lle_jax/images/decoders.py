"""Decoders of single pictures: PNG, JPEG, BMP, GIF, WebP, AVIF, JPEG 2000, PNM and HEIC -> levels.

Pillow decodes 8 bits per sample. It pushes 16-bit colour through 8 bits, in silence, so OpenCV
decodes such PNG, NumPy such PPM, imagecodecs such JPEG 2000; pillow-heif decodes HEIC. The last two
are in the extra `formats`. A file cut short is refused, except for a JPEG to which a program has
since added an end marker: it looks whole, and its end is grey.
"""

import io
import logging
import re
import struct
from typing import NamedTuple

import cv2
import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    WebPImagePlugin,
)

from lle_jax.images import extra, png
from lle_jax.images.errors import ImageError, quiet
from lle_jax.images.picture import check_size, checked_dpi

_ORIENTATION = 0x0112
# The classes themselves, not Image.open: only the decoder that the magic number calls for runs,
# and the size limit is ours alone.
_OPENERS: dict[str, type[ImageFile.ImageFile]] = {
    "png": PngImagePlugin.PngImageFile,
    "jpeg": JpegImagePlugin.JpegImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
    "jpeg2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "pnm": PpmImagePlugin.PpmImageFile,
}
_XMP_ORIENTATION = re.compile(rb"""tiff:Orientation(?:\s*=\s*["']|\s*>)\s*([1-8])""")
_PNG_TEXTS = (b"eXIf", b"XML:com.adobe.xmp", b"Raw profile type")


class Decoded(NamedTuple):
    """A decoded file.

    Attributes:
      levels: uint8 or uint16 `[H, W, C]` with C = 1..4 (grey, grey + alpha, RGB, RGBA), as stored.
      largest: the level of white.
      exif: EXIF block without orientation.
      orientation: 1 to 8, by EXIF or else XMP.
      icc: ICC profile.
      dpi: horizontal and vertical, as stored.
      frames: how many the file has; the first is decoded.
    """

    levels: np.ndarray
    largest: int
    exif: bytes | None
    orientation: int
    icc: bytes | None
    dpi: tuple[float, float] | None
    frames: int


def decode(format: str, data: bytes, max_pixels: int) -> Decoded:
    """Decodes a whole file of one of the formats above.

    Raises:
      ImageError: if it is too large, cut short, or of a kind that is not read.
    """
    if format == "heic":
        return _heic(data, max_pixels)
    head = png.check(data, max_pixels) if format == "png" else None
    if format == "avif":
        _check_avif(data)
    with quiet():
        image = _opened(format, data)
        check_size(*image.size, 1, max_pixels)
        frames = getattr(image, "n_frames", 1)
    if head and head.depth == 16:
        levels, largest = _png16(data, head), 65535
    elif format == "jpeg2000":
        levels, largest = _jpeg2000(image, data)
    elif format == "pnm":
        levels, largest = _pnm(image, data)
    else:
        levels, largest = levels_of(image), 255
    if format == "gif" and (levels[..., 1:3] == levels[..., :1]).all():  # a palette of greys
        levels = levels[..., [0, 3] if levels.shape[-1] == 4 else [0]]
    # without any, Pillow would decode a PNG of 16 bits to look for EXIF behind the pixels
    described = format != "png" or any(name in data for name in _PNG_TEXTS)
    with quiet():
        exif, orientation = _exif(image) if described else (None, 1)
    return Decoded(
        levels, largest, exif, orientation, image.info.get("icc_profile"), _dpi(image), frames
    )


def _opened(format: str, data: bytes) -> ImageFile.ImageFile:
    """Reads the header; a variant that Pillow does not know is not a damaged file."""
    try:
        return _OPENERS[format](io.BytesIO(data))
    except Image.DecompressionBombError:  # a frame larger than its file says
        raise ImageError("it has more pixels than a picture may have; do not trust it") from None
    except (OSError, NotImplementedError, SyntaxError) as error:
        if not any(word in str(error).lower() for word in ("unsupported", "cannot handle")):
            raise
        kind = format.upper()
        raise ImageError(f"this variant of {kind} is not read; save it as PNG or TIFF") from None


def levels_of(image: Image.Image) -> np.ndarray:
    """Pillow image -> uint8 `[H, W, C]` with C = 1..4 (grey, grey + alpha, RGB, RGBA)."""
    transparent = "transparency" in image.info
    mode = image.mode
    if mode in ("1", "L", "LA"):
        mode = "LA" if transparent or mode == "LA" else "L"
    elif mode in ("P", "PA", "RGB", "RGBA"):
        mode = "RGBA" if transparent or mode in ("PA", "RGBA") else "RGB"
    else:
        raise ImageError(f"colour mode {mode} is not supported; convert it to RGB or greyscale")
    # Pillow leaves the transparent colour of a greyscale image out unless it goes by RGBA
    if mode == "LA" and image.mode != "LA":
        return np.asarray(image.convert("RGBA"))[..., [0, 3]]
    levels = np.asarray(image if image.mode == mode else image.convert(mode))
    return levels[..., None] if levels.ndim == 2 else levels


def _png16(data: bytes, head: png.Header) -> np.ndarray:
    """16-bit PNG -> uint16 `[H, W, C]`."""
    if b"acTL" in data:  # OpenCV would compose the frames
        data = png.without_animation(data)
    levels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if levels is None or levels.dtype != np.uint16 or levels.shape[:2] != (head.height, head.width):
        raise ImageError("its pixels cannot be decoded; copy or export the file again")
    levels = levels.reshape(head.height, head.width, -1)
    if head.transparent is not None:  # which OpenCV leaves out
        opaque = np.where(levels[..., :1] == head.transparent, 0, 65535)
        return np.concatenate([levels[..., :1], opaque.astype(np.uint16)], axis=-1)
    # OpenCV gives blue, green, red, and repeats grey when there is alpha
    order = {1: [0], 3: [2, 1, 0], 4: [0, 3] if head.colour == 4 else [2, 1, 0, 3]}
    return levels[..., order[levels.shape[-1]]]


def _jpeg2000(image: ImageFile.ImageFile, data: bytes) -> tuple[np.ndarray, int]:
    """Returns the levels and that of white (ISO/IEC 15444-1, A.5.1: the SIZ marker)."""
    at = data.find(b"\xff\x4f\xff\x51")
    components = int.from_bytes(data[at + 40 : at + 42])
    depths = set(data[at + 42 : at + 42 + 3 * components : 3])
    depth = max(depths, default=255) + 1
    if len(depths) != 1 or depth > 16:  # the highest bit says that they are signed
        raise ImageError("its samples are signed, or of unlike or more than 16 bits; save 8 or 16")
    try:
        image.load()
    except OSError:
        raise ImageError(
            "its JPEG 2000 data do not follow the standard or are cut short; save it as PNG"
        ) from None
    if depth <= 8:  # which Pillow scales to 8
        return levels_of(image), 255
    if components == 1:
        levels = np.asarray(image, np.uint16)  # which Pillow scales to 16 by a shift
        return levels[..., None] >> (16 - depth), 2**depth - 1
    if components != 3:
        raise ImageError("opacity with more than 8 bits is not read from JPEG 2000; save it as PNG")
    if not extra.has("imagecodecs"):
        raise ImageError(
            f"colour of {depth} bits in JPEG 2000 needs a further package; save it as PNG or TIFF, "
            f"or {extra.INSTALL}"
        )
    import imagecodecs

    levels = np.asarray(imagecodecs.jpeg2k_decode(data))
    if levels.shape != (image.height, image.width, 3) or levels.dtype != np.uint16:
        raise ImageError("its colours are not RGB of one size; save it as PNG or TIFF")
    return levels, 2**depth - 1


def _pnm(image: ImageFile.ImageFile, data: bytes) -> tuple[np.ndarray, int]:
    """Returns the levels and that of white; Pillow scales to 8 bits, or grey to 16."""
    if data[:2] in (b"Pf", b"PF", b"P7", b"Py", b"P0"):
        raise ImageError("of PNM, PBM, PGM and PPM are read; save it as one of them, or as PNG")
    _, _, offset, options = image.tile[0]
    largest = options[-1] if isinstance(options, tuple) else 255
    if image.mode == "I":
        return np.asarray(image).astype(np.uint16)[..., None], 65535
    if not isinstance(largest, int) or largest <= 255:
        return levels_of(image), 255
    if data[:2] != b"P6":
        raise ImageError("colour of 16 bits as text is not read; save it as binary PPM (P6)")
    levels = np.frombuffer(data, ">u2", image.width * image.height * 3, offset)
    if levels.max() > largest:
        raise ImageError("its levels go beyond the largest that its header gives; export it again")
    return levels.reshape(image.height, image.width, 3).astype(np.uint16), largest


def _check_boxes(data: bytes) -> None:
    """Raises ImageError unless the boxes of a HEIF file are whole (ISO/IEC 14496-12, 4.2).

    libheif leaves tiles that are missing black.
    """
    position = 0
    while position < len(data):
        size = int.from_bytes(data[position : position + 4])
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16])
        if size == 0:  # up to the end
            return
        position += size
        if size < 8 or position > len(data):
            raise ImageError("the file is cut short; copy or export it again")


def _check_avif(data: bytes) -> None:
    _check_boxes(data)
    if not AvifImagePlugin.SUPPORTED:
        raise ImageError("this Pillow does not read AVIF; pip install --upgrade pillow")
    at = data.find(b"pixi", 0, 4096)  # bits of each channel (ISO/IEC 23008-12, 6.5.6)
    depth = max(data[at + 9 : at + 9 + data[at + 8]], default=8) if at > 0 else 8
    if depth > 8:
        raise ImageError(f"AVIF of {depth} bits is not read; save it as PNG or TIFF")


def _heic(data: bytes, max_pixels: int) -> Decoded:
    if not extra.has("pillow_heif"):
        raise ImageError(
            f"HEIC needs a further package; save it as PNG or JPEG, or {extra.INSTALL}"
        )
    import pillow_heif

    _check_boxes(data)
    with quiet():
        file = pillow_heif.open_heif(data, convert_hdr_to_8bit=False, bgr_mode=False)
        image = file[file.primary_index]
        check_size(image.size[0], image.size[1], 1, max_pixels)
        levels, depth = np.asarray(image), image.info.get("bit_depth", 8)
    levels = levels.reshape(*levels.shape[:2], -1)
    if levels.dtype == np.uint16:
        levels = levels >> (16 - depth)
    info = Image.new("L", (1, 1))
    info.info = {"exif": image.info.get("exif")}
    exif, _ = _exif(info)  # turned already: the file's own rotation counts, not that of EXIF
    return Decoded(levels, 2**depth - 1, exif, 1, image.info.get("icc_profile"), None, len(file))


def xmp_orientation(packet: bytes) -> int:
    """Orientation (1 to 8) in an XMP packet, 1 where there is none."""
    match = _XMP_ORIENTATION.search(packet)
    return int(match[1]) if match else 1


def _exif(image: Image.Image) -> tuple[bytes | None, int]:
    """Takes the orientation (1 to 8, of EXIF or else XMP) out; drops a block that is damaged."""
    block = image.info.get("exif")
    try:
        tags = image.getexif()
        orientation = tags.pop(_ORIENTATION, 1)
        if block:
            block = _of_upright(block)
        elif len(tags):
            block = tags.tobytes()
        return block, orientation if orientation in range(2, 9) else 1
    except Exception:
        return None, 1


def _of_upright(block: bytes) -> bytes:
    """Returns an EXIF block (EXIF 2.32, 4.5.2) with orientation 1 and without its thumbnail.

    All else stays where it is: Pillow would write texts in ASCII, and move what cameras address.
    """
    changed, start = bytearray(block), 6 if block.startswith(b"Exif\0\0") else 0
    order = "<" if block[start : start + 2] == b"II" else ">"
    first = start + struct.unpack_from(order + "I", block, start + 4)[0]
    end = first + 2 + 12 * struct.unpack_from(order + "H", block, first)[0]
    for at in range(first + 2, min(end, len(block) - 11), 12):
        if struct.unpack_from(order + "H", block, at)[0] == _ORIENTATION:
            struct.pack_into(order + "HHIHH", changed, at, _ORIENTATION, 3, 1, 1, 0)
    changed[end : end + 4] = bytes(len(changed[end : end + 4]))  # address of the thumbnail's tags
    return bytes(changed)


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    dpi = image.info.get("dpi")
    return checked_dpi(*dpi) if dpi else None


def tell_frames(name: str, frames: int) -> None:
    """Says on the log that of several frames the first is read."""
    if frames > 1:
        logging.getLogger("lle_jax.images").warning(
            "%s: the first of %d frames is read", name, frames
        )
