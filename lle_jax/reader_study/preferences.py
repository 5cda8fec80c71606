"""Statistics of readers' preferences: rates with intervals, a ranking, agreement.

Answers about one case resemble each other, whoever gave them, so intervals are also given by
resampling cases with all their answers. They say what other cases would give with these readers;
they do not say what other readers would answer.
"""

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import scipy

from lle_jax.evaluation.statistics import LEVEL, RESAMPLES


class Answer(NamedTuple):
    """One reader's comparison of two methods on one case.

    `value` is 1 where `one` is better, 0 where `other` is, 0.5 where there is no difference.
    """

    case: str
    reader: str
    one: str
    other: str
    value: float


class Rate(NamedTuple):
    """A mean of answers in [0, 1] with two 95 % intervals.

    `low` and `high` are Wilson's, which take all answers as independent; `case_low` and `case_high`
    are percentiles over resampled cases, NaN with one case. Where all cases have the same mean,
    resamples do not differ: then they are Clopper and Pearson's with a case for a trial, or
    Wilson's where that mean is neither 0 nor 1.
    """

    rate: float
    low: float
    high: float
    case_low: float
    case_high: float
    answers: int
    cases: int


class Rank(NamedTuple):
    """A method's place by its ability, the log odds of being preferred to the mean method."""

    method: str
    ability: float
    low: float
    high: float
    answers: int


class Agreement(NamedTuple):
    """Krippendorff's alpha with an interval over cases; `units` have two readers or more."""

    alpha: float
    low: float
    high: float
    units: int


def wilson(successes: float, total: int, level: float = LEVEL) -> tuple[float, float]:
    """Computes Wilson's score interval of a proportion, without correction for continuity.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22(158),
    1927, doi:10.1080/01621459.1927.10502953. `successes` may hold halves.
    """
    z = scipy.special.ndtri((1 + level) / 2)
    p, share = successes / total, z * z / total
    centre = (p + share / 2) / (1 + share)
    half = math.sqrt(share * (p * (1 - p) + share / 4)) / (1 + share)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def clopper_pearson(successes: int, total: int, level: float = LEVEL) -> tuple[float, float]:
    """Computes the exact interval of a proportion.

    Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 26(4), 1934, doi:10.1093/biomet/26.4.404.
    """
    found = scipy.stats.binomtest(successes, total).proportion_ci(level, "exact")
    return float(found.low), float(found.high)


def rate(values: Sequence[float], cases: Sequence[Hashable], *, seed: int = 0) -> Rate:
    """Computes the mean of answers in [0, 1] and its intervals.

    Args:
      values: one per answer.
      cases: what each answer is about.
      seed: of the bootstrap.

    Raises:
      ValueError: if there is no answer, or their numbers differ.
    """
    if len(values) != len(cases) or not len(values):
        raise ValueError(f"{len(values)} values for {len(cases)} cases; expected as many, not 0")
    number = {case: i for i, case in enumerate(dict.fromkeys(cases))}
    sums, counts = np.zeros(len(number)), np.zeros(len(number))
    for value, case in zip(values, cases, strict=True):
        sums[number[case]] += value
        counts[number[case]] += 1
    total = len(values)
    low, high = wilson(float(sums.sum()), total)
    share = float(sums.sum() / total)
    if len(number) > 1 and share in (0, 1):
        ends = clopper_pearson(round(share * len(number)), len(number))
    elif len(number) > 1 and np.ptp(sums / counts) == 0:
        ends = wilson(share * len(number), len(number))
    else:
        draws = _resamples(len(number), seed)
        ends = _percentiles((draws @ sums) / (draws @ counts), len(number))
    return Rate(share, low, high, *ends, total, len(number))


def _resamples(cases: int, seed: int) -> np.ndarray:
    """Counts each case in each bootstrap sample, `[RESAMPLES, cases]`."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(cases, np.full(cases, 1 / cases), RESAMPLES).astype(np.float64)


def _percentiles(values: np.ndarray, cases: int) -> tuple[float, float]:
    """The interval of resampled values, NaN where they say nothing: of one case, or all equal."""
    values = values[~np.isnan(values)]
    if cases < 2 or not len(values) or np.ptp(values) < 1e-9:
        return math.nan, math.nan
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def rates(answers: Iterable[Answer], *, seed: int = 0) -> dict[tuple[str, str], Rate]:
    """Computes preference rates of each two methods; no difference is half a preference.

    Returns:
      (one, other) -> rate, each two methods once, named in the order of first appearance.
    """
    answers = list(answers)
    order = _methods(answers)
    pairs: dict[tuple[str, str], tuple[list, list]] = {}
    for case, _, one, other, value in answers:
        if order[one] > order[other]:
            one, other, value = other, one, 1 - value
        values, cases = pairs.setdefault((one, other), ([], []))
        values.append(value)
        cases.append(case)
    return {pair: rate(*pairs[pair], seed=seed) for pair in sorted(pairs, key=_places(order))}


def _places(order: dict[str, int]):
    return lambda pair: tuple(order[name] for name in pair)


def _methods(answers: Sequence[Answer]) -> dict[str, int]:
    """Numbers the methods in the order of first appearance; raises ValueError for a bad answer."""
    for answer in answers:
        if answer.one == answer.other:
            raise ValueError(f"case {answer.case!r} compares {answer.one!r} with itself")
        if answer.value not in (0, 0.5, 1):
            raise ValueError(f"case {answer.case!r} has value {answer.value}; expected 0, 0.5 or 1")
    names = dict.fromkeys(name for answer in answers for name in (answer.one, answer.other))
    return {name: i for i, name in enumerate(names)}


# Half a win each way between every two methods keeps a method that never wins, here or in a
# resample, at a finite place. With two methods it is the log odds with Haldane's and Anscombe's
# correction.
PRIOR = 0.5


def ranking(answers: Iterable[Answer], *, seed: int = 0) -> list[Rank]:
    """Ranks methods by the Bradley-Terry model, `PRIOR` wins added each way.

    Returns:
      abilities, which sum to 0, with 95 % intervals over resampled cases, NaN with one case or
      where the cases agree, so that resamples do not differ: then see `rates`.

    Raises:
      ValueError: if there is no answer, or one is not valid.
    """
    answers = list(answers)
    order = _methods(answers)
    if not answers:
        raise ValueError("there are no answers; expected at least one")
    number = {case: i for i, case in enumerate(dict.fromkeys(a.case for a in answers))}
    wins = np.zeros((len(number), len(order), len(order)))
    for case, _, one, other, value in answers:
        wins[number[case], order[one], order[other]] += value
        wins[number[case], order[other], order[one]] += 1 - value
    total = wins.sum(0)
    ability = bradley_terry(total + PRIOR)
    resampled = np.tensordot(_resamples(len(number), seed), wins, 1)
    abilities = bradley_terry(resampled + PRIOR)
    ranks = [
        Rank(
            method,
            float(ability[i]),
            *_percentiles(abilities[:, i], len(number)),
            round(total[i].sum() + total[:, i].sum()),
        )
        for method, i in order.items()
    ]
    return sorted(ranks, key=lambda rank: -rank.ability)


def bradley_terry(wins: np.ndarray, iterations: int = 200) -> np.ndarray:
    """Fits log abilities a, with P(i is preferred to j) = 1 / (1 + exp(a_j - a_i)), that sum to 0.

    Bradley and Terry, "Rank analysis of incomplete block designs", Biometrika 39(3/4), 1952,
    doi:10.2307/2334029, by Newton's method, with steps of 1 at most. The diagonal of `wins` is not
    used.

    Args:
      wins: `[..., n, n]`, how often the row was preferred to the column; halves are ties.
      iterations: at most.

    Raises:
      ValueError: if the methods fall into two groups of which one never lost to the other, so that
        no maximum exists (Ford 1957), or it is not found in so many iterations.
    """
    n = wins.shape[-1]
    wins = np.where(np.eye(n, dtype=bool), 0.0, wins)
    reach = wins > 0
    for _ in range(n):
        reach = reach | (reach @ reach)
    if not (reach | np.eye(n, dtype=bool)).all():
        raise ValueError("a group of methods never won, or never lost, against the others")
    met = wins + np.swapaxes(wins, -1, -2)
    ability = np.zeros(wins.shape[:-1])
    for _ in range(iterations):
        p = scipy.special.expit(ability[..., :, None] - ability[..., None, :])
        slope = (wins - met * p).sum(-1)
        curvature = met * p * (1 - p)
        total = curvature.sum(-1)
        # all abilities may move together: so that there is one solution, their sum may not
        system = total[..., None] * np.eye(n) - curvature + total.mean(-1)[..., None, None] / n
        step = np.linalg.solve(system, slope[..., None])[..., 0]
        longest = np.abs(step).max(-1, keepdims=True)
        ability = ability + step / np.maximum(longest, 1)
        if longest.max() < 1e-9:
            return ability - ability.mean(-1, keepdims=True)
    raise ValueError(f"abilities have not converged in {iterations} iterations")


def agreement(
    units: Sequence[Sequence[Hashable]], cases: Sequence[Hashable], *, seed: int = 0
) -> Agreement:
    """Computes Krippendorff's alpha for nominal ratings: 1 is perfect agreement, 0 chance.

    Krippendorff, "Computing Krippendorff's alpha-reliability", 2011,
    https://repository.upenn.edu/asc_papers/43. The interval is of percentiles over resampled cases
    that two readers have rated; NaN with one such case, or where resamples do not differ.

    Args:
      units: the ratings of each thing rated, one per reader who rated it.
      cases: what each unit belongs to.
      seed: of the bootstrap.

    Returns:
      alpha, NaN where no unit has two ratings or all ratings are equal.
    """
    rated = [pair for pair in zip(units, cases, strict=True) if len(pair[0]) > 1]
    kinds = {kind: i for i, kind in enumerate(dict.fromkeys(k for unit, _ in rated for k in unit))}
    number = {case: i for i, case in enumerate(dict.fromkeys(case for _, case in rated))}
    coincidences = np.zeros((len(number), len(kinds), len(kinds)))
    for unit, case in rated:
        counts = np.bincount([kinds[kind] for kind in unit], minlength=len(kinds))
        pairs = np.outer(counts, counts) - np.diag(counts)
        coincidences[number[case]] += pairs / (len(unit) - 1)
    if not rated:
        return Agreement(math.nan, math.nan, math.nan, 0)
    alphas = _alpha(np.tensordot(_resamples(len(number), seed), coincidences, 1))
    ends = _percentiles(alphas, len(number))
    return Agreement(float(_alpha(coincidences.sum(0))), *ends, len(rated))


def _alpha(coincidences: np.ndarray) -> np.ndarray:
    """Computes alpha of coincidence matrices `[..., kinds, kinds]`."""
    values = coincidences.sum(-1)
    n = values.sum(-1)
    observed = n - np.trace(coincidences, axis1=-2, axis2=-1)
    expected = n * n - (values * values).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected > 0, 1 - (n - 1) * observed / expected, math.nan)
