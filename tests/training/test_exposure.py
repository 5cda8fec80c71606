import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from lle_jax import models
from lle_jax.checks import ConfigError
from lle_jax.models import grid
from lle_jax.models.params import named
from lle_jax.training import exposure, objective

CONFIG = {
    "name": "dual_path", "dtype": "float32", "widths": (4, 6), "blocks": (1, 1),
    "uncertainty": False, "exposure_path": True,
}  # fmt: skip


def experiment(model=CONFIG, decay=0.0):
    changes = {"model": model, "loss": {"kind": "exposure"}, "optim": {"weight_decay": decay}}
    return ml_collections.ConfigDict(changes)


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    shapes = models.shapes(ml_collections.ConfigDict(CONFIG))
    return jax.tree.map(lambda s: rng.normal(0, 0.05, s.shape).astype(np.float32), shapes)


def test_only_the_exposure_path_is_moved(params, photographs):
    forward, loss = objective.make(experiment(), None)

    def loss_of(p):
        return loss(*forward(jax.random.key(0), p, 0.3 * photographs, photographs))

    for name, gradient in named(jax.jit(jax.grad(loss_of))(params)):
        assert np.any(gradient) == name.startswith(exposure.LAYER), name


def test_the_loss_is_that_of_the_ratio_of_mean_lumas(photographs):
    mean = np.mean(photographs @ [0.299, 0.587, 0.114], axis=(1, 2)).reshape(-1, 1, 1, 1)
    for factor in (0.8, 1.25):
        found = exposure.loss(jnp.asarray(factor * mean, jnp.float32), photographs)
        np.testing.assert_allclose(found, np.hypot(np.log(1.25), exposure.SMALL), rtol=1e-4)
    assert exposure.loss(jnp.zeros((1, 1, 1, 1)) + 1e-3, jnp.zeros((1, 8, 8, 3))) < 0.031  # black


def test_a_path_that_learned_predicts_the_light_of_images_like_those(photographs):
    """Of two photographs under four lights, whatever the light."""
    _, start = models.build(ml_collections.ConfigDict(CONFIG), jax.random.key(0))
    forward, loss = exposure.make(experiment())
    light = jnp.array([0.9, 0.6, 0.4, 0.2])[:, None, None, None, None]
    low = (light * photographs).reshape(-1, *photographs.shape[1:])
    clean = jnp.tile(photographs, (4, 1, 1, 1))

    adam = optax.adam(2e-3)

    def error(p):
        return loss(*forward(None, p, low, clean))

    @jax.jit
    def step(p, state):
        updates, state = adam.update(jax.grad(error)(p), state)
        return optax.apply_updates(p, updates), state

    found, state = start, adam.init(start)
    for _ in range(100):
        found, state = step(found, state)
    assert error(found) < 0.1 < error(start)


def test_a_network_without_the_path_and_a_moving_decay_are_refused():
    with pytest.raises(ConfigError, match=r"model\.exposure_path is not set"):
        exposure.make(experiment(CONFIG | {"exposure_path": False}))
    with pytest.raises(ConfigError, match=r"optim\.weight_decay is 0\.1, which would move"):
        exposure.make(experiment(decay=0.1))


def test_a_network_is_told_a_brightness_in_place_of_what_its_path_predicts(params, photographs):
    config = ml_collections.ConfigDict(CONFIG)
    tiled, low = models.tiled(config), 0.3 * photographs
    cells = grid.cell_means(low)
    predicted = tiled.predict_exposure(params, cells)
    found, told = (tiled.compute_context(params, low, mean) for mean in (jnp.nan, predicted))
    np.testing.assert_array_equal(found.curves, told.curves)
    np.testing.assert_allclose(found.exposure, predicted, rtol=0.02)

    brighter = jax.tree.unflatten(
        jax.tree.structure(params),
        [leaf + (name == "exposure.log_gain.bias") for name, leaf in named(params)],
    )
    again, same = (tiled.compute_context(brighter, low, mean) for mean in (jnp.nan, predicted))
    assert np.all(again.exposure > 1.2 * found.exposure)
    np.testing.assert_array_equal(same.curves, told.curves)
