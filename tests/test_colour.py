import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lle_jax import colour
from lle_jax.models import grid


def cells(image):
    return np.asarray(grid.cell_means(image))[..., :3]


def tinted(image, tint):
    return colour.linear_to_srgb(colour.srgb_to_linear(image) * jnp.array(tint))


@pytest.mark.parametrize("tint", [(1, 1, 1), (0.95, 0.9, 0.6), (0.3, 0.9, 0.4)])
def test_a_grey_image_under_a_tint_is_known_and_the_tint_undone(photographs, tint):
    grey = colour.luma(photographs)
    image = np.rint(255 * np.asarray(tinted(grey, tint))) / 255  # as files have it
    known, factors = jax.jit(colour.grey_under_tint)(cells(image))
    assert known.shape == (2, 1, 1, 1)
    assert known.all()
    neutral = cells(image) * factors
    bright = neutral.mean(axis=-1) > 0.1
    assert np.ptp(neutral, axis=-1)[bright].max() < 0.03


def test_a_colour_image_is_not_called_grey_under_a_tint(photographs):
    for tint in ((1, 1, 1), (0.9, 0.5, 0.3), (0.1, 0.09, 0.06)):
        known, factors = colour.grey_under_tint(cells(tinted(photographs, tint)))
        assert not known.any()
        np.testing.assert_array_equal(factors, 1)


def test_neither_is_a_grey_one_with_a_coloured_mark(photographs):
    image = np.repeat(np.asarray(colour.luma(photographs)), 3, axis=-1)
    image[:, :6, :6] = [1, 0.8, 0]
    assert not colour.grey_under_tint(cells(image))[0].any()


def test_nor_an_even_surface_of_one_colour_nor_a_black_image():
    flat = np.broadcast_to(np.float32([0.6, 0.3, 0.2]), (1, 40, 40, 3))
    for image in (flat, 0 * flat):
        known, factors = colour.grey_under_tint(cells(image))
        assert not known.any()
        np.testing.assert_array_equal(factors, 1)


def test_each_image_of_a_batch_is_judged_by_itself(photographs):
    grey = np.repeat(colour.luma(photographs[:1]), 3, axis=-1)
    batch = np.stack([tinted(grey[0], (0.9, 0.7, 0.5)), photographs[0]])
    assert colour.grey_under_tint(cells(batch))[0].ravel().tolist() == [True, False]
