"""Response surfaces: over exposure gain and noise, where a method helps and where it harms."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lle_jax.evaluation import statistics
from lle_jax.evaluation.evaluate import EvaluationResult
from lle_jax.pages import text


class _Cell(NamedTuple):
    where: str
    mean: float  # gain in PSNR over the input, dB
    kind: str  # helps or harms where the interval over images says so, else open


def figures(result: EvaluationResult) -> str:
    """Draws the gain in PSNR over the input on a sweep, a picture for each method and blur."""
    if result.suite.kind != "sweep":
        return "<p>Only a suite with a [sweep] has one.</p>"
    part = result.suite.settings["sweep"]
    rows = [row for row in result.rows if row.metric == "psnr"]
    conditions = [result.cases[row.image, row.realisation][1] for row in rows]
    values = {
        condition: statistics.per_unit(those)["psnr"].methods
        for condition, those in statistics.split(rows, conditions).items()
    }

    def cell(name: str, gain: float, noise: float, blur: float) -> _Cell:
        methods = values[f"{gain:g} {noise:g} {blur:g}"]
        gains = methods[name] - methods["low"]
        low, high = statistics.interval(gains)
        kind = "helps" if low > 0 else "harms" if high < 0 else "open"
        return _Cell(f"gain {gain:g}, noise {noise:g}", float(np.mean(gains)), kind)

    drawn = []
    for name in result.methods:
        for blur in part["blurs"]:
            cells = [
                [cell(name, gain, noise, blur) for gain in part["gains"]]
                for noise in part["noises"]
            ]
            drawn.append(_figure(name, blur, part["gains"], part["noises"], cells))
    return f'<div class="plots">{"".join(drawn)}</div>'


def _figure(
    name: str,
    blur: float,
    columns: Sequence[float],
    rows: Sequence[float],
    cells: Sequence[Sequence[_Cell]],
) -> str:
    largest = max(abs(cell.mean) for line in cells for cell in line) or 1
    parts = [
        f'<text x="{70 + 52 * i + 26}" y="14" text-anchor="middle">{gain:g}</text>'
        for i, gain in enumerate(columns)
    ]
    for j, line in enumerate(cells):
        parts.append(f'<text x="62" y="{20 + 30 * j + 20}" text-anchor="end">{rows[j]:g}</text>')
        for i, cell in enumerate(line):
            x, y = 70 + 52 * i, 20 + 30 * j
            parts.append(
                f'<rect class="{cell.kind}" x="{x}" y="{y}" width="51" height="29" '
                f'fill-opacity="{0.15 + 0.6 * abs(cell.mean) / largest:.2f}"/>'
                f'<text x="{x + 26}" y="{y + 19}" text-anchor="middle">{cell.mean:+.1f}</text>'
            )
    said = _said([cell for line in cells for cell in line])
    width, height = 74 + 52 * len(columns), 24 + 30 * len(rows)
    label = f"{name}, blur {blur:g} pixels: gain in PSNR over the input. {said}"
    return (
        f'<figure><svg class="surface" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{text(label)}">{"".join(parts)}</svg><figcaption><strong>{text(name)}, '
        f"blur {blur:g} pixels</strong>: dB over the input; exposure gain across, noise sigma "
        f"down. {text(said)}</figcaption></figure>"
    )


def _said(cells: Sequence[_Cell]) -> str:
    harms, unsettled = (
        "; ".join(cell.where for cell in cells if cell.kind == kind) for kind in ("harms", "open")
    )
    lines = []
    if harms:
        lines.append(f"It harms at {harms}.")
    if unsettled:
        lines.append(f"Not settled (the 95 % interval over images holds 0) at {unsettled}.")
    return " ".join(lines) or "It helps everywhere."
