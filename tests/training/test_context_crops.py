import jax
import ml_collections
import numpy as np
import pytest

from lle_jax import models
from lle_jax.training import context_crops

CROP = 32
CONFIGS = {
    "dual_path": {
        "name": "dual_path",
        "dtype": "float32",
        "widths": (4, 6),
        "blocks": (1, 1),
        "uncertainty": False,
        "exposure_path": False,
    },
    "unet": {"name": "unet", "dtype": "float32", "widths": (4, 6), "blocks": 1},
}


def built(name):
    config = ml_collections.ConfigDict(CONFIGS[name])
    apply, params = models.build(config, jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: p + rng.normal(0, 0.03, p.shape).astype(np.float32), params)
    return config, jax.jit(apply), params


@pytest.fixture
def context_crop():
    """A batch of two context crops, 64 x 96, in which every pixel differs, and a darker version."""
    clean = np.random.default_rng(1).random((2, 64, 96, 3)).astype(np.float32)
    return clean, clean * np.linspace(0.1, 0.9, 96, dtype=np.float32)[:, None]


def made(config, apply):
    tiled = models.tiled(config) if models.is_tiled(config) else None
    return context_crops.make(CROP, apply, tiled, tiled.restore if tiled else None)


def test_told_images_get_other_light_and_its_mean(context_crop):
    clean, _ = context_crop
    clean = np.concatenate([0.5 * clean] * 16)
    images, means = map(np.asarray, context_crops.told(jax.random.key(3), clean, 0.5))
    told = ~np.isnan(means[:, 0, 0, 0])
    assert 0.2 < told.mean() < 0.8
    np.testing.assert_array_equal(images[~told], clean[~told])
    stops = []
    for image, before, mean in zip(images[told], clean[told], means[told], strict=True):
        assert mean == pytest.approx((image @ [0.299, 0.587, 0.114]).mean(), rel=1e-5)
        factor = np.divide(*(np.maximum(x + 0.055, 0.1) ** 2.4 for x in (image, before)))
        factor = factor[(image > 0.1) & (image < 1) & (before > 0.1)]
        assert np.ptp(factor) < 0.01  # one exposure
        stops.append(np.log2(factor.mean()))
    assert min(stops) < -0.5
    assert max(stops) > 0.5
    assert np.abs(stops).max() <= context_crops.STOPS + 0.01


def test_the_context_of_told_images_states_the_mean_luma_of_their_target(context_crop):
    clean, low = (np.concatenate([0.6 * image[:, :CROP, :CROP]] * 8) for image in context_crop)
    config, apply, params = built("dual_path")
    tiled = models.tiled(config)
    calls = []

    def compute_context(params, image, exposure):
        context = tiled.compute_context(params, image, exposure)
        calls.append((exposure, context.exposure))
        return context

    forward = context_crops.make(
        CROP, apply, tiled._replace(compute_context=compute_context), tiled.restore, 0.5
    )
    _, target = forward(jax.random.key(0), params, low, clean)
    ((wanted, stated),) = [tuple(np.asarray(part)[:, 0, 0, 0] for part in call) for call in calls]
    told = ~np.isnan(wanted)
    assert 2 < told.sum() < 14
    means = (np.asarray(target) @ np.array([0.299, 0.587, 0.114])).mean(axis=(1, 2))
    np.testing.assert_allclose(wanted[told], means[told], rtol=1e-4)
    np.testing.assert_allclose(stated[told], means[told], rtol=0.01)
    alone = np.asarray(tiled.compute_context(params, low).exposure)[:, 0, 0, 0]
    np.testing.assert_allclose(stated[~told], alone[~told], rtol=1e-5)
    assert np.abs(alone - means).min() > 0.005


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_the_fraction_that_is_told_is_the_option(context_crop, fraction):
    clean, low = context_crop
    config, apply, params = built("dual_path")
    tiled = models.tiled(config)
    forward = context_crops.make(CROP, apply, tiled, tiled.restore, fraction)
    _, truth = jax.jit(forward)(jax.random.key(0), params, low, clean)
    corner = corner_of(truth, clean) if not fraction else None
    assert (corner is None) == (fraction == 1)
    if fraction:
        assert np.isin(np.asarray(truth), clean).mean() < 0.01


def corner_of(crop, clean):
    rows, columns = np.nonzero(clean[0, ..., 0] == crop[0, 0, 0, 0])
    return int(rows[0]), int(columns[0])


def test_a_network_in_two_steps_gets_the_context_and_restores_a_tile_of_it(context_crop):
    clean, low = context_crop
    config, apply, params = built("dual_path")
    steps = models.tiled(config)
    forward = jax.jit(made(config, apply))
    compute_context = jax.jit(steps.compute_context)
    restore = jax.jit(steps.restore, static_argnums=4)
    corners = set()
    for number in range(12):
        restored, truth = map(np.asarray, forward(jax.random.key(number), params, low, clean))
        top, left = corner_of(truth, clean)
        corners.add((top, left))
        assert top % steps.multiple == left % steps.multiple == 0
        part = np.s_[:, top : top + CROP, left : left + CROP]
        np.testing.assert_array_equal(truth, clean[part])
        context = compute_context(params, low)
        expected = restore(params, low[part], context, (top, left), low.shape[1:3])
        np.testing.assert_allclose(restored, expected, atol=1e-5)
    assert len(corners) > 6
    assert np.abs(restored - apply(params, low[part])).max() > 1e-3  # not what the crop alone says


def test_any_other_network_gets_the_tile(context_crop):
    clean, low = context_crop
    config, apply, params = built("unet")
    forward = jax.jit(made(config, apply))
    found = set()
    for number in range(12):
        restored, truth = map(np.asarray, forward(jax.random.key(number), params, low, clean))
        top, left = corner_of(truth, clean)
        found.add((top % 2, left % 2))
        expected = apply(params, low[:, top : top + CROP, left : left + CROP])
        np.testing.assert_allclose(restored, expected, atol=1e-5)
    assert len(found) == 4  # it may start anywhere


def test_a_context_crop_as_large_as_the_tile_is_restored_whole(context_crop):
    clean, low = (image[:, :CROP, :CROP] for image in context_crop)
    config, apply, params = built("dual_path")
    restored, truth = made(config, apply)(jax.random.key(0), params, low, clean)
    np.testing.assert_array_equal(truth, clean)
    np.testing.assert_allclose(restored, apply(params, low), atol=1e-5)


def test_the_last_corner_is_drawn(context_crop):
    clean, low = (image[:, : CROP + 1, : CROP + 1] for image in context_crop)
    config, _, params = built("unet")
    forward = jax.jit(made(config, lambda params, image: image))
    corners = {
        corner_of(np.asarray(forward(jax.random.key(number), params, low, clean)[1]), clean)
        for number in range(30)
    }
    assert corners == {(0, 0), (0, 1), (1, 0), (1, 1)}
