import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import skimage.data
from skimage.color import deltaE_ciede2000, rgb2lab

from lle_jax import metrics

SIDE, COUNT = 128, 80
TINT = np.array([0.8, 1.0, 0.9], np.float32)  # of what haemoglobin absorbs
NAMES = ("added", "lost", "hallucination_rate")

structure = jax.jit(metrics.structure_change)
correlation = jax.jit(metrics.fourier_ring_correlation)
rate = jax.jit(metrics.hallucination_rate)
shift = jax.jit(metrics.background_colour_shift)


def figures(image, reference):
    change = metrics.structure_change(image, reference)
    return change.added, change.lost, metrics.hallucination_rate(image, reference)


def vessel(rng):
    """Mask of a curved line of 2 or 3 pixels' width and 50 to 80 pixels' length."""
    angle, reach = rng.uniform(0, np.pi), rng.uniform(25, 40)
    centre = rng.uniform(0.4, 0.6, 2) * SIDE
    end = reach * np.array([np.cos(angle), np.sin(angle)])
    bend = rng.uniform(-15, 15, 2)
    t = np.linspace(0, 1, 200)[:, None]
    points = centre + (2 * t - 1) * end + 2 * t * (1 - t) * bend
    mask = np.zeros((SIDE, SIDE), np.uint8)
    fixed = np.rint(16 * points).astype(np.int32)  # 4 fractional bits
    cv2.polylines(mask, [fixed], False, 255, int(rng.integers(2, 4)), cv2.LINE_AA, 4)
    return mask[..., None].astype(np.float32) / 255


def lesion(rng):
    """Mask of a soft spot of 3 to 5 pixels' radius."""
    y, x = rng.uniform(0.25, 0.75, 2) * SIDE
    rows, columns = np.mgrid[:SIDE, :SIDE]
    distance = np.hypot(rows - y, columns - x)
    return (1 / (1 + np.exp((distance - rng.uniform(3, 5)) / 0.7)))[..., None].astype(np.float32)


def restored(number, image, rng):
    """As restorers leave an image: slightly blurred, noisy, or denoised."""
    if number % 3 == 0:
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 0.9))
    if number % 3 == 1:
        return image + rng.normal(0, rng.uniform(0.01, 0.025), image.shape).astype(np.float32)
    noisy = image + rng.normal(0, 0.02, image.shape).astype(np.float32)
    return cv2.bilateralFilter(noisy, 5, 0.06, 2)


@pytest.fixture(scope="module")
def planted():
    """Outputs, truths, and what was done: 40 honest, 20 with a vessel more, 20 a lesion less."""
    rng = np.random.default_rng(0)
    eye = skimage.data.retina()[300:1100, 300:1100].astype(np.float32) / 255
    outputs, truths, kinds = [], [], []
    for number in range(COUNT):
        y, x = rng.integers(0, eye.shape[0] - SIDE, 2)
        healthy = eye[y : y + SIDE, x : x + SIDE]
        truth = np.clip(healthy - 0.13 * TINT * lesion(rng), 0, 1)
        line = vessel(rng)
        kind = ("honest", "vessel", "honest", "erased")[number % 4]
        output = {
            "honest": truth,
            "vessel": np.clip(truth - 0.1 * TINT * line, 0, 1),
            "erased": healthy,
        }[kind]
        outputs.append(np.clip(restored(number // 4, output, rng), 0, 1))
        truths.append(truth)
        kinds.append(kind)
    return np.stack(outputs), np.stack(truths), np.array(kinds)


@pytest.fixture(scope="module")
def measured(planted):
    """Figures of the outputs, and of the same made brighter and of more contrast."""
    outputs, truths, _ = planted
    run = jax.jit(figures)
    return [
        dict(zip(NAMES, map(np.asarray, run(o, truths)), strict=True))
        for o in (outputs, np.clip(1.12 * outputs + 0.01, 0, 1))
    ]


def auc(scores, positive):
    """Chance that a positive scores higher than a negative, ties half."""
    statistic = scipy.stats.mannwhitneyu(scores[positive], scores[~positive]).statistic
    return statistic / (positive.sum() * (~positive).sum())


def test_planted_hallucinations_are_ranked_above_honest_outputs(planted, measured):
    kinds, values = planted[2], measured[0]
    wrong = kinds != "honest"
    assert wrong.sum() == 40
    assert auc(np.maximum(values["added"], values["lost"]), wrong) >= 0.95
    assert auc(values["hallucination_rate"], wrong) >= 0.95
    for kind, name in (("vessel", "added"), ("erased", "lost")):
        some = (kinds == "honest") | (kinds == kind)
        assert auc(values[name][some], (kinds == kind)[some]) >= 0.95


def test_a_mild_change_of_brightness_is_not_flagged(planted, measured):
    """Honest outputs, made brighter, stay below what finds nine of ten hallucinations."""
    honest = planted[2] == "honest"
    values, brighter = (
        {"structure": np.maximum(m["added"], m["lost"]), "rate": m["hallucination_rate"]}
        for m in measured
    )
    for name in values:
        flag = np.quantile(values[name][~honest], 0.1)
        assert flag > 0
        assert (brighter[name][honest] >= flag).mean() <= 0.05
        assert (
            auc(np.concatenate([values[name][~honest], brighter[name][honest]]), np.arange(80) < 40)
            >= 0.95
        )


def test_maps_show_where_structure_was_added_and_lost(planted):
    truth = planted[1][0]
    line = vessel(np.random.default_rng(3))
    drawn = np.clip(truth - 0.15 * TINT * line, 0, 1)
    near = cv2.dilate(line, np.ones((17, 17)))[..., None][..., 0] > 0
    change = structure(drawn, truth)
    added = np.asarray(change.added_map)
    assert added.sum() > 50
    assert added[near].sum() > 0.95 * added.sum()
    assert not np.asarray(change.lost_map)[~near].any()
    erased = structure(truth, drawn)  # what one pair adds the other loses
    lost = np.asarray(erased.lost_map)
    assert lost[near].sum() > 0.95 * lost.sum() > 45
    assert erased.lost > 0.01
    assert change.added > 0.01


def test_identical_brighter_and_slightly_shifted_images_have_no_change(planted):
    truth = planted[1][1]
    for image in (truth, 0.8 * truth + 0.1, np.roll(truth, (2, -2), (0, 1))):
        inner = [np.asarray(m)[8:-8, 8:-8] for m in structure(image, truth)[2:]]
        assert not np.any(inner)
    moved = structure(np.roll(truth, 12, 0), truth)
    assert min(moved.added, moved.lost) > 0.05
    negative = structure(1 - truth, truth)  # a bright line is no counterpart of a dark one
    assert min(negative.added, negative.lost) > 0.3


def test_everything_is_added_to_a_flat_truth_but_not_noise():
    flat = np.full((SIDE, SIDE, 3), 0.5, np.float32)
    line = flat - 0.2 * vessel(np.random.default_rng(0))
    assert structure(line, flat).added == 1
    assert structure(flat, line).lost == 1
    assert structure(flat, line).added == structure(flat, flat).added == 0
    noise = np.random.default_rng(0).normal(0, 0.01, flat.shape).astype(np.float32)
    assert np.asarray(structure(flat + noise, flat).added_map).mean() < 1e-3


def test_fourier_ring_correlation_equals_its_definition(planted):
    image, truth = planted[0][1], planted[1][1]
    values = np.asarray(correlation(image, truth))
    assert values.shape == (7, 7, 4)
    window = np.outer(*2 * [np.sin(np.pi * (np.arange(32) + 0.5) / 32) ** 2])
    luma = np.array([0.299, 0.587, 0.114])
    spectra = []
    for picture in (image, truth):
        cut = (picture.astype(np.float64) @ luma)[32:64, 48:80]  # patch 2, 3
        cut = cut - np.average(cut, weights=window)
        spectra.append(np.fft.fft2(cut * window))
    f, g = spectra
    cycles = 32 * np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(32)]))
    for band, (low, high) in enumerate([(1.5, 3), (3, 6), (6, 12), (12, 16)]):
        ring = (cycles >= low) & (cycles < high)
        expected = (f * g.conj())[ring].sum().real / np.sqrt(
            (abs(f[ring]) ** 2).sum() * (abs(g[ring]) ** 2).sum()
        )
        np.testing.assert_allclose(values[2, 3, band], expected, atol=1e-5)


def test_fourier_ring_correlation_of_white_noise_follows_its_power():
    rng = np.random.default_rng(0)
    truth, noise = rng.normal(0, 0.1, (2, SIDE, SIDE, 1)).astype(np.float32)
    scale = np.float32(0.75)
    values = np.asarray(correlation(truth + scale * noise, truth))
    np.testing.assert_allclose(values.mean(axis=(0, 1)), 1 / np.sqrt(1 + 0.75**2), atol=0.04)
    np.testing.assert_allclose(correlation(noise, truth).mean(axis=(0, 1)), 0, atol=0.06)
    np.testing.assert_allclose(correlation(0.3 * truth + 0.2, truth), 1, atol=1e-5)
    np.testing.assert_allclose(correlation(-truth, truth), -1, atol=1e-5)
    assert not np.any(correlation(np.zeros_like(truth), truth))
    assert rate(noise, truth) == 1
    assert rate(truth, truth) == 0
    assert rate(truth, np.zeros_like(truth)) == 0  # no energy that could be missed


def test_colour_shift_is_the_difference_in_flat_regions(planted):
    left = np.float32([0.6, 0.3, 0.2]) * np.ones((64, 64, 3), np.float32)
    truth = left.copy()
    truth[:, 40:] = np.random.default_rng(0).uniform(0.2, 0.8, (64, 24, 3))  # texture
    truth[:, :16] = 0.01  # as beyond the aperture
    image = truth.copy()
    image[:, 16:40] += np.float32([0, 0.03, 0])
    expected = deltaE_ciede2000(rgb2lab(image[30, 28]), rgb2lab(truth[30, 28]))
    image[:, 40:], image[:, :16] = 0.5, [0.3, 0, 0]  # neither counts
    np.testing.assert_allclose(shift(image, truth), expected, rtol=1e-3)
    assert shift(truth, truth) == 0
    noisy = truth + np.random.default_rng(1).normal(0, 0.03, truth.shape).astype(np.float32)
    assert shift(noisy, truth) < 0.2 * float(metrics.ciede2000(noisy, truth))
    assert np.isnan(shift(image, np.zeros_like(truth)))


def all_figures(image, reference):
    return (
        *figures(image, reference),
        metrics.fourier_ring_correlation(image, reference),
        metrics.background_colour_shift(image, reference),
    )


def test_compiled_batched_and_mapped_values_equal_those_of_each_image(pair):
    images, references = pair
    batch = jax.jit(all_figures)(images, references)
    each = [all_figures(a, b) for a, b in zip(images, references, strict=True)]  # eager
    mapped = jax.jit(jax.vmap(all_figures))(images, references)
    assert [value.shape for value in batch] == [(2,)] * 3 + [(2, 3, 3, 4), (2,)]
    for values, *single, maps in zip(batch, *each, mapped, strict=True):
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, np.stack(single), rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(maps, values, rtol=2e-4, atol=2e-5)


def test_sixteen_bit_floats_are_measured_in_float32(pair):
    image, reference = (jnp.asarray(i[0], jnp.bfloat16) for i in pair)
    run = jax.jit(all_figures)
    wide = run(image.astype(jnp.float32), reference.astype(jnp.float32))
    for value, expected in zip(run(image, reference), wide, strict=True):
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 4}, r"patch is 4; expected at least 8"),
        ({"patch": 40}, r"32x32 pixels; this patch needs at least 40x40"),
        ({"threshold": 2.0}, r"threshold is 2; expected a number in \[-1, 1\]"),
    ],
)
def test_patches_and_thresholds_that_make_no_sense_are_refused(options, message):
    flat = jnp.full((32, 32, 3), 0.5)
    with pytest.raises(ValueError, match=message):
        metrics.hallucination_rate(flat, flat, **options)


@pytest.mark.parametrize(
    "measure",
    [
        metrics.structure_change,
        metrics.fourier_ring_correlation,
        metrics.hallucination_rate,
        metrics.background_colour_shift,
    ],
)
def test_unlike_pairs_are_refused(measure):
    flat = jnp.full((32, 32, 3), 0.5)
    with pytest.raises(ValueError, match=r"image has shape .* but reference has"):
        measure(flat, flat[:, :, :1])
    with pytest.raises(ValueError, match=r"dtype uint8; expected floating point"):
        measure((255 * flat).astype(jnp.uint8), flat)


def test_negative_tolerance_is_refused():
    flat = jnp.full((32, 32, 3), 0.5)
    with pytest.raises(ValueError, match=r"tolerance is -1; expected a whole number >= 0"):
        metrics.structure_change(flat, flat, tolerance=-1)
