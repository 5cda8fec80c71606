"""Single pictures: bytes <-> float32 [0, 1]; `lle_jax.images.decoders` decodes.

PNG, JPEG and BMP are written; Pillow encodes 8 bits, `lle_jax.images.png` PNG of 16.
"""

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from lle_jax.images import decoders, png
from lle_jax.images.errors import ImageError, quiet, shown
from lle_jax.images.picture import (
    Picture,
    alpha_levels,
    check_frame,
    to_levels,
    to_unit,
    upright,
)

JPEG_QUALITY = 95


def read(path: Path, format: str, frame: int | None, max_pixels: int) -> Picture:
    """Reads a file of one of the formats of `decoders`; of several frames the first."""
    check_frame(frame, 1)
    decoded = decoders.decode(format, path.read_bytes(), max_pixels)
    decoders.tell_frames(shown(path), decoded.frames)
    levels = upright(decoded.levels, decoded.orientation)
    has_alpha = levels.shape[-1] in (2, 4)
    dpi = decoded.dpi
    return Picture(
        pixels=to_unit(levels[..., :-1] if has_alpha else levels, decoded.largest),
        path=path,
        format=format,
        bits=16 if decoded.largest > 255 else 8,
        alpha=_full(levels[..., -1], decoded.largest) if has_alpha else None,
        exif=decoded.exif,
        icc=decoded.icc,
        dpi=dpi[::-1] if dpi and decoded.orientation >= 5 else dpi,
        frame=frame,
    )


def _full(alpha: np.ndarray, largest: int) -> np.ndarray:
    """Opacity in all bits of its type."""
    full = np.iinfo(alpha.dtype).max
    return alpha.copy() if largest == full else to_levels(to_unit(alpha, largest), 16)


def encode(format: str, pixels: np.ndarray, like: Picture | None) -> bytes:
    """Float pixels `[H, W, C]` -> bytes of a PNG, JPEG (quality 95, 4:4:4) or BMP file."""
    if pixels.ndim != 3:
        raise ImageError(f"one {format.upper()} file holds one frame; write TIFF or DICOM")
    bits = min(like.bits, 16) if like else 8
    if bits == 16 and format != "png":
        raise ImageError(
            f"{format.upper()} holds 8 bits and the source has more; write PNG or TIFF (in Python, "
            "without like= it is reduced to 8)"
        )
    alpha = alpha_levels(like, pixels.shape, bits)
    levels = to_levels(pixels, bits)
    if alpha is not None and format == "png":
        levels = np.concatenate([levels, alpha[..., None]], axis=-1)
    elif alpha is not None and format == "bmp" and levels.shape[-1] == 3:
        return _bmp32(np.concatenate([levels[..., ::-1], alpha[..., None]], axis=-1))
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


def _bmp32(levels: np.ndarray) -> bytes:
    """Encodes blue, green, red and opacity `[H, W, 4]` as BMP with a BITMAPV4HEADER.

    Pillow writes opacity without the masks that say it is one.
    """
    height, width = levels.shape[:2]
    start, bit_fields = 14 + 108, 3
    masks = (0x00FF0000, 0x0000FF00, 0x000000FF, 0xFF000000)
    head = struct.pack("<2sIHHI", b"BM", start + levels.size, 0, 0, start)
    head += struct.pack(
        "<IiiHHIIiiII", 108, width, height, 1, 32, bit_fields, levels.size, 0, 0, 0, 0
    )
    head += struct.pack("<4I4s", *masks, b"BGRs") + bytes(48)
    return head + levels[::-1].tobytes()


def _metadata(like: Picture, channels: int) -> dict:
    options = {"exif": like.exif, "icc_profile": like.icc, "dpi": like.dpi}
    if channels != like.pixels.shape[-1]:
        del options["icc_profile"]  # a profile describes greyscale or colour, not both
    return {name: value for name, value in options.items() if value}
