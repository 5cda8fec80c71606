"""The camera against OpenCV, SciPy, scikit-image, published kernels and moments of its noise."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import scipy.stats
import skimage.filters

from lle_jax import degrade
from lle_jax.degrade import camera

KEY = jax.random.key(3)
sensor = jax.jit(camera.bayer_sensor)
demosaic = jax.jit(camera.demosaic)


def inner(image, border=4):
    return np.asarray(image)[..., border:-border, border:-border, :]


@pytest.fixture(scope="module")
def colours():
    return np.random.default_rng(0).random((20, 23, 3)).astype(np.float32)


def test_the_mosaic_is_rggb(colours):
    raw = np.asarray(camera.mosaic(colours))[..., 0]
    np.testing.assert_array_equal(raw[0::2, 0::2], colours[0::2, 0::2, 0])
    np.testing.assert_array_equal(raw[0::2, 1::2], colours[0::2, 1::2, 1])
    np.testing.assert_array_equal(raw[1::2, 0::2], colours[1::2, 0::2, 1])
    np.testing.assert_array_equal(raw[1::2, 1::2], colours[1::2, 1::2, 2])


def test_bilinear_demosaicing_is_that_of_opencv(colours):
    raw = np.rint(np.asarray(camera.mosaic(colours)) * 65535).astype(np.uint16)
    # OpenCV names a pattern by its second row's second and third pixel
    expected = cv2.cvtColor(raw, cv2.COLOR_BayerBG2RGB) / 65535
    ours = demosaic(jnp.asarray(raw / np.float32(65535)), correction=0.0)
    assert np.abs(inner(ours) - inner(expected)).max() < 1.1 / 65535


def test_corrected_demosaicing_is_that_of_the_published_kernels(colours):
    raw = np.asarray(camera.mosaic(colours), np.float64)[..., 0]
    green = np.array([[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0],
                      [0, 0, -1, 0, 0]]) / 8  # fmt: skip
    row = np.array([[0, 0, 0.5, 0, 0], [0, -1, 0, -1, 0], [-1, 4, 5, 4, -1], [0, -1, 0, -1, 0],
                    [0, 0, 0.5, 0, 0]]) / 8  # fmt: skip
    opposite = np.array([[0, 0, -1.5, 0, 0], [0, 2, 0, 2, 0], [-1.5, 0, 6, 0, -1.5],
                         [0, 2, 0, 2, 0], [0, 0, -1.5, 0, 0]]) / 8  # fmt: skip
    at_green, in_row, in_column, across = (
        scipy.ndimage.convolve(raw, kernel, mode="mirror")
        for kernel in (green, row, row.T, opposite)
    )
    expected = np.repeat(raw[..., None], 3, axis=-1)
    expected[0::2, 0::2, 1], expected[1::2, 1::2, 1] = at_green[0::2, 0::2], at_green[1::2, 1::2]
    expected[0::2, 1::2, 0], expected[1::2, 0::2, 0] = in_row[0::2, 1::2], in_column[1::2, 0::2]
    expected[0::2, 1::2, 2], expected[1::2, 0::2, 2] = in_column[0::2, 1::2], in_row[1::2, 0::2]
    expected[1::2, 1::2, 0], expected[0::2, 0::2, 2] = across[1::2, 1::2], across[0::2, 0::2]
    np.testing.assert_allclose(demosaic(camera.mosaic(colours)), expected, atol=1e-6)


def test_a_flat_image_comes_back(colours):
    flat = jnp.broadcast_to(jnp.array([0.2, 0.5, 0.3]), (20, 23, 3))
    for correction in (0.0, 0.5, 1.0):
        shown = demosaic(camera.mosaic(flat), correction=correction)
        np.testing.assert_allclose(shown, flat, atol=1e-6)
    developed = sensor(KEY, flat, gain=0.0, read_noise=0.0, bits=24.0, camera=1.3)
    np.testing.assert_allclose(developed, flat, atol=1e-5)


@pytest.mark.parametrize("tail", [0.0, 0.36, 1.0])
def test_read_noise_has_the_moments_of_tukeys_distribution(tail):
    lam = camera.LAMBDAS[0] + (camera.LAMBDAS[1] - camera.LAMBDAS[0]) * tail
    z = np.asarray(camera.tukey_lambda(KEY, (1000, 1000), jnp.float32(tail)), np.float64)
    assert abs(z.mean()) < 0.004
    assert abs(z.std() - 1) < 0.01
    reference = scipy.stats.tukeylambda(lam, scale=scipy.stats.tukeylambda(lam).std() ** -1)
    quantiles = np.array([0.001, 0.01, 0.1, 0.25, 0.75, 0.99])
    np.testing.assert_allclose(np.quantile(z, quantiles), reference.ppf(quantiles), rtol=0.03)


def test_noise_at_the_sensor_has_the_moments_that_are_asked_for():
    """Of a grey detector, which shows the numbers of its converter."""
    light = jnp.full((400, 400, 1), 0.3, jnp.float32)
    parameters = {"gain": 0.002, "read_noise": 0.01, "row_noise": 0.02}
    shown = np.asarray(sensor(KEY, light, **parameters, tail=0.5, bits=14.0))[..., 0]
    rows = shown.mean(axis=1)
    assert abs(shown.mean() - 0.3) < 0.005
    within = (shown - rows[:, None]).var()
    assert abs(within / (0.002 * 0.3 + 0.01**2) - 1) < 0.03
    assert abs(rows.std() / 0.02 - 1) < 0.12
    coarse = np.asarray(sensor(KEY, light, **dict.fromkeys(parameters, 0.0), tail=0.5, bits=6.0))
    # 0.3 and the black level is 21.7 of 63, which is stored as 22
    np.testing.assert_allclose(coarse, (22 / 63 - 1 / 16) * 16 / 15, rtol=1e-5)


def correlation(noise, row, column):
    """The autocorrelation of the first channel at a lag."""
    noise = noise[..., 0] - noise[..., 0].mean()
    height, width = noise.shape
    product = noise[row:, column:] * noise[: height - row, : width - column]
    return float(product.mean() / noise.var())


def test_its_noise_is_correlated_where_the_old_is_not():
    light = jnp.full((300, 300, 3), 0.2, jnp.float32) * jnp.array([1, 0.9, 0.8])
    shown = np.asarray(sensor(KEY, light, gain=0.003, read_noise=0.01))
    old = np.asarray(degrade.poisson_gaussian_noise(KEY, light, gain=0.003, read_noise=0.01))
    for lag in ((0, 1), (1, 0)):
        assert correlation(shown, *lag) > 0.2
        assert abs(correlation(old, *lag)) < 0.02
    coarse = np.asarray(camera.denoise(shown, luma=0.03, chroma=0.1))
    assert correlation(coarse, 0, 2) > correlation(shown, 0, 2) + 0.1
    # colour is denoised more than brightness
    spread = [np.ptp(image - image.mean(axis=(0, 1)), axis=-1).mean() for image in (shown, coarse)]
    assert spread[1] < 0.5 * spread[0]


def test_a_grey_image_stays_grey_and_its_noise_is_not_correlated():
    light = jnp.full((300, 300, 3), 0.2, jnp.float32)
    shown = np.asarray(sensor(KEY, light, gain=0.003, read_noise=0.01))
    assert (shown == shown[..., :1]).all()
    assert abs(correlation(shown, 0, 1)) < 0.02


def test_denoising_is_the_filter_of_scipy(colours):
    luma = colours @ np.array([0.299, 0.587, 0.114], np.float32)
    expected = scipy.signal.wiener(luma.astype(np.float64), 5, noise=0.1**2)
    ours = camera.denoise(luma[..., None], luma=0.1, chroma=0.0)
    np.testing.assert_allclose(inner(ours)[..., 0], inner(expected[..., None])[..., 0], atol=2e-6)
    np.testing.assert_array_equal(camera.denoise(colours, luma=0.0, chroma=0.0), colours)
    kept = np.asarray(camera.denoise(0.25 + colours / 2, luma=0.0, chroma=0.2))
    assert np.abs(kept - 0.25 - colours / 2).max() > 0.05


def test_sharpening_is_that_of_scikit_image(colours):
    planes = [
        skimage.filters.unsharp_mask(colours[..., channel].astype(np.float64), 1.5, 0.7)
        for channel in range(3)
    ]
    ours = camera.sharpen(colours, amount=0.7, sigma=1.5)
    np.testing.assert_allclose(ours, np.stack(planes, axis=-1), atol=1e-5)


def test_gradients_pass_straight_through_rounding(colours):
    light = 0.3 + 0.4 * colours

    def total(light, read_noise):
        shown = sensor(KEY, light, gain=0.0, read_noise=read_noise, bits=16.0)
        return jnp.sum(shown * colours)

    slopes = jax.grad(total, (0, 1))(light, 0.01)
    # without photons and clipping the sensor is linear in both
    step = 0.004
    numeric = (total(light, 0.01 + step) - total(light, 0.01 - step)) / (2 * step)
    assert float(slopes[1]) == pytest.approx(float(numeric), rel=0.01)
    numeric = (total(light + step * colours, 0.01) - total(light - step * colours, 0.01)) / step / 2
    assert float((slopes[0] * colours).sum()) == pytest.approx(float(numeric), rel=0.001)


def test_images_of_a_batch_have_parameters_of_their_own():
    light = jnp.broadcast_to(jnp.array([0.4, 0.3, 0.2]), (2, 64, 64, 3))
    shown = sensor(
        KEY, light, gain=0.0, read_noise=jnp.array([0.001, 0.02]), camera=jnp.array([0.0, 3.0])
    )
    deviation = np.asarray(shown).std(axis=(1, 2, 3)) - np.asarray(light).std(axis=(1, 2, 3))
    assert deviation[1] > 5 * deviation[0]
