import jax
import numpy as np
import pytest

from experiments.unet import get_config
from lle_jax import checks, data, degrade
from lle_jax.training import train as loop


def small(**changes):
    config = get_config()
    config.model.widths = (4, 6)
    config.update_from_flattened_dict(changes)
    return config


def batch_of(clean, modalities=None):
    names = modalities or [""] * len(clean)
    return data.Batch(clean, np.array([data.MODALITIES.index(name) for name in names], np.int32))


def test_grey_images_stay_grey_through_degradation_and_network(photographs):
    setup = loop.prepare(small())
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + rng.normal(0, 0.03, leaf.shape).astype(np.float32), setup.state.params
    )
    grey = np.repeat(photographs[..., :1], 3, axis=-1)
    low = np.asarray(jax.jit(setup.degrade)(jax.random.key(0), batch_of(grey)))
    enhanced = np.asarray(jax.jit(setup.apply)(params, low))
    for image in (low, enhanced):
        np.testing.assert_array_equal(image, np.repeat(image[..., :1], 3, axis=-1))
    assert np.abs(low - grey).max() > 0.1
    assert np.abs(enhanced - low).max() > 0.01


def test_every_image_of_a_batch_is_darkened_by_its_own_amount(photographs):
    setup = loop.prepare(small())
    same = np.repeat(photographs[:1], 4, axis=0)
    low = np.asarray(jax.jit(setup.degrade)(jax.random.key(0), batch_of(same)))
    means = low.mean(axis=(1, 2, 3))
    assert (means < 0.9 * same.mean()).all()
    assert np.ptp(means) > 0.02


def test_by_modality_each_image_is_degraded_as_by_its_own_preset(photographs):
    setup = loop.prepare(small(**{"degradation.preset": "by_modality"}))
    same = np.repeat(photographs[:1], 3, axis=0)
    names = ["fundus", "radiograph", ""]
    key = jax.random.key(3)
    low = np.asarray(jax.jit(setup.degrade)(key, batch_of(same, names)))
    for index, name in enumerate(names):
        presets = (degrade.load(name or "lowlight"),)
        alone = loop.random_degradation(presets, key, batch_of(same))
        np.testing.assert_allclose(low[index], alone[index], atol=1 / 255)
        assert np.mean(np.abs(low[index] - alone[index])) < 1e-4
    assert not np.allclose(low[0], low[1], atol=0.05)


def test_a_dropped_stage_is_absent_from_training_alone(photographs, tmp_path):
    (tmp_path / "p.toml").write_text(
        "[exposure]\ngain = 0.2\n[salt_and_pepper]\nsalt = 0.1\npepper = 0.1\n"
    )
    config = with_drop(("exposure",))
    config.degradation.preset = str(tmp_path / "p.toml")
    setup = loop.prepare(config)
    batch, key = batch_of(photographs), jax.random.key(5)
    trained = np.asarray(setup.degrade_in_training(key, batch))
    changed = (np.abs(trained - photographs) > 1e-4).any(axis=-1)
    assert 0.05 < changed.mean() < 0.35  # impulses, and nothing is darker
    assert np.mean(np.asarray(setup.degrade(key, batch)) < photographs - 1e-4) > 0.7


def test_a_stage_to_drop_that_the_preset_lacks_is_named():
    with pytest.raises(degrade.PresetError, match=r"degradation\.drop: no stage 'jpg'; expected"):
        loop.prepare(with_drop(("jpg",)))


def with_drop(names):
    config = small()
    config.degradation.drop = names
    return config


def test_a_fraction_of_the_images_is_spared(photographs):
    clean = np.repeat(photographs[:1], 64, axis=0)
    low = loop.spare(lambda key, batch: 0.5 * batch.clean, 0.25, jax.random.key(0), batch_of(clean))
    spared = (np.asarray(low) == clean).all(axis=(1, 2, 3))
    assert 8 <= spared.sum() <= 26
    np.testing.assert_array_equal(low[~spared], 0.5 * clean[~spared])


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
