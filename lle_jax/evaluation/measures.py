"""The metrics of an evaluation: one registry, from which every table takes its columns."""

import difflib
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
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
      spots: what `metrics.spot_change` finds.
      lines: what `metrics.line_change` finds.
      lpips_weights: of `metrics.load_lpips`; None where none were given.
    """

    output: jax.Array
    clean: jax.Array
    low: jax.Array
    again: jax.Array | None
    matched: jax.Array
    structure: metrics.StructureChange
    spots: metrics.SpotChange
    lines: metrics.LineChange
    lpips_weights: dict[str, jax.Array] | None = None


class Metric(NamedTuple):
    """A column of all tables.

    Attributes:
      title: the column's heading.
      better: +1 where more is better, -1 where less is; 0 where neither is: then no method is best,
        none are compared, and the page has the standard deviation over images.
      digits: decimals that are shown.
      function: of a `Pair`, traced by JAX; None where the value does not exist. A metric without
        a function is measured on the method and not on an output.
      greatest: what a larger value is lowered to, such as the infinite PSNR of identical images.
      standard: measured in every evaluation; the others where `lle evaluate --metrics` names them.
    """

    title: str
    better: int
    digits: int
    function: Callable[[Pair], jax.Array | None] | None
    greatest: float = math.inf
    standard: bool = True


def _invention(kind: str, unit: str, polarity: str, change: str) -> Metric:
    def value(pair: Pair) -> jax.Array:
        return getattr(getattr(pair, kind), f"{polarity}_{change}")

    return Metric(f"{polarity} {kind} {change} {unit}", -1, 0, value)


# Spots and lines that an output adds and loses. What is gained by inventing them never stands
# without their number.
INVENTION = {
    f"{polarity}_{kind}_{change}": _invention(kind, unit, polarity, change)
    for kind, unit in (("spots", "/ Mpx"), ("lines", "(px / Mpx)"))
    for polarity in ("dark", "bright")
    for change in ("added", "lost")
}

# The first is the one named before the experiment; the rest are supporting. A line added here adds
# a column to every table, the page and `lle compare`; with standard=False, where it is named.
METRICS = {
    "psnr": Metric("PSNR (dB)", 1, 2, lambda p: metrics.psnr(p.output, p.clean), IDENTICAL),
    "psnr_gt_mean": Metric(
        "PSNR, GT-mean (dB)", 1, 2, lambda p: metrics.psnr(p.matched, p.clean), IDENTICAL
    ),
    "ssim": Metric("SSIM", 1, 3, lambda p: metrics.ssim(p.output, p.clean)),
    "ssim_gt_mean": Metric("SSIM, GT-mean", 1, 3, lambda p: metrics.ssim(p.matched, p.clean)),
    "brightness_ratio": Metric(
        "brightness / truth's", 0, 3, lambda p: metrics.brightness_ratio(p.output, p.clean)
    ),
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
        0,  # an input divided by its gain is above the truth, whose noise is not the input's
        2,
        lambda p: None if p.again is None else metrics.psnr(p.again, p.low),
        IDENTICAL,
    ),
    "identity": Metric("identity (dB)", 1, 2, None, IDENTICAL),
    **INVENTION,
    "ms_ssim": Metric(
        "MS-SSIM", 1, 3, lambda p: metrics.ms_ssim(p.output, p.clean), standard=False
    ),
    "vif": Metric("VIF", 1, 3, lambda p: metrics.vif(p.output, p.clean), standard=False),
    "lightness_order_error": Metric(
        "lightness order error",
        -1,
        0,
        lambda p: metrics.lightness_order_error(p.output, p.clean),
        standard=False,
    ),
    "niqe": Metric("NIQE", -1, 2, lambda p: metrics.niqe(p.output), standard=False),
    "brisque": Metric("BRISQUE", -1, 1, lambda p: metrics.brisque(p.output), standard=False),
    "lpips": Metric(
        "LPIPS",
        -1,
        3,
        lambda p: (
            None if p.lpips_weights is None else metrics.lpips(p.output, p.clean, p.lpips_weights)
        ),
        standard=False,
    ),
}

# What stands for several names of METRICS in --metrics.
GROUPS = {"invention": tuple(INVENTION)}


class EvaluationError(ValueError):
    """An evaluation is refused; the message says why and what to do."""


def parse(text: str) -> tuple[str, ...]:
    """Reads names of METRICS from "psnr,ssim,niqe", each once, in the order given.

    A name of GROUPS stands for its metrics. The plain metric is added after its GT-mean version,
    which is never shown alone.

    Raises:
      EvaluationError: for an unknown name; it says the nearest one, or which there are.
    """
    names: list[str] = []
    for name in filter(None, map(str.strip, text.split(","))):
        if name in GROUPS:
            names += GROUPS[name]
            continue
        if name not in METRICS:
            close = difflib.get_close_matches(name, METRICS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"expected of {', '.join(METRICS)}"
            raise EvaluationError(f"--metrics: {name!r} is no metric; {hint}")
        names += [name, name.removesuffix("_gt_mean")]
    if not names:
        raise EvaluationError(f"--metrics: no name; expected of {', '.join(METRICS)}")
    return tuple(dict.fromkeys(names))


def selected(more: Iterable[str] = ()) -> tuple[str, ...]:
    """Lists what is measured: the standard metrics and `more`, in the order of METRICS."""
    wanted = set(more)
    return tuple(name for name, metric in METRICS.items() if metric.standard or name in wanted)


def measure(
    output: np.ndarray,
    case: Case,
    names: tuple[str, ...] | None = None,
    lpips_weights: dict[str, jax.Array] | None = None,
) -> dict[str, float]:
    """Computes metrics of an output, identity apart; it is clipped to [0, 1] first.

    Args:
      output: `[H, W, C]`.
      case: that it was made of.
      names: of METRICS; None for the standard ones.
      lpips_weights: of `metrics.load_lpips`, without which there is no LPIPS.
    """
    names = selected() if names is None else names
    output = _clipped(output, case.label)
    again = None if case.parameters is None else redegrade(jnp.asarray(output), case.parameters)
    try:
        values = _pairwise(output, case.clean, case.low, again, lpips_weights, names)
    except ValueError as error:  # too small for a metric
        more = [name for name in names if not METRICS[name].standard]
        other = f", or {', '.join(more)} out of --metrics" if more else ""
        raise EvaluationError(
            f"{case.label}: {error}; leave the image out of the suite{other}"
        ) from error
    return {
        name: min(float(values[name]), metric.greatest)
        for name, metric in METRICS.items()
        if name in values
    }


def _clipped(output: np.ndarray, label: str) -> np.ndarray:
    if not np.isfinite(output).all():
        raise EvaluationError(f"an output for {label} is not finite")
    return np.clip(output, 0, 1)


@functools.partial(jax.jit, static_argnames="names")
def _pairwise(
    output: jax.Array,
    clean: jax.Array,
    low: jax.Array,
    again: jax.Array | None,
    lpips_weights: dict[str, jax.Array] | None,
    names: tuple[str, ...],
) -> dict[str, jax.Array]:
    """Computes those of the metrics that have a function, as one program a shape."""
    # What none of the names needs is left out by the compiler.
    matched = metrics.gt_mean(output, clean)
    structure = metrics.structure_change(output, clean)
    spots, lines = _spot_change(output, clean), _line_change(output, clean)
    pair = Pair(output, clean, low, again, matched, structure, spots, lines, lpips_weights)
    values = {}
    for name in names:
        function = METRICS[name].function
        value = None if function is None else function(pair)
        if value is not None:
            values[name] = value
    return values


_psnr = jax.jit(metrics.psnr)
_spot_change = jax.jit(metrics.spot_change)
_line_change = jax.jit(metrics.line_change)


def left_out(images: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Says, by a metric's title, of which images it is left out; see `statistics.defined`."""
    return {
        METRICS[metric].title: f"not defined for {len(names)} images, which are left out: "
        + ", ".join([*names[:3], *["..."] * (len(names) > 3)])
        for metric, names in images.items()
    }


def measure_identity(output: np.ndarray, clean: np.ndarray) -> float:
    """Computes the PSNR of what a method makes of an image that needs nothing."""
    output = _clipped(np.asarray(output, np.float32), "a clean image")
    return min(float(_psnr(output, clean)), METRICS["identity"].greatest)


def measure_invention(output: np.ndarray, clean: np.ndarray) -> dict[str, float]:
    """Counts the dark spots and lines that an output adds, by their names in `INVENTION`."""
    output = _clipped(np.asarray(output, np.float32), "a segmented image")
    spots, lines = _spot_change(output, clean), _line_change(output, clean)
    return {
        "dark_spots_added": float(spots.dark_added),
        "dark_lines_added": float(lines.dark_added),
    }


def invention_maps(output: np.ndarray, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps of the spots and lines that an output adds and loses, bool `[H, W]` each."""
    output = np.clip(np.asarray(output, np.float32), 0, 1)
    changes = _spot_change(output, clean), _line_change(output, clean)
    added, lost = (
        np.any([np.asarray(getattr(change, name)) for change in changes], axis=0)
        for name in ("added_map", "lost_map")
    )
    return added, lost
