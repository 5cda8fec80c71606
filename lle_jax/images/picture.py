"""What an image file holds: its pixels, and what is needed to write a processed copy."""

import dataclasses
import functools
import lzma
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lle_jax import checks
from lle_jax.images.errors import ImageError

# 16384 x 8192; a colour picture of this size takes 1.6 GB as float32.
MAX_PIXELS = 2**27
_DPI = 0.01, 65_535.0
_PART = 2**20
_LZMA_MEMORY = 2**28  # bytes; the largest of its usual settings takes a quarter
_BOMB = "its compressed data are larger than its header says; do not trust the file"


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """Pixels in [0, 1] and everything else of the file they came from.

    Attributes:
      pixels: float32 `[H, W, C]`, or `[N, H, W, C]` for several frames; C is 1 or 3; display
        referred, upright, 0 is black.
      path: the absolute path of the file.
      format: "png", "jpeg", "bmp", "tiff", "dicom", or one that is not written: "gif", "webp",
        "jpeg2000", "pnm", "avif", "heic".
      bits: bits per sample to write back: 8, 16, or 32 for a floating-point TIFF.
      alpha: opacity `[H, W]` or `[N, H, W]` in the file's own numbers, None where there is none.
      exif: EXIF block without orientation (which is already applied to the pixels).
      icc: ICC profile. The pixels are as stored, not converted by it.
      dpi: horizontal and vertical pixels per inch.
      frame: the frame that was asked for, None when all were read.
      frame_rate: frames per second, None where the file states none.
      dataset: the DICOM data set without its pixel data. It names the patient, so it is left out
        of the printed form.
    """

    pixels: np.ndarray = dataclasses.field(repr=False)
    path: Path
    format: str
    bits: int
    alpha: np.ndarray | None = dataclasses.field(default=None, repr=False)
    exif: bytes | None = dataclasses.field(default=None, repr=False)
    icc: bytes | None = dataclasses.field(default=None, repr=False)
    dpi: tuple[float, float] | None = None
    frame: int | None = None
    frame_rate: float | None = None
    dataset: Any = dataclasses.field(default=None, repr=False)


def checked_dpi(across: float, down: float) -> tuple[float, float] | None:
    """Pixels per inch as numbers, None for what no image has and JPEG and TIFF cannot hold."""
    if not (_DPI[0] <= across <= _DPI[1] and _DPI[0] <= down <= _DPI[1]):
        return None
    return float(across), float(down)


def check_size(width: int, height: int, frames: int, max_pixels: int) -> None:
    """Raises ImageError for an empty image or one of more than `max_pixels` pixels."""
    if width < 1 or height < 1 or frames < 1:
        raise ImageError("the header gives an empty image; export the file again")
    if width * height * frames > max_pixels:
        raise ImageError(
            f"{width} x {height} x {frames} pixels are more than the limit of {max_pixels}; "
            "scale it down, or cut it into parts"
        )


def check_frame(frame: int | None, count: int) -> None:
    """Raises ImageError unless `frame` is None or one of `count` frames."""
    if frame is not None and not 0 <= frame < count:
        raise ImageError(f"frame {frame} does not exist; the file has frames 0 to {count - 1}")


def check_inflated(data: bytes, expected: int, wbits: int = zlib.MAX_WBITS) -> int:
    """Counts the bytes in deflated `data`; raises ImageError past `expected` (a bomb)."""
    stream, total = zlib.decompressobj(wbits), 0
    while data and not stream.eof:
        total += len(stream.decompress(data, 1 << 20))
        data = stream.unconsumed_tail
        if total > expected:
            raise ImageError(_BOMB)
    return total


def check_lzma(data: bytes, expected: int) -> None:
    """Raises ImageError if LZMA `data`, all streams in it, hold more than `expected` bytes."""
    left = expected
    while data:
        stream = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)
        left -= len(stream.decompress(data, left + 1))
        if left < 0:
            raise ImageError(_BOMB)
        data = stream.unused_data  # nothing of a stream that is cut short


def to_unit(levels: np.ndarray, largest: int) -> np.ndarray:
    """Integers 0..`largest` `[..., H, W]` or `[..., H, W, C]` -> float32 in [0, 1]."""
    unit = np.empty(levels.shape, np.float32)
    rows = max(1, _PART // 4 * len(levels) // max(1, levels.size))
    for first in range(0, len(levels), rows):  # by parts that stay in the cache
        part = unit[first : first + rows]
        part[...] = levels[first : first + rows]
        part /= np.float32(largest)
    return unit


def palette_to_unit(colours: np.ndarray) -> tuple[np.ndarray, int]:
    """16-bit colours from a palette -> float32 in [0, 1], and the bits that they really have.

    Palettes of 8 bits are stored as v * 257 by some programs and as v * 256 by others.
    """
    if not (colours % 257).any() or not (colours % 256).any():
        return to_unit(colours >> 8, 255), 8
    return to_unit(colours, 65535), 16


def to_levels(pixels: np.ndarray, bits: int) -> np.ndarray:
    """[0, 1] -> uint8 or uint16 (or float32 for 32 bits); clipped, rounded half to even."""
    if bits == 32:
        return np.clip(pixels, 0, 1)
    levels = np.empty(pixels.shape, np.uint8 if bits == 8 else np.uint16)
    # by parts, since each of the three steps would otherwise make a copy of a large image
    flat, out = pixels.reshape(-1), levels.reshape(-1)
    for first in range(0, flat.size, _PART):
        part = np.clip(flat[first : first + _PART], 0, 1)
        out[first : first + _PART] = np.rint(part * np.float32(2**bits - 1))
    return levels


def checked_pixels(pixels) -> np.ndarray:
    """Returns `pixels` as finite float32 `[H, W, C]` or `[N, H, W, C]`, or raises ImageError."""
    array = np.asarray(pixels)
    try:
        # shapes only, so that nothing is copied to an accelerator
        jax.eval_shape(functools.partial(checks.image, name="pixels"), array)
    except ValueError as error:
        raise ImageError(str(error)) from None
    if array.ndim > 4:
        raise ImageError(f"pixels have shape {array.shape}; expected [H, W, C] or [N, H, W, C]")
    array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise ImageError("pixels hold NaN or infinity; nothing was written")
    return array


def alpha_levels(like: Picture | None, shape: tuple[int, ...], bits: int) -> np.ndarray | None:
    """The opacity to write beside pixels of `shape` in `bits` bits, None when there is none."""
    if like is None or like.alpha is None:
        return None
    alpha = like.alpha
    if alpha.shape != shape[:-1]:
        raise ImageError(
            f"pixels of shape {shape} do not fit the opacity of their source, {alpha.shape}; "
            "keep height and width, or write without like"
        )
    if alpha.dtype == to_levels(np.zeros(1, np.float32), bits).dtype:
        return alpha
    largest = 1 if alpha.dtype.kind == "f" else np.iinfo(alpha.dtype).max
    return to_levels(to_unit(alpha, largest), bits)


def upright(levels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns `[..., H, W, C]` to stand as EXIF orientation 1 to 8 says (EXIF 2.32, 4.6.4 A)."""
    if orientation >= 5:
        levels = levels.swapaxes(-3, -2)
    if orientation in (2, 3, 6, 7):
        levels = levels[..., ::-1, :]
    if orientation in (3, 4, 7, 8):
        levels = levels[..., ::-1, :, :]
    return np.ascontiguousarray(levels)
