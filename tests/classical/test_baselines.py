import cv2
import numpy as np
import pytest
import skimage.exposure

from lle_jax import classical


@pytest.fixture
def dark(photographs):
    return 0.2 * photographs[0]


def test_gamma_brings_a_pixel_of_mean_luma_to_one_half():
    grey = np.linspace(0.05, 0.25, 256, dtype=np.float32).reshape(16, 16, 1)
    exponent = np.log(0.5) / np.log(grey.mean())
    expected = skimage.exposure.adjust_gamma(grey, exponent)
    np.testing.assert_allclose(classical.gamma_from_mean(grey), expected, atol=1e-6)
    np.testing.assert_allclose(grey.mean() ** exponent, 0.5, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_gamma_of_a_flat_black_or_white_image_is_finite(value):
    flat = np.full((8, 8, 3), value, np.float32)
    np.testing.assert_array_equal(classical.gamma_from_mean(flat), flat)


def test_histogram_equalisation_of_grey_follows_the_cumulative_histogram(dark):
    grey = np.rint(dark[..., 1:2] * 255).astype(np.float32) / 255
    levels = np.rint(grey[..., 0] * 255).astype(np.uint8)
    expected = skimage.exposure.equalize_hist(levels, 256)[..., None]
    # OpenCV maps the darkest level to 0, scikit-image to its own share of the pixels.
    darkest = np.mean(grey == grey.min())
    expected = (expected - darkest) / (1 - darkest)
    np.testing.assert_allclose(classical.histogram_equalisation(grey), expected, atol=0.6 / 255)


def test_clahe_uses_opencvs_lightness_and_leaves_the_colour(dark):
    before = cv2.cvtColor(np.rint(dark * 255).astype(np.uint8), cv2.COLOR_RGB2LAB)
    output = np.rint(classical.clahe(dark) * 255).astype(np.uint8)
    after = cv2.cvtColor(output, cv2.COLOR_RGB2LAB)
    assert after[..., 0].mean() > before[..., 0].mean() + 10
    assert np.abs(after[..., 1:].astype(int) - before[..., 1:]).mean() < 4


def test_non_local_means_removes_noise(photographs):
    clean = np.full((64, 64, 3), 0.5, np.float32)
    noisy = clean + np.random.default_rng(0).normal(0, 0.02, clean.shape).astype(np.float32)
    assert classical.nlm(noisy).std() < 0.3 * noisy.std()


@pytest.mark.parametrize("name", classical.METHODS)
def test_every_method_keeps_shape_range_and_grey(name, dark):
    for image in (dark, dark[..., :1], np.repeat(dark[..., :1], 3, axis=-1)):
        before = image.copy()
        output = classical.METHODS[name](image)
        assert output.shape == image.shape
        assert output.dtype == np.float32
        assert 0 <= output.min() <= output.max() <= 1
        assert output.mean() > image.mean()
        np.testing.assert_array_equal(image, before)
