import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lle_jax.checkpoints.run import CheckpointError, Checkpoints
from lle_jax.training import sharding, state


def make_state(width=3, value=0.0):
    params = {"layer": {"kernel": jnp.full((2, width), value), "bias": jnp.arange(width * 1.0)}}
    current = state.create(params, optax.adamw(1e-3), jax.random.key(7))
    return jax.device_put(current, sharding.replicated(sharding.make_mesh()))


def advance(current, step):
    values = [jnp.asarray(step), current.params, current.ema, current.opt_state, current.key]
    return state.TrainState(*values)


def test_everything_comes_back_as_it_was_saved(tmp_path):
    saved = advance(make_state(value=0.25), 5)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(saved, {"next_index": 12}, {"seed": 3})
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() == 5
        restored, position = checkpoints.restore(make_state())
    assert position == {"next_index": 12}
    assert jax.tree.structure(restored) == jax.tree.structure(saved)
    for before, after in zip(jax.tree.leaves(saved), jax.tree.leaves(restored), strict=True):
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)


def test_the_newest_two_are_kept(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(advance(make_state(), step), {}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]


def test_a_checkpoint_of_another_architecture_is_refused_and_left_alone(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(advance(make_state(width=3), 5), {}, {})
        with pytest.raises(
            CheckpointError,
            match=r"another architecture: ema.layer.bias is \(3,\) there and \(4,\) in this model",
        ):
            checkpoints.restore(make_state(width=4))
        assert checkpoints.latest() == 5


def test_a_damaged_checkpoint_is_named(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(advance(make_state(), 5), {}, {})
    for path in (tmp_path / "5" / "state").rglob("*"):
        if path.is_file():
            path.unlink()
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(CheckpointError, match="5: damaged checkpoint; delete that folder"),
    ):
        checkpoints.restore(make_state())
