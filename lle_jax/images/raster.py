"""PNG, JPEG and BMP: bytes <-> float32 [0, 1].

Pillow decodes and encodes 8 bits per sample. It pushes 16-bit colour PNG through 8 bits, so
OpenCV decodes those and `lle_jax.images.png` encodes them. A file cut short is refused, except for
a JPEG to which a program has since added an end marker: it looks whole, and its end is grey.
"""

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin

from lle_jax.images import png
from lle_jax.images.errors import ImageError, quiet
from lle_jax.images.picture import (
    Picture,
    alpha_levels,
    check_frame,
    check_size,
    to_levels,
    to_unit,
    upright,
)

_ORIENTATION = 0x0112
# The classes themselves, not Image.open: only the decoder that the magic number calls for runs,
# and the size limit is ours alone.
_OPENERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "png": PngImagePlugin.PngImageFile,
    "jpeg": JpegImagePlugin.JpegImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
}
JPEG_QUALITY = 95


def read(path: Path, format: str, frame: int | None, max_pixels: int) -> Picture:
    """Reads a PNG, JPEG or BMP file; of an animated PNG its default image."""
    check_frame(frame, 1)
    data = path.read_bytes()
    head = png.check(data, max_pixels) if format == "png" else None
    with quiet():
        image = _OPENERS[format](io.BytesIO(data))
        check_size(*image.size, 1, max_pixels)
        # Pillow would decode a PNG to look for EXIF behind the pixels
        exif, orientation = _exif(head.exif if head else image.info.get("exif"))
    levels = _decode_png16(data, head) if head and head.depth == 16 else decode(image)
    levels = upright(levels, orientation)
    has_alpha = levels.shape[-1] in (2, 4)
    largest = np.iinfo(levels.dtype).max
    return Picture(
        pixels=to_unit(levels[..., :-1] if has_alpha else levels, largest),
        path=path,
        format=format,
        bits=16 if largest == 65535 else 8,
        alpha=levels[..., -1].copy() if has_alpha else None,
        exif=exif,
        icc=image.info.get("icc_profile"),
        dpi=_dpi(image, orientation),
        frame=frame,
    )


def decode(image: Image.Image) -> np.ndarray:
    """Pillow image -> uint8 `[H, W, C]` with C = 1..4 (grey, grey + alpha, RGB, RGBA)."""
    transparent = "transparency" in image.info
    mode = image.mode
    if mode in ("1", "L", "LA"):
        mode = "LA" if transparent or mode == "LA" else "L"
    elif mode in ("P", "RGB", "RGBA"):
        mode = "RGBA" if transparent or mode == "RGBA" else "RGB"
    else:
        raise ImageError(f"colour mode {mode} is not supported; convert it to RGB or greyscale")
    # Pillow leaves the transparent colour of a greyscale image out unless it goes by RGBA
    if mode == "LA" and image.mode != "LA":
        return np.asarray(image.convert("RGBA"))[..., [0, 3]]
    levels = np.asarray(image.convert(mode))
    return levels[..., None] if levels.ndim == 2 else levels


def _decode_png16(data: bytes, head: png.Header) -> np.ndarray:
    """16-bit PNG -> uint16 `[H, W, C]`."""
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


def _exif(block: bytes | None) -> tuple[bytes | None, int]:
    """Takes the orientation (1 to 8) out of an EXIF block; drops a block that is damaged."""
    if not block:
        return None, 1
    tags = Image.Exif()
    try:
        tags.load(block)
        orientation = tags.get(_ORIENTATION, 1)
        if orientation not in range(2, 9):
            return block, 1
        del tags[_ORIENTATION]
        return tags.tobytes(), orientation
    except Exception:
        return None, 1


def _dpi(image: Image.Image, orientation: int) -> tuple[float, float] | None:
    dpi = image.info.get("dpi")
    if not dpi or not all(0 < value < 1e6 for value in dpi):
        return None
    across, down = (float(value) for value in dpi)
    return (down, across) if orientation >= 5 else (across, down)


def encode(format: str, pixels: np.ndarray, like: Picture | None) -> bytes:
    """Float pixels `[H, W, C]` -> bytes of a PNG, JPEG (quality 95, 4:4:4) or BMP file."""
    if pixels.ndim != 3:
        raise ImageError(f"one {format.upper()} file holds one frame; write TIFF or DICOM")
    bits = min(like.bits, 16) if like else 8
    if bits == 16 and format != "png":
        raise ImageError(
            f"{format.upper()} holds 8 bits and the source has more; write PNG or TIFF, or write "
            "without like to accept 8 bits"
        )
    alpha = alpha_levels(like, pixels.shape, bits)
    levels = to_levels(pixels, bits)
    if alpha is not None and format == "png":
        levels = np.concatenate([levels, alpha[..., None]], axis=-1)
    elif alpha is not None and alpha.min() < np.iinfo(alpha.dtype).max:
        raise ImageError(f"{format.upper()} cannot hold the source's opacity; write PNG or TIFF")
    options = _metadata(like, pixels.shape[-1]) if like else {}
    if bits == 16:
        return png.encode16(levels, **options)
    if format == "jpeg":
        options |= {"quality": JPEG_QUALITY, "subsampling": 0}
    if format == "bmp":
        options = {"dpi": options["dpi"]} if "dpi" in options else {}
    file = io.BytesIO()
    with quiet():
        image = Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)
        image.save(file, format.upper(), **options)
    return file.getvalue()


def _metadata(like: Picture, channels: int) -> dict:
    options = {"exif": like.exif, "icc_profile": like.icc, "dpi": like.dpi}
    if channels != like.pixels.shape[-1]:
        del options["icc_profile"]  # a profile describes greyscale or colour, not both
    return {name: value for name, value in options.items() if value}
