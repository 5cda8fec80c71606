"""The metrics of an evaluation: one registry, from which every table takes its columns."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lle_jax import metrics
from lle_jax.evaluation.consistency import redegrade
from lle_jax.evaluation.suite import Case

IDENTICAL = 100.0  # dB, which stands for the infinite PSNR of identical images


class Pair(NamedTuple):
    """Inputs of a metric: an output, its truth, and how the input was made.

    Attributes:
      output: `[H, W, C]` in [0, 1].
      clean: the truth, same shape.
      low: the input, same shape.
      again: the output degraded as the input was, without noise; None where nobody knows how.
      matched: the output brought to the mean of the truth.
      structure: what `metrics.structure_change` finds in the output.
    """

    output: jax.Array
    clean: jax.Array
    low: jax.Array
    again: jax.Array | None
    matched: jax.Array
    structure: metrics.StructureChange


class Metric(NamedTuple):
    """A column of all tables.

    Attributes:
      title: the column's heading.
      better: +1 where more is better, -1 where less is.
      digits: decimals that are shown.
      function: of a `Pair`, traced by JAX; None where the value does not exist. A metric without
        a function is measured on the method and not on an output.
      greatest: what a larger value is lowered to, such as the infinite PSNR of identical images.
    """

    title: str
    better: int
    digits: int
    function: Callable[[Pair], jax.Array | None] | None
    greatest: float = math.inf


# The first is the one named before the experiment; the rest are supporting. A line added here adds
# a column to every table, the page and `lle compare`.
METRICS = {
    "psnr": Metric("PSNR (dB)", 1, 2, lambda p: metrics.psnr(p.output, p.clean), IDENTICAL),
    "psnr_gt_mean": Metric(
        "PSNR, GT-mean (dB)", 1, 2, lambda p: metrics.psnr(p.matched, p.clean), IDENTICAL
    ),
    "ssim": Metric("SSIM", 1, 3, lambda p: metrics.ssim(p.output, p.clean)),
    "ssim_gt_mean": Metric("SSIM, GT-mean", 1, 3, lambda p: metrics.ssim(p.matched, p.clean)),
    "ciede2000": Metric("CIEDE2000", -1, 2, lambda p: metrics.ciede2000(p.output, p.clean)),
    "gmsd": Metric("GMSD", -1, 3, lambda p: metrics.gmsd(p.output, p.clean)),
    "structure_added": Metric("structure added", -1, 3, lambda p: p.structure.added),
    "structure_lost": Metric("structure lost", -1, 3, lambda p: p.structure.lost),
    "hallucination_rate": Metric(
        "hallucination rate", -1, 3, lambda p: metrics.hallucination_rate(p.output, p.clean)
    ),
    "colour_shift": Metric(
        "background shift (CIEDE2000)",
        -1,
        2,
        lambda p: metrics.background_colour_shift(p.output, p.clean),
    ),
    "consistency": Metric(
        "re-degradation (dB)",
        1,
        2,
        lambda p: None if p.again is None else metrics.psnr(p.again, p.low),
        IDENTICAL,
    ),
    "identity": Metric("identity (dB)", 1, 2, None, IDENTICAL),
}


class EvaluationError(ValueError):
    """An evaluation is refused; the message says why and what to do."""


def measure(output: np.ndarray, case: Case) -> dict[str, float]:
    """Computes all metrics of an output but identity; it is clipped to [0, 1] first."""
    output = np.clip(output, 0, 1)
    if not np.isfinite(output).all():
        raise EvaluationError(f"an output for {case.label} is not finite")
    again = None if case.parameters is None else redegrade(jnp.asarray(output), case.parameters)
    values = _pairwise(output, case.clean, case.low, again)
    return {
        name: min(float(values[name]), metric.greatest)
        for name, metric in METRICS.items()
        if name in values
    }


@jax.jit
def _pairwise(
    output: jax.Array,
    clean: jax.Array,
    low: jax.Array,
    again: jax.Array | None,
) -> dict[str, jax.Array]:
    """Computes all metrics that have a function, as one program a shape."""
    matched = metrics.gt_mean(output, clean)
    structure = metrics.structure_change(output, clean)
    pair = Pair(output, clean, low, again, matched, structure)
    values = {}
    for name, metric in METRICS.items():
        value = None if metric.function is None else metric.function(pair)
        if value is not None:
            values[name] = value
    return values


_psnr = jax.jit(metrics.psnr)


def measure_identity(output: np.ndarray, clean: np.ndarray) -> float:
    """Computes the PSNR of what a method makes of an image that needs nothing."""
    output = np.clip(np.asarray(output, np.float32), 0, 1)
    return min(float(_psnr(output, clean)), METRICS["identity"].greatest)
