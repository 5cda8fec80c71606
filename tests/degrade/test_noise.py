"""Moments against theory; what holds for every degradation is in test_conventions.py."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from lle_jax import degrade

KEY = jax.random.key(11)
SHAPE = (400, 500, 3)  # 600,000 samples: a standard deviation is known to 0.1 %
EXPOSURES = (1.0, 0.15, 0.03)


def flat(value):
    return jnp.full(SHAPE, value, jnp.float32)


def clipped_normal(mean, sigma):
    """Mean and standard deviation of a normal deviate clipped to [0, 1]."""
    low, high = (0 - mean) / sigma, (1 - mean) / sigma
    inside = scipy.stats.truncnorm(low, high, loc=mean, scale=sigma)
    below, above = scipy.stats.norm.cdf(low), scipy.stats.norm.sf(high)
    first = (1 - below - above) * inside.mean() + above
    second = (1 - below - above) * inside.moment(2) + above
    return first, np.sqrt(second - first**2)


def assert_moments(image, mean, sigma):
    image = np.asarray(image, np.float64)
    np.testing.assert_allclose(image.mean(), mean, atol=5 * sigma / np.sqrt(image.size))
    np.testing.assert_allclose(image.std(), sigma, rtol=0.01)


@pytest.mark.parametrize("exposure", EXPOSURES)
def test_gaussian_noise_has_the_moments_of_a_clipped_normal(exposure):
    noisy = degrade.gaussian_noise(KEY, flat(0.6 * exposure), sigma=0.04)
    assert_moments(noisy, *clipped_normal(0.6 * exposure, 0.04))


@pytest.mark.parametrize("length", [0.4, 0.8, 1.5])
def test_correlated_noise_is_white_noise_after_a_gaussian_filter(length):
    noisy = degrade.correlated_noise(KEY, flat(0.5), luma=0.04, chroma=0.02, length=length)
    noise = np.asarray(noisy, np.float64) - 0.5
    luma = noise.mean(axis=-1)
    chroma = noise - luma[..., None]
    white = np.random.default_rng(0).standard_normal(SHAPE[:2])
    filtered = scipy.ndimage.gaussian_filter(white, length, truncate=6 / length, mode="wrap")

    def correlation(field, lag, axis):
        field = np.moveaxis(field, axis, 0)
        return (field[lag:] * field[:-lag]).mean() / (field**2).mean()

    for lag, axis in itertools.product((1, 2, 3), (0, 1)):
        expected = correlation(filtered, lag, axis)
        assert correlation(luma, lag, axis) == pytest.approx(expected, abs=0.02)
        assert correlation(chroma, lag, axis) == pytest.approx(expected, abs=0.02)
        if length > 0.7:
            formula = np.exp(-(lag**2) / (4 * length**2))
            assert correlation(luma, lag, axis) == pytest.approx(formula, abs=0.02)
    assert luma.std() == pytest.approx(0.04, rel=0.02)
    np.testing.assert_allclose(chroma.std(axis=(0, 1)), 0.02, rtol=0.02)
    np.testing.assert_allclose(chroma.sum(axis=-1), 0, atol=1e-6)
    assert scipy.stats.kstest(luma[::9, ::9].ravel() / 0.04, "norm").pvalue > 0.01


def test_correlated_noise_is_as_strong_at_the_edges_and_in_small_images():
    image = jnp.full((4000, 9, 5, 1), 0.5)
    noisy = degrade.correlated_noise(KEY, image, luma=0.04, chroma=0.5, length=2.0)
    deviation = np.asarray(noisy, np.float64).std(axis=0)
    np.testing.assert_allclose(deviation, 0.04, rtol=0.05)


def test_gaussian_noise_away_from_the_clip_is_normal():
    noisy = np.asarray(degrade.gaussian_noise(KEY, flat(0.5), sigma=0.05), np.float64)
    assert scipy.stats.kstest((noisy.ravel()[::6] - 0.5) / 0.05, "norm").pvalue > 0.05


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("exposure", EXPOSURES)
def test_sensor_noise_has_variance_gain_times_light_plus_read_noise_squared(exposure, exact):
    light, gain, read_noise = 0.6 * exposure, 2e-4, 5e-4
    noisy = degrade.poisson_gaussian_noise(
        KEY, flat(light), gain=gain, read_noise=read_noise, exact=exact
    )
    assert_moments(noisy, light, np.sqrt(gain * light + read_noise**2))


@pytest.mark.parametrize("exposure", EXPOSURES)
def test_photon_noise_has_the_moments_of_poisson(exposure):
    light, peak = 0.6 * exposure, 500
    noisy = degrade.poisson_noise(KEY, flat(light), peak=peak)
    assert_moments(noisy, light, np.sqrt(light / peak))
    counts = np.asarray(noisy) * peak
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-3)
    skewness = scipy.stats.skew(counts.ravel())
    np.testing.assert_allclose(skewness, 1 / np.sqrt(light * peak), atol=0.02)


def test_the_approximation_differs_by_the_skewness_that_its_docstring_names():
    light, gain = 0.1, 1e-3  # 100 photons: a tenth
    exact, approximate = (
        np.asarray(
            degrade.poisson_gaussian_noise(KEY, flat(light), gain=gain, read_noise=0.0, exact=e)
        )
        for e in (True, False)
    )
    np.testing.assert_allclose(scipy.stats.skew(exact.ravel()), 0.1, atol=0.015)
    np.testing.assert_allclose(scipy.stats.skew(approximate.ravel()), 0, atol=0.015)


def test_banding_is_the_same_along_a_row_and_in_all_channels():
    rows = np.asarray(degrade.banding_noise(KEY, flat(0.5), row_sigma=0.05, column_sigma=0.0))
    assert (rows == rows[:, :1, :1]).all()
    np.testing.assert_allclose(rows[:, 0, 0].std(), 0.05, rtol=0.15)
    both = np.asarray(degrade.banding_noise(KEY, flat(0.5), row_sigma=0.02, column_sigma=0.05))
    assert (both == both[..., :1]).all()
    np.testing.assert_allclose(both.mean(axis=0)[:, 0].std(), 0.05, rtol=0.15)
    np.testing.assert_allclose(both.mean(axis=1)[:, 0].std(), 0.02, rtol=0.15)


@pytest.mark.parametrize(("salt", "pepper"), [(0.02, 0.1), (0.0, 0.3), (0.5, 0.5)])
def test_impulses_hit_whole_pixels_with_the_densities_asked_for(salt, pepper):
    hit = np.asarray(degrade.salt_and_pepper(KEY, flat(0.5), salt=salt, pepper=pepper))
    assert (hit == hit[..., :1]).all()
    pixels = hit[..., 0].size
    for value, density in ((1, salt), (0, pepper)):
        error = 5 * np.sqrt(density * (1 - density) / pixels)
        np.testing.assert_allclose((hit[..., 0] == value).mean(), density, atol=error)
    assert set(np.unique(hit)) <= {0, 0.5, 1}


def test_impulses_pass_the_gradient_where_the_image_was_kept():
    image = flat(0.5)[:20, :20]
    slope = jax.grad(lambda x: degrade.salt_and_pepper(KEY, x, salt=0.2, pepper=0.2).sum())(image)
    hit = degrade.salt_and_pepper(KEY, image, salt=0.2, pepper=0.2) != 0.5
    np.testing.assert_array_equal(slope, 1 - hit)
    assert 0.2 < hit.mean() < 0.6


@pytest.mark.parametrize("bits", [1, 4, 8, 12])
def test_quantising_equals_numpy_rounding(photographs, bits):
    steps = 2**bits - 1
    expected = np.rint(photographs.astype(np.float64) * steps) / steps
    quantised = degrade.quantise(jnp.asarray(photographs), bits=bits)
    # a sample half-way between two levels may fall either way in single precision
    apart = np.abs(quantised - expected)
    assert (apart > 1e-6).mean() < 1e-3
    assert apart.max() <= 1.001 / steps
    assert len(np.unique(quantised)) <= 2**bits


def test_eight_bits_leave_an_eight_bit_image_as_it_is(photographs):
    np.testing.assert_allclose(
        degrade.quantise(jnp.asarray(photographs), bits=8), photographs, atol=1e-7
    )


def test_the_gradients_of_sensor_noise_are_those_of_its_docstring():
    with jax.enable_x64(True):
        image = jnp.linspace(0.05, 0.9, 24, dtype=jnp.float64).reshape(4, 2, 3)
        gain, read_noise = jnp.float64(0.004), jnp.float64(0.01)

        def noisy(x, gain, read_noise):
            return degrade.poisson_gaussian_noise(KEY, x, gain=gain, read_noise=read_noise)

        by_read = noisy(image, 0.0, 1e-4) - image  # nothing is clipped, so that this is z times it
        z = by_read / 1e-4
        e = (noisy(image, gain, 0.0) - image) / jnp.sqrt(gain)
        _, with_gain = jax.jvp(lambda g: noisy(image, g, read_noise), (gain,), (1.0,))
        _, with_read = jax.jvp(lambda r: noisy(image, gain, r), (read_noise,), (1.0,))
        _, with_light = jax.jvp(lambda x: noisy(x, gain, read_noise), (image,), (image,))
        np.testing.assert_allclose(with_gain, e / (2 * jnp.sqrt(gain)), rtol=1e-6)
        np.testing.assert_allclose(with_read, z, rtol=1e-6)
        np.testing.assert_allclose(with_light, image, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: degrade.gaussian_noise(KEY, x, sigma=-0.1), r"sigma is -0.1; .* >= 0"),
        (lambda x: degrade.gaussian_noise(KEY, x, sigma=float("nan")), "sigma is NaN"),
        (lambda x: degrade.poisson_noise(KEY, x, peak=0.0), "peak is 0"),
        (lambda x: degrade.poisson_noise(KEY, x, peak=np.ones(7)), r"peak has shape \(7,\)"),
        (lambda x: degrade.salt_and_pepper(KEY, x, salt=0.7, pepper=0.6), r"salt \+ pepper is 1.3"),
        (lambda x: degrade.salt_and_pepper(KEY, x, salt=0.1, pepper=1.5), "pepper is 1.5"),
        (lambda x: degrade.quantise(x, bits=0), r"bits is 0; .* in \[1, 24\]"),
        (lambda x: degrade.banding_noise(KEY, x, row_sigma=-1, column_sigma=0), "row_sigma is -1"),
    ],
)
def test_values_out_of_range_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.full((8, 8, 3), 0.5))
