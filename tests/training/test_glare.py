import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from lle_jax import data, degrade, models
from lle_jax.checks import ConfigError
from lle_jax.models.params import named
from lle_jax.training import degradation, glare, thumbnails

CONFIG = ml_collections.ConfigDict(
    {
        "name": "dual_path", "dtype": "float32", "widths": (4, 6), "blocks": (1, 1),
        "uncertainty": False, "glare_path": True,
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def params():
    return models.build(CONFIG, jax.random.key(0))[1]


@pytest.fixture(scope="module")
def images(photographs):
    names = tuple(str(number) for number in range(len(photographs)))
    load = []
    for photograph in photographs:
        image = photograph.copy()
        image[:12] = 0  # a dark border, as around a retina
        load.append(lambda image=image: image)
    return data.Images(names, names, tuple(x.shape[:2] for x in photographs), tuple(load), ())


def some_veiled(key, batch):
    """A draw that is known: a tenth of the light, and a veil of 0.6 of it in every other image."""
    count = len(batch.clean)
    parameters = {
        "exposure.gain": jnp.full(count, 0.1),
        "veiling_glare.share": jnp.full(count, 0.6),
        "veiling_glare.white": jnp.full(count, 0.5),
        "veiling_glare.active": jnp.arange(count) % 2.0,
    }
    return key, parameters


def test_thumbnails_come_with_and_without_the_veil(images, monkeypatch):
    monkeypatch.setattr(glare, "WHOLE", 1.0)
    drawn = glare.draw(images, some_veiled, 32, seed=0)
    assert drawn.cells.shape == drawn.without.shape == (32, 32, 32, 6)
    same = (drawn.cells == drawn.without).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(same, np.arange(32) % 2 == 0)
    veiled, without = (part[~same][..., :3] for part in drawn)
    assert (veiled.min(axis=(1, 2, 3)) > without.min(axis=(1, 2, 3)) + 0.1).all()


def test_squares_are_smaller_than_other_paths_have_them(images, monkeypatch):
    """More of them have nothing of the dark border, by which a veil is told."""
    black = []
    monkeypatch.setattr(glare, "WHOLE", 0.0)
    for least in (glare.LEAST, thumbnails.LEAST):
        monkeypatch.setattr(glare, "LEAST", least)
        drawn = glare.draw(images, some_veiled, 64, seed=0)
        black.append(np.mean(drawn.without[..., :3].min(axis=(1, 2, 3)) < 0.02))
    assert black[0] < black[1]


def test_the_presets_stage_is_what_is_left_out():
    batch = data.Batch(np.full((16, 8, 8, 3), 0.5, np.float32), np.zeros(16, np.int32))
    _, parameters = degradation.drawing("glare")(jax.random.key(0), batch)
    assert f"{glare.STAGE}.active" in parameters
    assert 0.7 < np.mean(parameters[f"{glare.STAGE}.active"]) <= 1
    assert glare.STAGE in degrade.stages.STAGES


def test_only_the_path_moves_and_it_finds_the_veils(params, images, monkeypatch):
    monkeypatch.setattr(glare, "WHOLE", 1.0)
    monkeypatch.setattr(thumbnails, "BATCH", 16)
    drawn = glare.draw(images, some_veiled, 64, seed=0)
    start = glare.judge(CONFIG, params, drawn)
    np.testing.assert_array_equal(start.after, start.before)
    found = glare.fit(CONFIG, params, drawn, steps=150, lr=2e-3, seed=0)
    for (name, old), (_, new) in zip(named(params), named(found), strict=True):
        assert np.array_equal(old, new) or name.startswith(glare.LAYER), name
    judged = glare.judge(CONFIG, found, drawn)
    veiled = judged.before > 0
    assert veiled.sum() == 32
    np.testing.assert_allclose(judged.share[veiled], 0.6, atol=0.1)
    assert (judged.share[~veiled] == 0).all()
    assert np.median(judged.after[veiled]) < 0.05 * np.median(judged.before[veiled])


def test_a_network_without_the_path_is_refused(images):
    config = ml_collections.ConfigDict(CONFIG.to_dict() | {"glare_path": False})
    params = models.build(config, jax.random.key(0))[1]
    drawn = glare.draw(images, some_veiled, 16, seed=0)
    with pytest.raises(ConfigError, match=r"model\.glare_path is not set"):
        glare.fit(config, params, drawn, steps=10, lr=1e-3, seed=0)
