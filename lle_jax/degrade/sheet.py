"""The contact sheet: one image under each artifact of a preset, at rising severity."""

import dataclasses
import io
from pathlib import Path

import cv2
import jax
import matplotlib.figure
import numpy as np

from lle_jax import images
from lle_jax.degrade import chain
from lle_jax.degrade.files import Settings, key
from lle_jax.degrade.presets import Preset, StageDistribution
from lle_jax.files import write_bytes
from lle_jax.images.files import refuse_input

SEVERITIES = (0.0, 0.25, 0.5, 0.75, 1.0)


def write(source: Path, target: Path, settings: Settings, side: int = 160) -> None:
    """Draws the sheet of the image `source` as the PNG `target`.

    Each row adds one artifact alone, as if it always occurred; the last row is the whole chain.
    Columns are severities, with the same random draw in all.

    Args:
      source: any image; of several frames the first.
      target: path of the PNG, replaced if it exists.
      settings: preset and seed; the severity is multiplied by that of the column.
      side: the image is scaled down so that its longer side has this many pixels.

    Raises:
      ImageError: if the image cannot be read or `target` is not a .png file or is the source.
    """
    if target.suffix.lower() != ".png":
        raise images.ImageError(f"{target}: the contact sheet is a PNG; end its name in .png")
    refuse_input(target, source)
    image = _thumbnail(images.read(source).pixels, side)
    rows = _rows(image, settings, images.sha256(source))
    picture = io.BytesIO()
    _figure(rows).savefig(picture, format="png")
    write_bytes(target, picture.getvalue())


def _thumbnail(pixels: np.ndarray, side: int) -> np.ndarray:
    frame = pixels if pixels.ndim == 3 else pixels[0]
    scale = min(1.0, side / max(frame.shape[:2]))
    size = [max(1, round(scale * edge)) for edge in frame.shape[1::-1]]
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], -1)


def _rows(image: np.ndarray, settings: Settings, content: str) -> list[tuple[str, np.ndarray]]:
    """`[(name, [severity, H, W, C])]`, one for each stage of the preset and one for all."""
    always = tuple(dataclasses.replace(stage, probability=1.0) for stage in settings.preset.stages)
    rows: list[tuple[str, tuple[StageDistribution, ...]]] = [
        (stage.name, (stage,)) for stage in always
    ]
    if len(always) > 1:
        rows.append((settings.preset.name, always))
    severity = settings.severity * np.asarray(SEVERITIES, np.float32)
    # one key for all columns: it is the severity that differs, not the draw
    draw, noise = jax.random.split(key(settings.seed, content))
    degraded = []
    for name, stages in rows:
        preset = Preset(settings.preset.name, "", stages)
        draw_all = jax.vmap(lambda s, preset=preset: chain.sample(draw, preset, (), s))
        apply_all = jax.vmap(lambda p: chain.apply(noise, p, jax.numpy.asarray(image)))
        degraded.append((name, np.asarray(jax.jit(apply_all)(draw_all(severity)))))
    return degraded


def _figure(rows: list[tuple[str, np.ndarray]]) -> matplotlib.figure.Figure:
    height, width = rows[0][1].shape[1:3]
    gap, margin, dpi = 4, 22, 100
    across = len(SEVERITIES) * (width + gap) + gap + margin
    down = len(rows) * (height + gap) + gap + margin
    figure = matplotlib.figure.Figure((across / dpi, down / dpi), dpi=dpi, facecolor="white")
    for column, severity in enumerate(SEVERITIES):
        x = margin + column * (width + gap) + width / 2
        figure.text(x / across, 1 - 0.5 * margin / down, f"severity {severity:g}",
                    ha="center", va="center", fontsize=8)  # fmt: skip
    for row, (name, batch) in enumerate(rows):
        bottom = down - margin - row * (height + gap) - height
        label = name.replace("_", " ")
        size = min(8.0, 130 * height / 192 / max(len(label), 1) * 1.6)
        figure.text(0.5 * margin / across, (bottom + height / 2) / down, label,
                    ha="center", va="center", rotation=90, fontsize=size)  # fmt: skip
        for column, image in enumerate(batch):
            left = margin + column * (width + gap)
            levels = np.broadcast_to(np.rint(255 * image).astype(np.uint8), (*image.shape[:2], 3))
            # whole pixels, not resampled: blocks and impulses are what the sheet is to show
            figure.figimage(levels, left, bottom, origin="upper")
    return figure
