"""Statistics of per-image values: intervals, paired tests, effect sizes, subgroups.

The patient is the unit where patients are known, else the image. Degraded versions of one image
are not independent, nor are images of one patient; so versions are averaged by image, images by
patient, and every mean, deviation, interval and test is over patients. Taken as units of their own,
they would make intervals too narrow and p-values too small.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy

LEVEL = 0.95
RESAMPLES = 9999
UNITS = "patients or groups"  # in words, where units are not images
# Below this many units no two-sided signed-rank test can reach p < 0.05: 2 / 2^5 = 0.0625.
MIN_UNITS = 6


class Row(NamedTuple):
    """One measured value.

    Attributes:
      image, method, metric, value: what was measured of what.
      realisation: tells the degraded versions of one image apart.
      unit: the patient, or other group, that the image is of; "" for a unit of its own.
    """

    image: str
    method: str
    metric: str
    value: float
    realisation: str = ""
    unit: str = ""


class Summary(NamedTuple):
    """One method and metric over units; `low` and `high` bound the mean (95 % BCa bootstrap)."""

    method: str
    metric: str
    mean: float
    std: float
    median: float
    low: float
    high: float
    images: int
    units: int


class Comparison(NamedTuple):
    """`method` against `other`, paired by unit; differences are `method` - `other`.

    Attributes:
      method: the method in question.
      other: what it is compared with.
      metric: of the values.
      difference: mean over units.
      low: end of the 95 % BCa bootstrap interval of the mean difference.
      high: its other end.
      p: two-sided Wilcoxon signed-rank test.
      p_holm: the same, corrected for all others that the method is compared with on this metric.
      effect: matched-pairs rank-biserial correlation in [-1, 1], above 0 where `method` is larger.
      images: their number.
      units: number of pairs: of patients or other groups, and of images that are of none.
      note: what a reader must know, or "".
    """

    method: str
    other: str
    metric: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    effect: float
    images: int
    units: int
    note: str


def summarise(rows: Iterable[Row], *, seed: int = 0) -> list[Summary]:
    """Computes mean, sample standard deviation, median and interval by method and metric.

    Args:
      rows: `Row`s, or tuples in its order; one per image, method, metric and realisation.
      seed: of the bootstrap. Every entry resamples alike, so none depends on which others exist.

    Returns:
      in the order of first appearance. Each unit counts once, however many images
      and realisations it has. With one unit the deviation and the interval are NaN.

    Raises:
      ValueError: if a value is not finite, appears twice, a method lacks an image or realisation
        that another has, or an image has two units; the message names the image.
    """
    return [
        _summary(method, metric, values, part.images, seed)
        for metric, part in per_unit(rows).items()
        for method, values in part.methods.items()
    ]


def _summary(method: str, metric: str, values: np.ndarray, images: int, seed: int) -> Summary:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    mean, median = float(np.mean(values)), float(np.median(values))
    ends = interval(values, seed=seed)
    return Summary(method, metric, mean, std, median, *ends, images, len(values))


def compare(rows: Iterable[Row], method: str, *, seed: int = 0) -> list[Comparison]:
    """Compares one method with each other one, on every metric.

    Args:
      rows: as of `summarise`.
      method: the one in question.
      seed: of the bootstrap.

    Returns:
      one comparison per metric and other method. Holm's correction covers the others on one metric;
      the first metric should be the one named before the experiment, the rest are supporting.

    Raises:
      ValueError: as of `summarise`, or if `method` is not among the methods.
    """
    comparisons = []
    for metric, (methods, images) in per_unit(rows).items():
        if method not in methods:
            valid = ", ".join(methods)
            raise ValueError(
                f"method {method!r} has no values of {metric}; expected one of {valid}"
            )
        others = {
            other: methods[method] - values for other, values in methods.items() if other != method
        }
        tied = {o: _tied(d, methods[method], methods[o]) for o, d in others.items()}
        raw = [signed_rank_p(differences) for differences in tied.values()]
        corrected = holm(raw)
        for (other, differences), p, p_holm in zip(others.items(), raw, corrected, strict=True):
            comparisons.append(
                Comparison(
                    method,
                    other,
                    metric,
                    float(np.mean(differences)),
                    *interval(differences, seed=seed),
                    p,
                    float(p_holm),
                    rank_biserial(tied[other]),
                    images,
                    len(differences),
                    _note(tied[other], images),
                )
            )
    return comparisons


def _tied(differences: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns the signed ranks of differences `one` - `other`, those that rounding parts tied.

    Values are measured in float32: counts over one constant differ by equal steps, but for a
    millionth of the largest.
    """
    size, tolerance = np.abs(differences), 1e-6 * max(np.abs(one).max(), np.abs(other).max())
    order = np.argsort(size)
    ranks = np.empty(len(size))
    ranks[order] = np.cumsum(np.diff(size[order], prepend=0.0) > tolerance)
    return np.sign(differences) * ranks


def _note(differences: np.ndarray, images: int) -> str:
    units, differing = len(differences), np.count_nonzero(differences)
    what = "images" if units == images else UNITS
    if units < MIN_UNITS:
        least = 2.0 ** (1 - units)
        return f"{units} {what}: p cannot go below {least:g}, whatever the difference"
    if differing == 0:
        return "no image differs"
    if differing < MIN_UNITS:
        least = 2.0 ** (1 - differing)
        return f"{differing} of {units} {what} differ: p cannot go below {least:g}"
    return ""


def counted(part: Summary | Comparison) -> str:
    """Says over how many of what a mean is."""
    if part.units == part.images:
        return f"{part.images} images"
    return f"{part.units} {UNITS} of {part.images} images"


def split(rows: Iterable[Row], groups: Sequence[Hashable]) -> dict[Hashable, list[Row]]:
    """Splits rows into groups, in the order of first appearance, for tables of subgroups.

    `{group: summarise(part) for group, part in split(rows, severities).items()}` is the table.

    Args:
      rows: as of `summarise`.
      groups: one per row, such as its modality or severity. The realisations of an image, and the
        images of a patient, may be of different groups; they then count once in each.

    Raises:
      ValueError: if their numbers differ.
    """
    rows = list(rows)
    if len(rows) != len(groups):
        raise ValueError(f"groups has {len(groups)} entries for {len(rows)} rows; expected as many")
    parts: dict[Hashable, list[Row]] = {}
    for row, group in zip(rows, groups, strict=True):
        parts.setdefault(group, []).append(row)
    return parts


def defined(rows: Iterable[Row]) -> tuple[list[Row], dict[str, list[str]]]:
    """Leaves out images for which a metric has no finite value, such as the colour of a black one.

    Where it has none for one method or realisation, the image is left out for all of them.

    Returns:
      the other rows, and by metric the names of the images that it is left out of.
    """
    rows = list(rows)
    without: dict[str, dict[str, None]] = {}
    for row in rows:
        if not math.isfinite(row.value):
            without.setdefault(row.metric, {})[row.image] = None
    kept = [row for row in rows if row.image not in without.get(row.metric, ())]
    return kept, {metric: list(names) for metric, names in without.items()}


class Values(NamedTuple):
    """The values of a metric: of each method the means by unit, `[n]`; and how many images."""

    methods: dict[str, np.ndarray]
    images: int


def per_unit(rows: Iterable[Row]) -> dict[str, Values]:
    """The values of each metric, in one order of units for all methods.

    The order is that of the first method's rows. Args and errors are those of `summarise`.
    """
    grouped: dict[str, dict[str, dict[tuple[str, str], float]]] = {}
    units: dict[str, str] = {}
    for row in rows:
        row = Row(*row)
        where = f"image {row.image!r}" + (
            f", realisation {row.realisation!r}," if row.realisation else ""
        )
        if not math.isfinite(row.value):
            raise ValueError(
                f"{where} has {row.metric} {row.value:g} for method {row.method!r}; expected a "
                "finite number (leave the image out for all methods, or cap an infinite PSNR)"
            )
        values = grouped.setdefault(row.metric, {}).setdefault(row.method, {})
        if (row.image, row.realisation) in values:
            raise ValueError(f"{where} has two values of {row.metric} for method {row.method!r}")
        values[row.image, row.realisation] = float(row.value)
        if units.setdefault(row.image, row.unit) != row.unit:
            raise ValueError(f"{where} is of unit {units[row.image]!r} and of {row.unit!r}")
    if not grouped:
        raise ValueError("there are no rows; expected at least one value")
    result = {}
    for metric, methods in grouped.items():
        _check_pairs(metric, methods)
        order = next(iter(methods.values()))
        means = {method: _means(values, order, units) for method, values in methods.items()}
        result[metric] = Values(means, len({image for image, _ in order}))
    return result


def _check_pairs(metric: str, methods: dict[str, dict[tuple[str, str], float]]) -> None:
    everywhere = dict.fromkeys(key for values in methods.values() for key in values)
    for image, realisation in everywhere:
        lacking = [name for name, values in methods.items() if (image, realisation) not in values]
        if lacking:
            of = f" (realisation {realisation!r})" if realisation else ""
            raise ValueError(
                f"image {image!r}{of} has no {metric} for method {', '.join(map(repr, lacking))}; "
                "methods are compared on the same images only"
            )


def _means(
    values: Mapping[tuple[str, str], float],
    order: Iterable[tuple[str, str]],
    units: Mapping[str, str],
) -> np.ndarray:
    by_image: dict[str, list[float]] = {}
    for image, realisation in order:
        by_image.setdefault(image, []).append(values[image, realisation])
    by_unit: dict[tuple[str, str], list[float]] = {}
    for image, of_image in by_image.items():
        unit = (units[image], "") if units[image] else ("", image)
        by_unit.setdefault(unit, []).append(math.fsum(of_image) / len(of_image))
    return np.array([math.fsum(v) / len(v) for v in by_unit.values()])


def interval(
    values: np.ndarray, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Computes the bias-corrected and accelerated bootstrap interval of the mean.

    Efron, "Better bootstrap confidence intervals", JASA 82(397), 1987,
    doi:10.1080/01621459.1987.10478410, as in `scipy.stats.bootstrap`. With fewer than about 20
    values it is too narrow, as all bootstrap intervals are.

    Args:
      values: `[n]`, one per unit.
      level: of confidence, in (0, 1).
      resamples: number of bootstrap samples.
      seed: of the samples.

    Returns:
      its ends; both the mean where all values are equal, NaN for one value.
    """
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return math.nan, math.nan
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    result = scipy.stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=level,
        n_resamples=resamples,
        batch=1000,  # bounds the memory
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(result.low), float(result.high)


def signed_rank_p(differences: np.ndarray) -> float:
    """Computes the two-sided p-value of Wilcoxon's signed-rank test, without zero differences.

    Exact without ties up to 50 differences and with ties up to 13, the normal approximation beyond
    (`scipy.stats.wilcoxon`). 1 where all differences are 0.
    """
    differences = np.asarray(differences, np.float64)
    differences = differences[differences != 0]
    return float(scipy.stats.wilcoxon(differences).pvalue) if len(differences) else 1.0


def rank_biserial(differences: np.ndarray) -> float:
    """Computes the matched-pairs rank-biserial correlation, effect size of the signed-rank test.

    The share of the ranks' sum that is of positive differences less that of negative ones: 1 where
    all are positive, 0 where they balance. Differences of 0 are left out; 0 where all are.

    Kerby, "The simple difference formula", Comprehensive Psychology 3, 2014,
    doi:10.2466/11.IT.3.1.
    """
    differences = np.asarray(differences, np.float64)
    differences = differences[differences != 0]
    if not len(differences):
        return 0.0
    ranks = scipy.stats.rankdata(np.abs(differences))
    return float(np.sum(np.sign(differences) * ranks) / np.sum(ranks))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Corrects p-values for their number by Holm's step-down method.

    The i-th smallest of m is multiplied by m - i + 1; none may be below a smaller one's, or above
    1. Rejecting where the result is at most alpha keeps the chance of any false rejection at alpha,
    whatever the dependence of the tests.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6(2), 1979.

    Returns:
      in the order of `p_values`.
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1)
    return corrected
