"""Impulses counted against impulses injected, and what is black or white by right."""

import jax
import numpy as np
import pytest
import skimage.data
from skimage.util import random_noise

from lle_jax.artifacts import impulse_density


@pytest.fixture(scope="module")
def measure():
    return jax.jit(impulse_density)


@pytest.fixture(scope="module")
def photo():
    """A retina within its black surround, `[176, 176, 3]`."""
    return skimage.data.retina()[:1408, :1408].reshape(176, 8, 176, 8, 3).mean((1, 3)) / 255


def eight_bit(image):
    return (np.rint(np.clip(image, 0, 1) * 255) / 255).astype(np.float32)


def tones(photo):
    return {"bright": photo, "dim": 0.15 * photo, "curved": 0.3 * photo**2.2}


@pytest.mark.parametrize("tone", ["bright", "dim", "curved"])
@pytest.mark.parametrize("sigma", [0, 0.02])
@pytest.mark.parametrize("density", [0, 0.01, 0.05, 0.2])
def test_density_is_that_injected_by_scikit_image(photo, measure, tone, sigma, density):
    clean = tones(photo)[tone] + sigma * np.random.default_rng(0).standard_normal(photo.shape)
    flags = random_noise(
        np.full(photo.shape[:2], 0.5), "s&p", rng=1, amount=density, salt_vs_pepper=0.25
    )
    hit = np.where(flags[..., None] == 0.5, eight_bit(clean), flags[..., None]).astype(np.float32)
    salt, pepper = measure(hit)
    assert abs(salt - np.mean(flags == 1)) < 0.01
    assert abs(pepper - np.mean(flags == 0)) < 0.01


def test_impulses_do_not_count_legitimate_black_or_white(measure, photo):
    picture = np.full(photo.shape, 0.4, np.float32)
    picture[:60] = 0  # a black border
    picture[100:120, 50:90] = 1  # a highlight
    assert (picture == 0).all(-1).mean() > 0.3
    salt, pepper = measure(picture)
    assert salt == 0
    assert pepper == 0


def test_a_negative_exchanges_salt_and_pepper(measure, photo):
    generator = np.random.default_rng(2)
    hit = np.where(generator.random((*photo.shape[:2], 1)) < 0.03, 0, eight_bit(0.5 * photo + 0.2))
    salt, pepper = measure(hit.astype(np.float32))
    negative_salt, negative_pepper = measure((1 - hit).astype(np.float32))
    assert pepper > 0.02
    np.testing.assert_allclose([negative_salt, negative_pepper], [pepper, salt], atol=1e-6)


def test_a_batch_is_counted_image_by_image(measure, photo):
    batch = np.stack([eight_bit(photo), eight_bit(0.15 * photo)])
    batch[1, 80:100:3, 80:100:3] = 1
    salt, pepper = impulse_density(batch)
    for index in range(2):
        np.testing.assert_allclose([salt[index], pepper[index]], measure(batch[index]), rtol=1e-6)
    assert salt[1] > salt[0] == 0


def test_where_no_impulse_could_be_told_the_density_is_unknown():
    salt, pepper = impulse_density(np.zeros((9, 9, 3), np.float32))
    assert np.isnan(pepper)
    assert np.isnan(salt)  # every pixel is one of the candidates, and nothing else is there
    with pytest.raises(ValueError, match=r"expected \[\.\.\., height"):
        impulse_density(np.zeros((9, 9), np.float32))
