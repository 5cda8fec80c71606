import math

import numpy as np
import pytest
import scipy.stats

from lle_jax.evaluation import statistics
from lle_jax.evaluation.statistics import Row

# R, ?wilcox.test: Hollander & Wolfe (1973), p. 29, depression scale before and after a therapy.
BEFORE = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
AFTER = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])


def rows_of(metric="psnr", **methods):
    """Rows of `method=values`; values `[images]` or `[images, versions]`."""
    return [
        Row(f"image-{i}", method, metric, value, str(version))
        for method, values in methods.items()
        for i, versions in enumerate(values)
        for version, value in enumerate(np.atleast_1d(versions))
    ]


def test_summary_equals_numpy_and_scipy():
    values = np.random.default_rng(0).gamma(2, size=30)
    (summary,) = statistics.summarise(rows_of(a=values), seed=3)
    interval = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(3)
    ).confidence_interval
    assert summary[:2] == ("a", "psnr")
    assert summary.images == 30
    np.testing.assert_allclose(
        summary[2:7], [values.mean(), values.std(ddof=1), np.median(values), *interval], rtol=1e-12
    )
    assert statistics.summarise(rows_of(a=values), seed=3) == [summary]


def test_versions_are_averaged_before_anything_is_counted():
    values = np.random.default_rng(0).normal(size=(12, 3))
    versions, means = (statistics.summarise(rows_of(a=v))[0] for v in (values, values.mean(axis=1)))
    assert versions.images == 12
    np.testing.assert_allclose(versions[2:5], means[2:5], rtol=1e-9)
    # Means that differ in the last bit may order one resample of 9999 differently.
    np.testing.assert_allclose(versions[5:7], means[5:7], atol=2e-4)
    # An image of many versions counts no more than one of a single version.
    uneven = rows_of(a=[[1.0, 1.0, 1.0], [5.0]])
    assert statistics.summarise(uneven)[0].mean == 3
    both = rows_of(a=values, b=values + np.random.default_rng(1).normal(size=(12, 3)))
    (comparison,) = statistics.compare(both, "a")
    b = np.array([row.value for row in both[36:]]).reshape(12, 3)
    expected = scipy.stats.wilcoxon(values.mean(axis=1), b.mean(axis=1)).pvalue
    np.testing.assert_allclose(comparison.p, expected, rtol=1e-12)
    assert comparison.images == 12


def of_patients(rows, patients):
    """The same rows, the images of which are of these patients."""
    numbers = {image: str(patient) for image, patient in patients.items()}
    return [row._replace(unit=numbers.get(row.image, "")) for row in rows]


def test_images_of_one_patient_are_averaged_before_anything_is_counted():
    rng = np.random.default_rng(2)
    values = {name: rng.normal(size=(24, 2)) for name in ("a", "b")}
    rows = of_patients(rows_of(**values), {f"image-{i}": i // 3 for i in range(24)})
    means = {name: v.mean(axis=1).reshape(8, 3).mean(axis=1) for name, v in values.items()}
    by_hand = rows_of(**means)
    for found, expected in zip(
        statistics.summarise(rows), statistics.summarise(by_hand), strict=True
    ):
        assert (found.images, found.units, expected.units) == (24, 8, 8)
        np.testing.assert_allclose(found[2:5], expected[2:5], rtol=1e-9)
        # Means that differ in the last bit may order one resample of 9999 differently.
        np.testing.assert_allclose(found[5:7], expected[5:7], atol=2e-4)
    (found,), (expected,) = (statistics.compare(each, "a") for each in (rows, by_hand))
    assert (found.images, found.units) == (24, 8)
    np.testing.assert_allclose(found[6:9], expected[6:9], rtol=1e-9)
    np.testing.assert_allclose(found[3:6], expected[3:6], atol=1e-3)
    assert statistics.counted(found) == "8 patients or groups of 24 images"
    assert statistics.counted(expected) == "8 images"
    # A patient of many images counts no more than an image of nobody.
    uneven = of_patients(rows_of(a=[1.0, 1.0, 1.0, 5.0]), {f"image-{i}": 0 for i in range(3)})
    assert statistics.summarise(uneven)[0].mean == 3
    # A patient may be called as an image is.
    alike = of_patients(rows_of(a=[1.0, 1.0, 4.0]), {"image-0": "image-2", "image-1": "image-2"})
    assert statistics.summarise(alike)[0].mean == 2.5


def test_an_image_of_two_patients_is_refused():
    rows = rows_of(a=[1.0, 2.0], b=[1.0, 2.0])
    rows[0] = rows[0]._replace(unit="1")
    with pytest.raises(ValueError, match=r"image 'image-0'.* is of unit '1' and of ''"):
        statistics.compare(rows, "a")


def test_too_few_patients_are_said_not_too_few_images():
    rng = np.random.default_rng(2)
    rows = rows_of(a=rng.normal(size=20), b=rng.normal(size=20))
    rows = of_patients(rows, {f"image-{i}": i // 4 for i in range(20)})
    (comparison,) = statistics.compare(rows, "a")
    assert comparison.note.startswith("5 patients or groups: p cannot go below 0.0625")


def test_interval_covers_the_mean_where_versions_of_an_image_are_alike():
    """30 images of 5 versions; taking versions for images gives intervals far too narrow."""
    rng = np.random.default_rng(0)
    trials, covered, naive = 300, 0, 0
    for _ in range(trials):
        values = rng.normal(size=(30, 1)) + 0.3 * rng.normal(size=(30, 5))
        low, high = statistics.interval(values.mean(axis=1), resamples=999)
        covered += low <= 0 <= high
        low, high = statistics.interval(values.ravel(), resamples=199)
        naive += low <= 0 <= high
    assert 0.91 <= covered / trials <= 0.97  # of 0.95, standard error 0.013
    assert naive / trials < 0.75


def test_interval_of_skewed_values_is_not_symmetric_and_covers():
    rng = np.random.default_rng(1)
    draws = rng.exponential(size=(300, 40))
    intervals = np.array([statistics.interval(values, resamples=999) for values in draws])
    low, high = intervals.T
    assert 0.90 <= np.mean((low <= 1) & (high >= 1)) <= 0.97
    assert np.mean((high - draws.mean(axis=1)) / (draws.mean(axis=1) - low)) > 1.15


def test_signed_rank_test_equals_r():
    differences = BEFORE - AFTER
    assert statistics.signed_rank_p(differences) == 0.0390625  # V = 40, p-value = 0.03906
    assert statistics.signed_rank_p(-differences) == 0.0390625
    np.testing.assert_allclose(statistics.rank_biserial(differences), (40 - 5) / 45)
    np.testing.assert_allclose(statistics.rank_biserial(-differences), (5 - 40) / 45)


@pytest.mark.parametrize("n", [8, 40, 80])
def test_signed_rank_test_equals_scipy(n):
    differences = np.random.default_rng(n).normal(0.2, 1, n)
    expected = scipy.stats.wilcoxon(differences).pvalue
    assert statistics.signed_rank_p(differences) == expected
    with_zeros = np.concatenate([differences, np.zeros(9)])
    assert statistics.signed_rank_p(with_zeros) == expected
    assert statistics.rank_biserial(with_zeros) == statistics.rank_biserial(differences)


def test_tied_differences_of_few_images_are_tested_exactly():
    # By hand: of 2^5 signs, all plus and all minus are as extreme. The normal curve says 0.025.
    np.testing.assert_allclose(statistics.signed_rank_p(np.full(5, 0.3)), 2 / 32)
    # 1, 1, 1, -1: ranks all 2.5; two-sided P(at least 3 or at most 1 of 4 plus) = 10 / 16.
    np.testing.assert_allclose(statistics.signed_rank_p([1, 1, 1, -1]), 10 / 16)


def test_holm_equals_a_table_by_hand_and_r():
    # 0.01 x 4, 0.015 x 3, 0.03 x 2, 0.04 x 1 raised to the one before.
    np.testing.assert_allclose(
        statistics.holm([0.04, 0.01, 0.03, 0.015]), [0.06, 0.04, 0.06, 0.045]
    )
    np.testing.assert_allclose(statistics.holm([0.5, 0.7, 0.02]), [1, 1, 0.06])  # at most 1
    # R: p.adjust(c(0.01, 0.02, 0.03, 0.04), "holm")
    np.testing.assert_allclose(statistics.holm([0.01, 0.02, 0.03, 0.04]), [0.04, 0.06, 0.06, 0.06])
    assert statistics.holm([0.03]) == [0.03]
    assert statistics.holm([]).shape == (0,)


def test_two_copies_of_one_method_do_not_differ():
    values = np.random.default_rng(0).normal(size=(10, 2))
    (comparison,) = statistics.compare(rows_of(a=values, b=values), "a")
    assert (comparison.p, comparison.p_holm, comparison.effect) == (1, 1, 0)
    assert (comparison.difference, comparison.low, comparison.high) == (0, 0, 0)
    assert comparison.note == "no image differs"


def test_differences_that_rounding_parts_are_tied():
    """Counts over a constant, as float32; as their ranks of the whole counts."""
    rng = np.random.default_rng(4)
    counts = rng.integers(0, 12, (2, 20))
    rows = [
        Row(str(image), method, "rate", float(np.float32(count / 121)))
        for method, of_method in zip(("a", "b"), counts, strict=True)
        for image, count in enumerate(of_method)
    ]
    (found,) = statistics.compare(rows, "a")
    whole = (counts[0] - counts[1]).astype(float)
    measured = np.float32(counts[0] / 121).astype(float) - np.float32(counts[1] / 121)
    assert len(set(measured)) > len(set(whole))  # rounding parts them
    assert found.p == statistics.signed_rank_p(whole)
    assert found.effect == statistics.rank_biserial(whole)


def test_each_other_method_is_compared_and_corrected_within_its_metric():
    rng = np.random.default_rng(0)
    base = rng.normal(size=20)
    values = {"a": base, "worse": base - 1 + 0.1 * rng.normal(size=20), "b": rng.normal(size=20)}
    rows = rows_of("psnr", **values) + rows_of("ssim", **{k: -v for k, v in values.items()})
    found = {(c.metric, c.other): c for c in statistics.compare(rows, "a")}
    assert list(found) == [(m, o) for m in ("psnr", "ssim") for o in ("worse", "b")]
    worse, other = found["psnr", "worse"], found["psnr", "b"]
    np.testing.assert_allclose([worse.p_holm, other.p_holm], statistics.holm([worse.p, other.p]))
    assert worse.p == pytest.approx(2 / 2**20)
    assert worse.effect == 1
    assert 0 < worse.low < worse.difference < worse.high
    np.testing.assert_allclose(worse.difference, np.mean(base - values["worse"]))
    assert found["ssim", "worse"].effect == -1
    assert worse.note == ""


def test_false_rejections_are_as_rare_as_promised():
    """Three methods that do not differ from a fourth: any rejection among them in 5 %."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(600):
        differences = rng.normal(size=(1, 12)) + rng.normal(size=(3, 12))
        wrong += statistics.holm([statistics.signed_rank_p(d) for d in differences]).min() <= 0.05
    assert 0.005 < wrong / 600 < 0.06


def test_few_images_are_noted():
    few = rows_of(a=[1.0, 2, 3, 4, 5], b=[0.0, 1, 1, 1, 1])
    (comparison,) = statistics.compare(few, "a")
    assert comparison.note == "5 images: p cannot go below 0.0625, whatever the difference"
    assert comparison.p == pytest.approx(0.0625)
    enough = rows_of(a=[1.0, 2, 3, 4, 5, 6], b=np.zeros(6))
    assert statistics.compare(enough, "a")[0].note == ""
    assert statistics.compare(enough, "a")[0].p == pytest.approx(2 / 64)
    same = rows_of(a=[1.0, 2, 3, 4, 5, 6], b=[0.0, 1, 3, 4, 5, 6])
    assert statistics.compare(same, "a")[0].note == "2 of 6 images differ: p cannot go below 0.5"


def test_one_image_has_no_deviation_and_no_interval():
    (summary,) = statistics.summarise(rows_of(a=[2.0]))
    assert (summary.mean, summary.median, summary.images) == (2, 2, 1)
    assert all(map(math.isnan, (summary.std, summary.low, summary.high)))
    (same,) = statistics.summarise(rows_of(a=[0.1] * 7))
    assert (same.low, same.high) == (0.1, 0.1)


def test_subgroups_are_those_of_their_rows():
    values = np.arange(16.0).reshape(8, 2)
    rows = rows_of(a=values, b=-values)
    severities = [0.5 if row.realisation == "0" else 1.0 for row in rows]
    table = {
        g: statistics.summarise(part) for g, part in statistics.split(rows, severities).items()
    }
    assert list(table) == [0.5, 1.0]
    means = [[summary.mean for summary in part] for part in table.values()]
    np.testing.assert_allclose(means, [[7, -7], [8, -8]])
    modalities = ["fundus" if row.image < "image-3" else "endoscopy" for row in rows]
    parts = statistics.split(rows, modalities)
    assert [statistics.summarise(part)[0].images for part in parts.values()] == [3, 5]
    with pytest.raises(ValueError, match="groups has 2 entries for 32 rows"):
        statistics.split(rows, [1, 2])


def test_pairs_that_do_not_match_are_refused_with_the_image():
    rows = rows_of(a=np.ones((3, 2)), b=np.ones((3, 2)))
    lost = [row for row in rows if (row.image, row.method) != ("image-1", "b")]
    with pytest.raises(ValueError, match=r"image 'image-1' .*has no psnr for method 'b'"):
        statistics.compare(lost, "a")
    with pytest.raises(ValueError, match=r"'image-2' \(realisation '1'\) has no psnr"):
        statistics.summarise(rows[:-1])
    with pytest.raises(ValueError, match="realisation '0', has two values of psnr"):
        statistics.summarise([*rows, rows[0]])
    swapped = [row._replace(image="other") if row.method == "a" else row for row in rows[:1]]
    with pytest.raises(ValueError, match=r"image 'other' .*has no psnr for method 'b'"):
        statistics.summarise(swapped + rows[1:])


def test_order_of_rows_does_not_matter():
    rows = rows_of(a=np.random.default_rng(0).normal(size=9), b=np.zeros(9))
    shuffled = rows[:9] + rows[:8:-1]
    assert statistics.compare(shuffled, "a") == statistics.compare(rows, "a")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match=rf"image 'x' has psnr {value} for method 'a'; expected"):
        statistics.summarise([("x", "a", "psnr", value)])


def test_unknown_methods_and_no_rows_are_refused():
    with pytest.raises(ValueError, match="method 'c' has no values of psnr; expected one of a, b"):
        statistics.compare(rows_of(a=[1.0], b=[2.0]), "c")
    with pytest.raises(ValueError, match="no rows"):
        statistics.summarise([])


def test_the_interval_is_that_of_its_level():
    values = np.random.default_rng(5).exponential(size=25)
    wide, narrow = (statistics.interval(values, level=level) for level in (0.99, 0.8))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    expected = scipy.stats.bootstrap(
        (values,), np.mean, confidence_level=0.8, n_resamples=9999, method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    np.testing.assert_allclose(narrow, expected, rtol=0.01)
    assert np.diff(wide) > 1.5 * np.diff(narrow)
