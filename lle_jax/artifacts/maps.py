"""Draws artifact maps of an image of any size, on the host.

OpenCV and not jax draws them, as jax would compile anew for every size of image.
"""

from collections.abc import Callable

import cv2
import numpy as np

from lle_jax import colour

_BLOCK = 8
_STRIP = 32 * _BLOCK  # rows


def maps(image: np.ndarray) -> dict[str, np.ndarray]:
    """Computes artifact maps of one image by title, `[h, w]` float32, per pixel or per block.

    - Laplacian: absolute response of luma to the study's kernel, [1 4 1; 4 -20 4; 1 4 1] / 6;
    - block variance: sample variance of luma in each whole 8 x 8 block, the study's JPEG measure;
    - noise: root mean square, in each whole 8 x 8 block of luma, of the kernel of Immerkaer,
      CVIU 64(2), 1996, divided by 6, which for white noise is its sigma; edges show, too;
    - illumination: linear luminance after a Gaussian blur of an eighth of the shorter side.

    Args:
      image: `[H, W, C]` in [0, 1], C = 1 or 3.
    """
    luma = _weighted(image, colour.BT601)
    laplacian = np.array([[1, 4, 1], [4, -20, 4], [1, 4, 1]], np.float32) / 6
    noise = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
    block_variance = _by_block(luma, lambda blocks: blocks.var(axis=-1, ddof=1))
    energy = _by_block(luma, lambda blocks: np.mean(blocks**2, axis=-1), noise)
    _replace_by_response(luma, laplacian)
    return {
        "Laplacian": luma,
        "block variance": block_variance,
        "noise": np.sqrt(energy),
        "illumination": _illumination(image),
    }


def _weighted(image: np.ndarray, weights: tuple[float, float, float]) -> np.ndarray:
    if image.shape[-1] == 1:
        return np.array(image[..., 0], np.float32)
    return image.astype(np.float32, copy=False) @ np.asarray(weights, np.float32)


def _by_block(
    plane: np.ndarray,
    function: Callable[[np.ndarray], np.ndarray],
    kernel: np.ndarray | None = None,
) -> np.ndarray:
    """`function` of the `_blocks` of a plane, filtered by a 3 x 3 `kernel` where one is given.

    Strip by strip, as a copy of a large image takes much memory.
    """
    parts = []
    for top in range(0, max(_BLOCK, len(plane) // _BLOCK * _BLOCK), _STRIP):
        above = int(top > 0)  # a row that the filter needs, as the one below
        strip = plane[top - above : top + _STRIP + 1]
        if kernel is not None:
            strip = cv2.filter2D(strip, cv2.CV_32F, kernel, borderType=cv2.BORDER_REPLICATE)
        parts.append(function(_blocks(strip[above : above + _STRIP])))
    return np.concatenate(parts)


def _replace_by_response(plane: np.ndarray, kernel: np.ndarray) -> None:
    """Overwrites a plane with the magnitude of a 3 x 3 filter's response, strip by strip."""
    above = plane[:0]
    for top in range(0, len(plane), _STRIP):
        strip = np.concatenate([above, plane[top : top + _STRIP + 1]])
        filtered = cv2.filter2D(strip, cv2.CV_32F, kernel, borderType=cv2.BORDER_REPLICATE)
        rows = plane[top : top + _STRIP]
        first, above = len(above), rows[-1:].copy()
        np.abs(filtered[first : first + len(rows)], out=rows)


def _blocks(plane: np.ndarray) -> np.ndarray:
    """`[H, W]` -> `[rows, columns, 64]`; a smaller side is extended to one block first."""
    missing = [(0, max(0, _BLOCK - side)) for side in plane.shape]
    plane = np.pad(plane, missing, mode="symmetric")
    rows, columns = (side // _BLOCK for side in plane.shape)
    plane = plane[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
    return plane.swapaxes(1, 2).reshape(rows, columns, -1)


def _illumination(image: np.ndarray) -> np.ndarray:
    small = reduced(image, 128)
    linear = np.where(small <= 0.04045, small / 12.92, ((small + 0.055) / 1.055) ** 2.4)
    luminance = _weighted(linear, colour.BT709)
    sigma = max(min(luminance.shape) / 8, 0.5)
    return cv2.GaussianBlur(luminance, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def reduced(image: np.ndarray, side: int) -> np.ndarray:
    """Averages `[H, W, C]` down until its longer side is at most `side` pixels."""
    scale = min(1.0, side / max(image.shape[:2]))
    size = [max(1, round(scale * edge)) for edge in image.shape[1::-1]]
    smaller = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return smaller.reshape(size[1], size[0], -1)
