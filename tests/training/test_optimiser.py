import itertools

import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from lle_jax.experiments import base
from lle_jax.training import optimiser

OPTIM = {
    "lr": 0.01, "warmup_steps": 10, "b2": 0.99, "weight_decay": 0.0, "clip_norm": 1.0,
    "accumulate": 1,
}  # fmt: skip


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


def test_accumulated_gradients_move_parameters_as_one_large_batch_does():
    gradients = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    each = moved(config(warmup_steps=0, weight_decay=0.1, accumulate=4), 12, gradients)
    assert [np.any(a != b) for a, b in itertools.pairwise(each)] == [False, False, True] + 2 * (
        [False] * 3 + [True]
    )
    large = moved(config(warmup_steps=0, weight_decay=0.1), 3, gradients.reshape(3, 4, 3).mean(1))
    np.testing.assert_allclose(each[3::4], large, rtol=1e-5)


@pytest.mark.parametrize("b2", [0.9, 0.99])
def test_updates_are_those_of_adam_with_the_configs_b2(b2):
    """Kingma and Ba, arXiv:1412.6980, algorithm 1, with beta_1 = 0.9."""
    gradients = np.float32([[0.5], [-0.1], [0.2], [0.05]])
    steps = moved(config(warmup_steps=0, b2=b2, lr=0.1), 100, gradients)[:, 0]
    rates = [float(optimiser.make(config(warmup_steps=0, lr=0.1), 100)[1](n)) for n in range(4)]
    m = v = 0.0
    expected = 1.0
    for number, (gradient, rate) in enumerate(zip(gradients[:, 0], rates, strict=True), 1):
        m, v = 0.9 * m + 0.1 * gradient, b2 * v + (1 - b2) * gradient**2
        expected -= rate * m / (1 - 0.9**number) / (np.sqrt(v / (1 - b2**number)) + 1e-8)
        np.testing.assert_allclose(steps[number - 1], expected, rtol=1e-5)


def test_the_main_jobs_b2():
    assert base.get_config().optim.b2 == 0.99


def moved(config, steps, gradients):
    """The parameters after each step."""
    transformation, _ = optimiser.make(config, steps)
    params, found = {"w": jnp.ones(3)}, []
    state = transformation.init(params)
    for gradient in gradients:
        updates, state = transformation.update({"w": gradient}, state, params)
        params = optax.apply_updates(params, updates)
        found.append(np.asarray(params["w"]))
    return np.array(found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": -1.0}, "optim.lr is -1.0; expected a number >= 0"),
        ({"lr": float("nan")}, "optim.lr is nan"),
        ({"lr": float("inf")}, "optim.lr is inf; expected a number >= 0"),
        ({"weight_decay": float("inf")}, "optim.weight_decay is inf; expected a number >= 0"),
        ({"clip_norm": 0.0}, "optim.clip_norm is 0.0; expected a number > 0"),
        ({"clip_norm": float("nan")}, "optim.clip_norm is nan; expected a number > 0"),
        ({"b2": 1.0}, r"optim.b2 is 1.0; expected a number in \(0, 1\)"),
        ({"accumulate": 0}, r"optim.accumulate is 0; expected 1 to train.steps \(100\)"),
        ({"accumulate": 3}, r"optim.accumulate is 3; expected a divisor of train.steps \(100\)"),
        ({"accumulate": 100}, "that leaves two updates or more"),
        ({"warmup_steps": 100}, r"optim.warmup_steps is 100; expected less than train.steps"),
    ],
)
def test_a_value_out_of_range_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        optimiser.make(config(**changes), 100)
