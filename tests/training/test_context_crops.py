import jax
import ml_collections
import numpy as np
import pytest

from lle_jax import models
from lle_jax.training import context_crops as views

CROP = 32
CONFIGS = {
    "dual_path": {"name": "dual_path", "dtype": "float32", "widths": (4, 6), "blocks": (1, 1)},
    "unet": {"name": "unet", "dtype": "float32", "widths": (4, 6), "blocks": 1},
}


def built(name):
    config = ml_collections.ConfigDict(CONFIGS[name])
    apply, params = models.build(config, jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: p + rng.normal(0, 0.03, p.shape).astype(np.float32), params)
    return config, apply, params


@pytest.fixture
def view():
    """A batch of two views, 64 x 96, in which every pixel differs, and a darker version."""
    clean = np.random.default_rng(1).random((2, 64, 96, 3)).astype(np.float32)
    return clean, clean * np.linspace(0.1, 0.9, 96, dtype=np.float32)[:, None]


def corner_of(crop, clean):
    rows, columns = np.nonzero(clean[0, ..., 0] == crop[0, 0, 0, 0])
    return int(rows[0]), int(columns[0])


def test_a_network_in_two_steps_sees_the_view_and_restores_a_tile_of_it(view):
    clean, low = view
    config, apply, params = built("dual_path")
    steps = models.tiled(config)
    cut = jax.jit(views.make(config, apply, CROP))
    found = set()
    for number in range(12):
        restored, truth = map(np.asarray, cut(jax.random.key(number), params, low, clean))
        top, left = corner_of(truth, clean)
        found.add((top, left))
        assert top % steps.multiple == left % steps.multiple == 0
        part = np.s_[:, top : top + CROP, left : left + CROP]
        np.testing.assert_array_equal(truth, clean[part])
        context = steps.context(params, low)
        expected = steps.restore(params, low[part], context, (top, left), low.shape[1:3])
        np.testing.assert_allclose(restored, expected, atol=1e-5)
    assert len(found) > 6
    assert np.abs(restored - apply(params, low[part])).max() > 1e-3  # not what the crop alone says


def test_any_other_network_sees_the_crop(view):
    clean, low = view
    config, apply, params = built("unet")
    cut = jax.jit(views.make(config, apply, CROP))
    found = set()
    for number in range(12):
        restored, truth = map(np.asarray, cut(jax.random.key(number), params, low, clean))
        top, left = corner_of(truth, clean)
        found.add((top % 2, left % 2))
        expected = apply(params, low[:, top : top + CROP, left : left + CROP])
        np.testing.assert_allclose(restored, expected, atol=1e-5)
    assert len(found) == 4  # it may start anywhere


def test_a_view_as_large_as_the_crop_is_restored_whole(view):
    clean, low = (image[:, :CROP, :CROP] for image in view)
    config, apply, params = built("dual_path")
    restored, truth = views.make(config, apply, CROP)(jax.random.key(0), params, low, clean)
    np.testing.assert_array_equal(truth, clean)
    np.testing.assert_allclose(restored, apply(params, low), atol=1e-5)
