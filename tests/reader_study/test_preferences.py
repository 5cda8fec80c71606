import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from lle_jax.reader_study import preferences
from lle_jax.reader_study.preferences import Answer

# Agresti, Categorical Data Analysis, 3rd ed., 11.6, after Stigler 1994: how often journals were
# cited (row) by others (column): Biometrika, Communications in Statistics, JASA, JRSS-B.
CITED = np.array([[714, 730, 498, 221], [33, 425, 68, 17], [320, 813, 1072, 142],
                  [284, 276, 325, 188]], float)  # fmt: skip


def answers(*results, case="case {}"):
    """`(one, other, value)`s, each on a case of its own."""
    return [Answer(case.format(i), "r", *result) for i, result in enumerate(results)]


@pytest.mark.parametrize(
    ("successes", "total", "expected"),
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson_equals_newcombes_table(successes, total, expected):
    # Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, method 3
    np.testing.assert_allclose(preferences.wilson(successes, total), expected, atol=6e-5)


@pytest.mark.parametrize("level", [0.8, 0.99])
def test_wilson_equals_scipy(level):
    for successes in range(12):
        expected = scipy.stats.binomtest(successes, 11).proportion_ci(level, "wilson")
        np.testing.assert_allclose(
            preferences.wilson(successes, 11, level), (expected.low, expected.high), atol=1e-12
        )


def test_rate_counts_no_difference_as_half():
    (found,) = preferences.rates(answers(("a", "b", 1), ("a", "b", 0.5), ("b", "a", 0))).values()
    assert found.rate == pytest.approx(2.5 / 3)
    assert (found.answers, found.cases) == (3, 3)


def test_rates_do_not_depend_on_sides():
    results = [("a", "b", 1), ("b", "c", 0.5), ("a", "c", 0), ("a", "b", 0)]
    swapped = [(other, one, 1 - value) for one, other, value in results[1:]]
    found = preferences.rates(answers(*results))
    assert found == preferences.rates(answers(results[0], *swapped))
    assert list(found) == [("a", "b"), ("a", "c"), ("b", "c")]


def test_case_interval_equals_scipys_bootstrap_of_a_ratio():
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 6, 40)
    sums = rng.binomial(counts, rng.uniform(0.2, 0.9, 40))
    cases = np.repeat(np.arange(40), counts)
    values = np.concatenate([np.arange(n) < k for n, k in zip(counts, sums, strict=True)])
    found = preferences.rate(values.astype(float), cases.tolist())
    expected = scipy.stats.bootstrap(
        (sums, counts), lambda s, n, axis: s.sum(axis) / n.sum(axis), paired=True,
        vectorized=True, method="percentile", rng=np.random.default_rng(5),
    ).confidence_interval  # fmt: skip
    np.testing.assert_allclose(
        (found.case_low, found.case_high), (expected.low, expected.high), atol=0.01
    )


@pytest.mark.parametrize(("value", "expected"), [(0.0, (0, 0.3085)), (1.0, (0.6915, 1))])
def test_what_never_or_always_happened_in_ten_cases_is_not_certain(value, expected):
    # of zero events in n cases the exact upper limit is 1 - 0.025^(1/n)
    found = preferences.rate([value] * 30, [number % 10 for number in range(30)])
    np.testing.assert_allclose((found.case_low, found.case_high), expected, atol=1e-4)
    assert math.isnan(preferences.rate([value] * 3, ["one"] * 3).case_low)


def test_cases_that_all_say_the_same_are_not_certain():
    for values in ([0.5] * 20, [0.0, 1.0] * 10):
        found = preferences.rate(values, [number // 2 for number in range(20)])
        ends = preferences.wilson(5, 10)
        np.testing.assert_allclose((found.case_low, found.case_high), ends, atol=1e-12)


def test_intervals_by_case_are_wider_where_readers_repeat_each_other():
    # 12 readers who always agree on each of 20 cases
    values = np.repeat([1.0, 0.0, 1.0, 1.0] * 5, 12)
    found = preferences.rate(values, np.repeat(np.arange(20), 12).tolist())
    assert found.case_high - found.case_low > 2.5 * (found.high - found.low)


def test_case_interval_covers_the_truth():
    # a beta-binomial of mean 0.6 and correlation 1/3 within cases, 30 cases of 5 answers
    covered = 0
    rng = np.random.default_rng(0)
    for seed in range(60):
        p = rng.beta(1.2, 0.8, 30)
        values = (rng.random((30, 5)) < p[:, None]).astype(float)
        found = preferences.rate(values.ravel(), np.repeat(np.arange(30), 5).tolist(), seed=seed)
        covered += found.case_low <= 0.6 <= found.case_high
    assert covered >= 51


def test_bradley_terry_equals_the_published_journals():
    ability = preferences.bradley_terry(CITED)
    # R, BradleyTerry2: BTm(citations), relative to Biometrika
    np.testing.assert_allclose(ability[1:] - ability[0], [-2.94907, -0.47957, 0.26895], atol=5e-6)
    assert ability.sum() == pytest.approx(0, abs=1e-12)


def test_bradley_terry_maximises_the_likelihood_also_with_ties():
    rng = np.random.default_rng(2)
    wins = rng.integers(1, 9, (5, 5)) / 2

    def loss(ability):
        return (wins * np.logaddexp(0, ability[None, :] - ability[:, None])).sum()

    best = scipy.optimize.minimize(loss, np.zeros(5), tol=1e-12).x
    ability = preferences.bradley_terry(wins)
    np.testing.assert_allclose(ability, best - best.mean(), atol=1e-5)
    stacked = preferences.bradley_terry(np.stack([wins, wins.T]))
    np.testing.assert_allclose(stacked[0], ability, atol=1e-7)


@pytest.mark.parametrize("answered", [50, 1_000, 100_000])
def test_bradley_terry_finds_a_clear_order_however_many_answers_there_are(answered):
    wins = np.triu(np.full((4, 4), float(answered)), 1) + preferences.PRIOR
    ability = preferences.bradley_terry(wins)
    np.testing.assert_allclose(ability, -ability[::-1], atol=1e-9)
    p = 1 / (1 + np.exp(ability[None] - ability[:, None]))
    met = wins + wins.T
    # as often preferred as was seen: the condition of the maximum (Bradley and Terry, 1952)
    expected = (np.where(np.eye(4), 0, met * p)).sum(1)
    np.testing.assert_allclose(expected, np.where(np.eye(4), 0, wins).sum(1), rtol=1e-9)


def test_abilities_of_cases_that_agree_have_no_interval():
    pairs = [("a", "b", 1), ("b", "c", 1), ("a", "c", 1)]
    clear = [answer for case in range(20) for answer in answers(*pairs, case=f"case {case}")]
    ranks = preferences.ranking(clear)
    assert [rank.method for rank in ranks] == ["a", "b", "c"]
    assert all(math.isnan(end) for rank in ranks for end in (rank.low, rank.high))
    ranks = preferences.ranking([*clear, *answers(("c", "a", 1), case="another")])
    assert all(rank.low < rank.ability < rank.high for rank in ranks if rank.method != "b")


def test_alpha_of_one_case_that_two_readers_rated_has_no_interval():
    twice = [["a", "a"], ["a", "b"], ["b", "b"]]
    once = [["a"]] * 9
    found = preferences.agreement(twice + once, ["x"] * 3 + list(range(9)))
    assert found.alpha == pytest.approx(4 / 9)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    # cases of one reader do not change the interval of the others
    cases = [f"case {number}" for number in range(3)]
    assert preferences.agreement(twice + once, [*cases, *range(9)]) == preferences.agreement(
        twice, cases
    )
    assert math.isnan(preferences.agreement([["a", "a"], ["b", "b"]] * 4, range(8)).low)


def test_bradley_terry_refuses_what_has_no_maximum():
    with pytest.raises(ValueError, match="never"):
        preferences.bradley_terry(np.array([[0, 3.0], [0, 0]]))


def test_ranking_of_two_methods_is_the_corrected_log_odds():
    results = [("a", "b", 1)] * 7 + [("a", "b", 0)] * 2
    first, second = preferences.ranking(answers(*results))
    assert (first.method, second.method) == ("a", "b")
    assert first.ability - second.ability == pytest.approx(math.log(7.5 / 2.5))
    assert first.answers == 9
    assert first.low < first.ability < first.high


def test_ranking_puts_a_method_that_never_won_last():
    results = [("a", "b", 1), ("b", "c", 1), ("a", "c", 1)] * 4 + [("a", "b", 0)]
    ranks = preferences.ranking(answers(*results))
    assert [rank.method for rank in ranks] == ["a", "b", "c"]
    assert all(math.isfinite(v) for rank in ranks for v in rank[1:])


# 4 readers of 12 units; 0 is missing. Krippendorff 2011, section C.
READERS = np.array([[1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
                    [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
                    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0]])  # fmt: skip


def test_alpha_equals_the_published_example():
    units = [[int(v) for v in column if v] for column in READERS.T]
    found = preferences.agreement(units, range(12))
    assert found.alpha == pytest.approx(0.743, abs=5e-4)
    assert found.units == 11
    assert found.low < found.alpha < found.high


def test_alpha_of_chance_and_of_agreement():
    rng = np.random.default_rng(0)
    chance = preferences.agreement(rng.integers(0, 3, (400, 2)).tolist(), range(400))
    assert chance.low < 0 < chance.high
    assert abs(chance.alpha) < 0.1
    assert preferences.agreement([["a", "a"], ["b", "b"]], [0, 1]).alpha == 1


@pytest.mark.parametrize("units", [[["a"], ["b"]], [["a", "a"], ["a", "a"]], []])
def test_alpha_that_is_not_defined_is_nan(units):
    assert math.isnan(preferences.agreement(units, range(len(units))).alpha)


def test_one_case_has_no_interval_over_cases():
    found = preferences.rate([1.0, 0.0], ["x", "x"])
    assert math.isnan(found.case_low)
    assert math.isnan(preferences.ranking(answers(("a", "b", 1), case="x"))[0].low)


@pytest.mark.parametrize(
    ("result", "message"),
    [(("a", "a", 1), "with itself"), (("a", "b", 0.3), "0.3"), (("a", "b", math.nan), "nan")],
)
def test_bad_answers_are_refused(result, message):
    for function in (preferences.rates, preferences.ranking):
        with pytest.raises(ValueError, match=message):
            function(answers(result))
    with pytest.raises(ValueError, match="no answers"):
        preferences.ranking([])
