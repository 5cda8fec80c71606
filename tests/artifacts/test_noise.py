"""The noise measured against the noise injected, in bright light and where darkness clips it."""

import jax
import numpy as np
import pytest
import scipy.ndimage
import skimage.data

from lle_jax.artifacts import noise_sigma

SHAPE = (128, 160, 3)


def eight_bit(image):
    return (np.rint(np.clip(image, 0, 1) * 255) / 255).astype(np.float32)


@pytest.fixture(scope="module")
def ramp():
    """A smooth picture from black to half, without noise of its own: `[128, 160, 3]`."""
    x, y, c = np.meshgrid(*(np.linspace(0, 1, n) for n in (SHAPE[1], SHAPE[0], 3)))
    return 0.25 * (x + y) * (0.6 + 0.4 * c)


@pytest.fixture(scope="module")
def measure():
    return jax.jit(noise_sigma)


@pytest.mark.parametrize("sigma", [0.005, 0.02, 0.1])
@pytest.mark.parametrize("gain", [1, 0.15, 0])
def test_noise_is_measured_through_clipping_at_zero(ramp, measure, gain, sigma):
    noise = np.random.default_rng(0).standard_normal(SHAPE)
    noisy = eight_bit(gain * ramp + sigma * noise)
    # measured over four seeds: 5 % at most, except 8 % where 1.3 levels of noise fall on black
    tolerance = 0.1 if sigma == 0.005 else 0.06
    assert measure(noisy) == pytest.approx(sigma, rel=tolerance)


def test_noise_on_black_is_what_others_miss_by_a_third(measure):
    noise = 0.05 * np.random.default_rng(1).standard_normal(SHAPE)
    black = eight_bit(noise)
    # Immerkaer, "Fast noise variance estimation", CVIU 64(2), 1996
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])[..., None]
    response = np.abs(scipy.ndimage.convolve(black.astype(np.float64), mask))
    assert np.sqrt(np.pi / 2) / 6 * response.mean() < 0.67 * 0.05
    assert measure(black) == pytest.approx(0.05, rel=0.05)


def test_noise_in_dark_photographs(measure):
    photo = skimage.data.retina()[300:556, 300:620].reshape(128, 2, 160, 2, 3).mean((1, 3)) / 255
    noise = np.random.default_rng(2).standard_normal(SHAPE)
    for sigma in (0.01, 0.05):
        assert measure(eight_bit(0.15 * photo + sigma * noise)) == pytest.approx(sigma, rel=0.06)


def test_a_picture_without_noise_has_none(ramp, measure):
    assert measure(eight_bit(ramp)) < 0.3 / 255


def test_structure_in_half_of_the_picture_is_not_noise(ramp, measure):
    noisy = ramp + 0.02 * np.random.default_rng(3).standard_normal(SHAPE)
    noisy[:, :80] += (
        0.3 * (np.arange(80) // 3 % 2)[:, None] * (np.arange(128) // 3 % 2)[:, None, None]
    )
    assert measure(eight_bit(noisy)) == pytest.approx(0.02, rel=0.08)


def test_a_batch_is_measured_image_by_image(ramp, measure):
    generator = np.random.default_rng(4)
    batch = np.stack([eight_bit(ramp + s * generator.standard_normal(SHAPE)) for s in (0.01, 0.03)])
    found = noise_sigma(batch)
    assert found.shape == (2,)
    np.testing.assert_allclose(found, [measure(image) for image in batch], rtol=1e-4)


def test_black_frames_and_bad_input():
    assert np.isnan(noise_sigma(np.zeros(SHAPE, np.float32)))
    with pytest.raises(ValueError, match="at least 8 x 8"):
        noise_sigma(np.zeros((7, 9, 3), np.float32))
    with pytest.raises(ValueError, match="dtype uint8"):
        noise_sigma(np.zeros((9, 9, 3), np.uint8))
