"""Training curves as inline SVG, for the page."""

import csv
import math
from pathlib import Path

from lle_jax.pages import text

# Columns of scalars.csv, and the titles of their curves.
TITLES = {
    "loss": "loss",
    "validation_psnr": "validation PSNR (dB)",
    "validation_ssim": "validation SSIM",
    "learning_rate": "learning rate",
    "images_per_second": "images per second",
}
WIDTH, HEIGHT, MARGIN = 390, 160, 6


def figures(path: Path) -> str:
    """Draws a figure for each column of `TITLES` that has values; cells may be empty.

    Args:
      path: a scalars.csv, with a column `step`.

    Raises:
      ValueError: if it has no step or a cell is no number.
      OSError: if it cannot be read.
    """
    points: dict[str, list[tuple[float, float]]] = {column: [] for column in TITLES}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for column, coordinates in points.items():
                if row.get(column):
                    coordinates.append((_number(path, row, "step"), _number(path, row, column)))
    plots = [_figure(TITLES[column], coordinates) for column, coordinates in points.items()]
    return "".join(plots)


def _number(path: Path, row: dict[str, str], column: str) -> float:
    try:
        return float(row[column])
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path}: {column} is {row.get(column)!r}; expected a number") from None


def _figure(title: str, points: list[tuple[float, float]]) -> str:
    points = [point for point in points if all(map(math.isfinite, point))]
    if not points:
        return ""
    steps, values = zip(*points, strict=True)
    first, last, low, high = min(steps), max(steps), min(values), max(values)
    across = (WIDTH - 2 * MARGIN) / (last - first or 1)
    down = (HEIGHT - 2 * MARGIN) / (high - low or 1)
    placed = [
        (MARGIN + (step - first) * across, HEIGHT - MARGIN - (value - low) * down)
        for step, value in points
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    x, y = placed[-1]
    said = f"{title}: {values[0]:.4g} at step {steps[0]:g}, {values[-1]:.4g} at step {steps[-1]:g}"
    return (
        f'<figure><svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{text(said)}"><polyline points="{line}"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/></svg>'
        f"<figcaption><strong>{text(title)}</strong>, steps {first:g} to {last:g}: "
        f"from {low:.4g} to {high:.4g}, last {values[-1]:.4g}</figcaption></figure>"
    )
