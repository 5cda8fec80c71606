"""A picture per test image: what went in, what each method made of it, the truth."""

from pathlib import Path

import matplotlib.figure
import numpy as np

from lle_jax import files, metrics


def save(path: Path, outputs: dict[str, np.ndarray], clean: np.ndarray) -> None:
    """Writes a PNG with the outputs and the clean image, each with its PSNR and SSIM.

    Args:
      path: the file to write.
      outputs: method -> image `[H, W, C]`.
      clean: the truth, `[H, W, C]`.
    """
    tiles = [*outputs.items(), ("clean", clean)]
    columns = -(-len(tiles) // 2)
    height, width = clean.shape[:2]
    size = (2.6 * columns, 2 * (2.6 * height / width + 0.35))
    figure = matplotlib.figure.Figure(figsize=size, dpi=100, layout="constrained")
    axes = figure.subplots(2, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (name, image) in zip(axes, tiles, strict=False):
        image = np.clip(image, 0, 1)
        title = name
        if image is not clean and name != "clean":
            psnr, ssim = float(metrics.psnr(image, clean)), float(metrics.ssim(image, clean))
            title += f"  {psnr:.1f} dB, {ssim:.2f}"
        axis.set_title(title, fontsize=9)
        axis.imshow(np.broadcast_to(image, (height, width, 3)), interpolation="nearest")
    files.write_figure(path, figure)
