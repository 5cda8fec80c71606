import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from lle_jax.training import optimiser

OPTIM = {"lr": 0.01, "warmup_steps": 10, "weight_decay": 0.0, "clip_norm": 1.0}


def config(**changes):
    return ml_collections.ConfigDict(OPTIM | changes)


def test_the_rate_warms_up_linearly_and_falls_along_a_cosine():
    _, schedule = optimiser.make(config(), 110)
    rates = [float(schedule(step)) for step in (0, 5, 10, 60, 110)]
    middle = 0.01 * (0.01 + 0.99 * (1 + np.cos(np.pi / 2)) / 2)
    np.testing.assert_allclose(rates, [0, 0.005, 0.01, middle, 1e-4], rtol=1e-5)


def test_the_first_update_of_adam_is_the_rate_whatever_the_gradients_scale():
    transformation, _ = optimiser.make(config(warmup_steps=0), 100)
    params = {"w": jnp.zeros(3)}
    for scale in (1e-3, 1e3):
        gradients = {"w": scale * jnp.array([1.0, -2.0, 3.0])}
        updates, _ = transformation.update(gradients, transformation.init(params), params)
        np.testing.assert_allclose(updates["w"], [-0.01, 0.01, -0.01], rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": -1.0}, "optim.lr is -1.0; expected a number >= 0"),
        ({"lr": float("nan")}, "optim.lr is nan"),
        ({"warmup_steps": 100}, r"optim.warmup_steps is 100; expected less than train.steps"),
    ],
)
def test_a_value_out_of_range_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        optimiser.make(config(**changes), 100)
