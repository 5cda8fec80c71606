import cv2
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from lle_jax import data, models
from lle_jax.checks import ConfigError
from lle_jax.models import dual_path, grid, thumbnail_paths
from lle_jax.models.params import load_params, named
from lle_jax.training import light, thumbnails

CONFIG = ml_collections.ConfigDict(
    {
        "name": "dual_path", "dtype": "float32", "widths": (4, 6), "blocks": (1, 1),
        "uncertainty": False, "exposure_path": False, "light_path": True,
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def params():
    return models.build(CONFIG, jax.random.key(0))[1]  # restores nothing yet


@pytest.fixture(scope="module")
def images(photographs):
    names = tuple(str(number) for number in range(len(photographs)))
    shapes = tuple(image.shape[:2] for image in photographs)
    load = tuple(lambda image=image: image for image in photographs)
    return data.Images(names, names, shapes, load, ())


def from_one_side(key, batch):
    """A degradation that is known: light falls to 0.4 from one column to the last; and a cast."""
    clean = jnp.asarray(batch.clean)
    return clean * jnp.linspace(1, 0.4, clean.shape[2])[:, None] * jnp.array([1, 0.9, 0.7])


def test_thumbnails_hold_what_the_network_makes_of_the_dark_ones(params, images, monkeypatch):
    monkeypatch.setattr(light, "TOLD", 0.0)
    drawn = light.draw(CONFIG, params, images, from_one_side, 32, seed=0)
    assert [part.shape for part in drawn] == [(32, 32, 32, channels) for channels in (6, 3, 3, 3)]
    # untrained, it moves the mean luma to that of the truth, and nothing else; few are clipped
    assert np.abs(drawn.restored - drawn.bright).mean() < 1e-3
    means = [
        np.asarray(dual_path.colour.mean_luma(x)).ravel() for x in (drawn.restored, drawn.truth)
    ]
    np.testing.assert_allclose(*means, rtol=0.03)
    assert np.abs(drawn.restored - drawn.truth).mean() > 0.03


def test_only_the_path_moves_and_it_evens_out_the_light(params, images, monkeypatch):
    monkeypatch.setattr(thumbnails, "WHOLE", 1.0)
    monkeypatch.setattr(thumbnails, "BATCH", 16)
    drawn = light.draw(CONFIG, params, images, from_one_side, 64, seed=0)
    before = light.squared_error(CONFIG, params, drawn)
    found = light.fit(CONFIG, params, drawn, steps=200, lr=1e-3, seed=0)
    after = light.squared_error(CONFIG, found, drawn)
    assert np.median(after) < 0.15 * np.median(before)
    for (name, old), (_, new) in zip(named(params), named(found), strict=True):
        assert np.array_equal(old, new) or name.startswith(light.LAYER), name

    # and so in the image itself
    clean = cv2.resize(images[0], (thumbnails.SIDE, thumbnails.SIDE))[None]
    low = from_one_side(None, data.Batch(clean, np.zeros(1, np.int32)))
    low = jnp.round(255 * low) / 255
    mean = dual_path.colour.mean_luma(clean)
    tiled = models.tiled(CONFIG)
    errors = [
        float(jnp.mean((tiled.restore(p, low, tiled.compute_context(p, low, mean)) - clean) ** 2))
        for p in (params, found)
    ]
    assert errors[1] < 0.3 * errors[0]


def test_a_turned_image_gets_the_turned_light(params, photographs):
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.05, leaf.shape).astype(np.float32), params)
    path = models.bind(CONFIG)(params).light
    cells = grid.cell_means(0.3 * photographs)
    whole = path(cells, cells[..., :3])
    assert np.ptp(whole) > 1e-4
    for number in range(thumbnail_paths.TURNS):
        turned = thumbnail_paths.turn(cells, number)
        back = thumbnail_paths.turn_back(path(turned, turned[..., :3]), number)
        np.testing.assert_allclose(back, whole, atol=1e-5)


def test_a_training_may_start_without_the_path_and_an_evaluation_may_not(params):
    config = ml_collections.ConfigDict(CONFIG.to_dict() | {"light_path": False})
    initial = models.build(config, jax.random.key(1))[1]
    found = dict(named(load_params(params, config, "here", initial)))
    own = dict(named(params))
    assert found.keys() == {name for name in own if not name.startswith(light.LAYER)}
    for name, leaf in found.items():
        np.testing.assert_array_equal(leaf, own[name])
    with pytest.raises(ConfigError, match=r"light\..* there and absent here"):
        load_params(params, config, "here")


def test_a_network_without_the_path_is_refused(images):
    config = ml_collections.ConfigDict(CONFIG.to_dict() | {"light_path": False})
    params = models.build(config, jax.random.key(0))[1]
    drawn = light.draw(config, params, images, from_one_side, 16, seed=0)
    with pytest.raises(ConfigError, match=r"model\.light_path is not set"):
        light.fit(config, params, drawn, steps=10, lr=1e-3, seed=0)
