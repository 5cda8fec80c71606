import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from lle_jax import data, models
from lle_jax.training import optimiser, sharding, state, step

OPTIM = {"lr": 0.01, "warmup_steps": 0, "weight_decay": 0.0, "clip_norm": 1.0}

# Ten steps of the experiment's own recipe on a small network; prints the losses.
TEN_STEPS = """
import functools, json, jax, numpy as np
from experiments.unet import get_config
from lle_jax import data
from lle_jax.training import losses, sharding, step
from lle_jax.training import train as loop

config = get_config()
config.model.widths, config.data.crop, config.optim.warmup_steps = (8, 12), 32, 2
setup = loop.prepare(config)
state = setup.state
loss = losses.make(config.loss)
run = step.make(
    setup.apply, setup.degrade, loss, setup.optimiser, setup.schedule, 0.99, setup.mesh
)
clean = np.random.default_rng(0).random((10, 8, 4, 4, 3), np.float32)
clean = clean.repeat(8, axis=2).repeat(8, axis=3)
found = []
for crops in clean:
    batch = data.Batch(crops, np.zeros(8, np.int32))
    state, scalars = run(state, sharding.to_devices(batch, setup.mesh))
    found.append(float(scalars["loss"]))
print(json.dumps({"devices": jax.device_count(), "losses": found}))
"""


def quadratic(ema_decay=0.9):
    """A one-parameter `network`: apply multiplies by w, the loss is the mean square error."""
    update, schedule = optimiser.make(ml_collections.ConfigDict(OPTIM), 100)
    mesh = sharding.make_mesh()
    start = state.create({"w": jnp.ones(())}, update, jax.random.key(0))
    start = jax.device_put(start, sharding.replicated(mesh))
    run = step.make(
        lambda params, image: params["w"] * image,
        lambda key, batch: 0.5 * batch.clean + 1e-3 * jax.random.normal(key, batch.clean.shape),
        lambda image, clean: jnp.mean((image - clean) ** 2),
        update,
        schedule,
        ema_decay,
        mesh,
    )
    batch = data.Batch(np.full((2, 4, 4, 3), 0.8, np.float32), np.zeros(2, np.int32))
    return run, start, sharding.to_devices(batch, mesh)


def test_steps_lower_the_loss_and_count():
    run, current, clean = quadratic()
    losses = []
    for _ in range(5):
        current, scalars = run(current, clean)
        losses.append(float(scalars["loss"]))
    assert losses == sorted(losses, reverse=True)
    assert int(current.step) == 5
    np.testing.assert_allclose(losses[0], 0.16, rtol=0.02)
    np.testing.assert_allclose(current.params["w"], 1.05, atol=5e-3)  # Adam moves by the rate


def test_the_average_follows_its_recursion():
    run, current, clean = quadratic(ema_decay=0.3)
    expected = 1.0
    for number in range(6):
        current, _ = run(current, clean)
        decay = min(0.3, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * float(current.params["w"])
    np.testing.assert_allclose(current.ema["w"], expected, rtol=1e-6)


def test_every_step_draws_its_own_noise_and_the_run_its_own_key():
    run, current, clean = quadratic()
    current, first = run(current, clean)
    _, again = run(jax.device_put(quadratic()[1], current.step.sharding), clean)
    assert float(first["loss"]) == float(again["loss"])
    other = quadratic()[1]
    other = state.TrainState(
        other.step, other.params, other.ema, other.opt_state, jax.random.key_data(jax.random.key(1))
    )
    _, different = run(jax.device_put(other, current.step.sharding), clean)
    assert float(first["loss"]) != float(different["loss"])


@pytest.fixture(scope="module")
def losses_by_devices(tmp_path_factory):
    found = {}
    for count in (1, 4):
        environment = {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}",
            "PATH": "",
        }
        run = subprocess.run(
            [sys.executable, "-c", TEN_STEPS], capture_output=True, text=True, env=environment
        )
        assert run.returncode == 0, run.stderr
        report = json.loads(run.stdout.splitlines()[-1])
        found[report["devices"]] = report["losses"]
    return found


def test_four_devices_give_the_losses_of_one(losses_by_devices):
    assert set(losses_by_devices) == {1, 4}
    assert len(set(losses_by_devices[1])) == 10
    np.testing.assert_allclose(losses_by_devices[4], losses_by_devices[1], atol=1e-5, rtol=0)


def test_the_networks_gradient_reaches_every_parameter(photographs):
    config = ml_collections.ConfigDict(
        {"name": "unet", "dtype": "float32", "widths": (8, 12), "blocks": 1}
    )
    apply, params = models.build(config, jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + rng.normal(0, 0.02, leaf.shape).astype(np.float32), params
    )
    gradients = jax.jit(jax.grad(lambda p: jnp.mean((apply(p, photographs) - 0.5) ** 2)))(params)
    paths = jax.tree_util.tree_flatten_with_path(gradients)[0]
    assert [path for path, leaf in paths if not np.abs(leaf).max() > 0] == []
