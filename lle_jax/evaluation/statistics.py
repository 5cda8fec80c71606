"""Statistics of per-image values: intervals, paired tests, effect sizes, subgroups.

The image is the unit. Degraded versions of one image are not independent, so they are averaged
first and every count, deviation, interval and test is over images. Taken as images of their own,
they would make intervals too narrow and p-values too small.
"""

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import scipy

LEVEL = 0.95
RESAMPLES = 9999
# Below this many images no two-sided signed-rank test can reach p < 0.05: 2 / 2^5 = 0.0625.
MIN_IMAGES = 6


class Row(NamedTuple):
    """One measured value. `realisation` tells the degraded versions of one image apart."""

    image: str
    method: str
    metric: str
    value: float
    realisation: str = ""


class Summary(NamedTuple):
    """One method and metric over images; `low` and `high` bound the mean (95 % BCa bootstrap)."""

    method: str
    metric: str
    mean: float
    std: float
    median: float
    low: float
    high: float
    images: int


class Comparison(NamedTuple):
    """`method` against `other`, paired by image; differences are `method` - `other`.

    Attributes:
      method: the method in question.
      other: what it is compared with.
      metric: of the values.
      difference: mean over images.
      low: end of the 95 % BCa bootstrap interval of the mean difference.
      high: its other end.
      p: two-sided Wilcoxon signed-rank test.
      p_holm: the same, corrected for all others that the method is compared with on this metric.
      effect: matched-pairs rank-biserial correlation in [-1, 1], above 0 where `method` is larger.
      images: number of pairs.
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
    note: str


def summarise(rows: Iterable[Row], *, seed: int = 0) -> list[Summary]:
    """Computes mean, sample standard deviation, median and interval by method and metric.

    Args:
      rows: `Row`s, or tuples in its order; one per image, method, metric and realisation.
      seed: of the bootstrap. Every entry resamples alike, so none depends on which others exist.

    Returns:
      in the order of first appearance. Each image counts once, however many
      realisations it has. With one image the deviation and the interval are NaN.

    Raises:
      ValueError: if a value is not finite, appears twice, or a method lacks an image or realisation
        that another has; the message names the image.
    """
    return [
        _summary(method, metric, values, seed)
        for metric, methods in per_image(rows).items()
        for method, values in methods.items()
    ]


def _summary(method: str, metric: str, values: np.ndarray, seed: int) -> Summary:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    mean, median = float(np.mean(values)), float(np.median(values))
    return Summary(method, metric, mean, std, median, *interval(values, seed=seed), len(values))


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
    for metric, methods in per_image(rows).items():
        if method not in methods:
            valid = ", ".join(methods)
            raise ValueError(
                f"method {method!r} has no values of {metric}; expected one of {valid}"
            )
        others = {
            other: methods[method] - values for other, values in methods.items() if other != method
        }
        raw = [signed_rank_p(differences) for differences in others.values()]
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
                    rank_biserial(differences),
                    len(differences),
                    _note(differences),
                )
            )
    return comparisons


def _note(differences: np.ndarray) -> str:
    images, differing = len(differences), np.count_nonzero(differences)
    if images < MIN_IMAGES:
        least = 2.0 ** (1 - images)
        return f"{images} images: p cannot go below {least:g}, whatever the difference"
    if differing == 0:
        return "no image differs"
    if differing < MIN_IMAGES:
        least = 2.0 ** (1 - differing)
        return f"{differing} of {images} images differ: p cannot go below {least:g}"
    return ""


def split(rows: Iterable[Row], groups: Sequence[Hashable]) -> dict[Hashable, list[Row]]:
    """Splits rows into groups, in the order of first appearance, for tables of subgroups.

    `{group: summarise(part) for group, part in split(rows, severities).items()}` is the table.

    Args:
      rows: as of `summarise`.
      groups: one per row, such as its modality or severity. The realisations of an image may be of
        different groups; it then counts once in each.

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


def per_image(rows: Iterable[Row]) -> dict[str, dict[str, np.ndarray]]:
    """metric -> method -> means over realisations `[n]`, in one order of images for all methods.

    The order is that of the first method's rows. Args and errors are those of `summarise`.
    """
    grouped: dict[str, dict[str, dict[tuple[str, str], float]]] = {}
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
    if not grouped:
        raise ValueError("there are no rows; expected at least one value")
    result = {}
    for metric, methods in grouped.items():
        _check_pairs(metric, methods)
        order = next(iter(methods.values()))
        result[metric] = {method: _means(values, order) for method, values in methods.items()}
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


def _means(values: dict[tuple[str, str], float], order: Iterable[tuple[str, str]]) -> np.ndarray:
    by_image: dict[str, list[float]] = {}
    for image, realisation in order:
        by_image.setdefault(image, []).append(values[image, realisation])
    return np.array([math.fsum(v) / len(v) for v in by_image.values()])


def interval(
    values: np.ndarray, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Computes the bias-corrected and accelerated bootstrap interval of the mean.

    Efron, "Better bootstrap confidence intervals", JASA 82(397), 1987,
    doi:10.1080/01621459.1987.10478410, as in `scipy.stats.bootstrap`. With fewer than about 20
    images it is too narrow, as all bootstrap intervals are.

    Args:
      values: `[n]`, one per image.
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
