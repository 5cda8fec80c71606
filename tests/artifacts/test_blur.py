"""Blur measured against blur injected by SciPy."""

import jax
import numpy as np
import pytest
import scipy.ndimage
import skimage.data
from scipy.stats import spearmanr

from lle_jax.artifacts import blur_sigma

BLURS = (0, 0.5, 1, 1.5, 2, 3, 4)


@pytest.fixture(scope="module")
def measure():
    return jax.jit(blur_sigma)


def blurred(image, sigma):
    return scipy.ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="reflect")


def eight_bit(image):
    return (np.rint(np.clip(image, 0, 1) * 255) / 255).astype(np.float32)


@pytest.mark.parametrize("noise", [0, 0.01])
@pytest.mark.parametrize("sigma", [0.7, 1, 2, 3])
def test_blur_of_step_edges_is_that_injected(measure, sigma, noise):
    # Edges wider apart than they are blurred, at all angles, sampled from 4 x 4 points a pixel.
    y, x = (np.mgrid[:640, :640] + 0.5) / 4 - 80
    circles = 0.2 + 0.3 * (np.hypot(x, y) // 32 % 2)
    scene = circles.reshape(160, 4, 160, 4).mean((1, 3))[..., None]
    scene = blurred(scene, np.sqrt(sigma**2 - 1 / 12))  # a pixel's own blur has variance 1/12
    noisy = scene + noise * np.random.default_rng(0).standard_normal(scene.shape)
    assert measure(eight_bit(noisy)) == pytest.approx(sigma, rel=0.1)


def test_blur_orders_photographs_through_tone_and_noise(measure):
    small = skimage.data.immunohistochemistry()[:480, :480].reshape(160, 3, 160, 3, 3)
    photo = small.mean((1, 3)) / 255
    generator = np.random.default_rng(1)
    truth, found = [], []
    for tone in (photo, 0.15 * photo, 0.3 * photo**2.2):
        for sigma in BLURS:
            noisy = blurred(tone, sigma) + 0.01 * generator.standard_normal(photo.shape)
            truth.append(sigma)
            found.append(float(measure(eight_bit(noisy))))
    assert spearmanr(truth, found)[0] > 0.9


def test_noise_does_not_hide_blur(measure):
    photo = skimage.data.camera()[100:260, 100:260, None] / 255
    dull = blurred(photo, 2)
    noisy = dull + 0.01 * np.random.default_rng(2).standard_normal(dull.shape)
    assert measure(eight_bit(noisy)) == pytest.approx(float(measure(eight_bit(dull))), rel=0.15)


def test_scaling_the_tone_does_not_change_blur(measure):
    photo = blurred(skimage.data.camera()[100:260, 100:260, None] / 255, 1).astype(np.float32)
    assert measure(0.5 * photo) == pytest.approx(float(measure(photo)), rel=0.05)


def test_a_batch_is_measured_image_by_image(measure):
    photo = skimage.data.camera()[100:260, 100:260, None] / 255
    batch = np.stack([eight_bit(photo), eight_bit(blurred(photo, 2))])
    found = blur_sigma(batch)
    np.testing.assert_allclose(found, [measure(image) for image in batch], rtol=1e-4)
    assert found[1] > found[0] + 1


def test_without_structure_the_blur_is_the_largest():
    assert blur_sigma(np.full((64, 64, 1), 0.3, np.float32)) == 20
    with pytest.raises(ValueError, match="at least 8 x 8"):
        blur_sigma(np.zeros((64, 7, 1), np.float32))
