"""Draws a picture of a test image: its low-light input, every method's output, the truth."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from lle_jax import files


def save(
    path: Path,
    outputs: Mapping[str, np.ndarray],
    fidelity: Mapping[str, tuple[float, float]],
    clean: np.ndarray,
) -> None:
    """Writes a PNG with the outputs and the clean image, each with its PSNR and SSIM.

    Args:
      path: the file to write.
      outputs: method -> image `[H, W, C]`.
      fidelity: method -> PSNR in dB, and SSIM.
      clean: the truth, `[H, W, C]`.
    """
    tiles = [
        (f"{name}  {fidelity[name][0]:.1f} dB, {fidelity[name][1]:.2f}", image)
        for name, image in outputs.items()
    ]
    tiles.append(("clean", clean))
    columns = -(-len(tiles) // 2)
    height, width = clean.shape[:2]
    size = (2.6 * columns, 2 * (2.6 * height / width + 0.35))
    import matplotlib.figure  # a third of a second, which a run pays when it draws

    figure = matplotlib.figure.Figure(figsize=size, dpi=100, layout="constrained")
    axes = figure.subplots(2, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (title, image) in zip(axes, tiles, strict=False):
        axis.set_title(title, fontsize=9)
        shown = np.broadcast_to(np.clip(image, 0, 1), (height, width, 3))
        axis.imshow(shown, interpolation="nearest")
    files.write_figure(path, figure)


def mark(output: np.ndarray, added: np.ndarray, lost: np.ndarray, *, side: int) -> np.ndarray:
    """Draws maps of what an output adds (red) and loses (blue) on its grey version.

    Args:
      output: `[H, W, C]`.
      added, lost: bool `[H, W]`.
      side: to which the picture will be reduced; marks are thick enough to be seen then.
    """
    grey = np.clip(np.asarray(output).mean(axis=-1, keepdims=True), 0, 1)
    picture = np.repeat(grey, 3, axis=-1)
    brush = np.ones((1 + 2 * max(1, max(added.shape) // side),) * 2, np.uint8)
    for where, colour in ((added, (1, 0.1, 0.1)), (lost, (0.1, 0.4, 1))):
        picture[cv2.dilate(where.astype(np.uint8), brush) > 0] = colour
    return picture
