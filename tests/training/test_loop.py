import jax
import numpy as np
import pytest

from experiments.unet import get_config
from lle_jax import checks, degrade
from lle_jax.training import loop


def small(**changes):
    config = get_config()
    config.model.widths = (4, 6)
    config.update_from_flattened_dict(changes)
    return config


def test_grey_images_stay_grey_through_degradation_and_network(photographs):
    setup = loop.prepare(small())
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + rng.normal(0, 0.03, leaf.shape).astype(np.float32), setup.state.params
    )
    grey = np.repeat(photographs[..., :1], 3, axis=-1)
    low = np.asarray(jax.jit(setup.degrade)(jax.random.key(0), grey))
    enhanced = np.asarray(jax.jit(setup.apply)(params, low))
    for image in (low, enhanced):
        np.testing.assert_array_equal(image, np.repeat(image[..., :1], 3, axis=-1))
    assert np.abs(low - grey).max() > 0.1
    assert np.abs(enhanced - low).max() > 0.01


def test_every_image_of_a_batch_is_darkened_by_its_own_amount(photographs):
    setup = loop.prepare(small())
    same = np.repeat(photographs[:1], 4, axis=0)
    low = np.asarray(jax.jit(setup.degrade)(jax.random.key(0), same))
    means = low.mean(axis=(1, 2, 3))
    assert (means < 0.9 * same.mean()).all()
    assert np.ptp(means) > 0.02


def test_the_seed_decides_the_first_parameters():
    first, again, other = (
        jax.tree.leaves(loop.prepare(small(seed=seed)).state.params) for seed in (0, 0, 1)
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_preset_that_does_not_exist_is_named():
    with pytest.raises(degrade.PresetError, match="nowhere"):
        loop.prepare(small(**{"degradation.preset": "nowhere"}))


def test_an_unknown_network_is_named():
    with pytest.raises(checks.ConfigError, match=r"model\.name is 'unett'"):
        loop.prepare(small(**{"model.name": "unett"}))
