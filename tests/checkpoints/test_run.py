import dataclasses
import errno
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lle_jax.checkpoints import run
from lle_jax.checkpoints.run import Checkpoints
from lle_jax.checks import CheckpointError
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


def damage(folder, how):
    """Damages every data file of a checkpoint's arrays in one way."""
    files = [p for p in (folder / "state").rglob("*") if p.is_file() and "/d/" in p.as_posix()]
    assert files
    for path in files:
        data = bytearray(path.read_bytes())
        if how == "delete":
            path.unlink()
        elif how == "truncate":
            path.write_bytes(data[: len(data) // 2])
        elif how == "empty":
            path.write_bytes(b"")
        else:
            data[len(data) // 2] ^= 16
            path.write_bytes(data)


@pytest.mark.parametrize("how", ["delete", "truncate", "empty", "flip"])
def test_damage_is_one_line_and_the_checkpoint_before_is_used(tmp_path, how, capfd):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(advance(make_state(value=0.25), 4), {"next_index": 3}, {})
        checkpoints.save(advance(make_state(value=0.75), 5), {"next_index": 4}, {})
    damage(tmp_path / "5", how)
    with Checkpoints(tmp_path) as checkpoints:
        restored, position = checkpoints.restore(make_state())
        assert int(restored.step) == 4
        np.testing.assert_array_equal(restored.params["layer"]["kernel"], 0.25)
        assert position == {"next_index": 3}
        checkpoints.save(advance(make_state(value=0.5), 5), {"next_index": 4}, {})
    with Checkpoints(tmp_path) as checkpoints:
        np.testing.assert_array_equal(
            checkpoints.restore(make_state())[0].params["layer"]["kernel"], 0.5
        )
    assert (tmp_path / "5.damaged").is_dir()
    lines = [line for line in capfd.readouterr().err.splitlines() if line]
    assert len(lines) == 1
    assert "5: damaged checkpoint" in lines[0]
    for step in ("4", "5"):
        damage(tmp_path / step, "delete")
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(CheckpointError, match="no checkpoint is sound"),
    ):
        checkpoints.restore(make_state())


def test_what_the_machine_fails_to_read_is_not_damaged(tmp_path, monkeypatch, capfd):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(advance(make_state(), 4), {}, {})
        checkpoints.save(advance(make_state(), 5), {}, {})

    def full(*_, **__):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    with monkeypatch.context() as patched, Checkpoints(tmp_path) as checkpoints:
        patched.setattr(run.ocp.CheckpointManager, "restore", full)
        with pytest.raises(
            CheckpointError, match=r"5: it could not be read, .*RESOURCE_EXHAUSTED.*free memory"
        ):
            checkpoints.restore(make_state())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "5"]
    with Checkpoints(tmp_path) as checkpoints:
        assert int(checkpoints.restore(make_state())[0].step) == 5
    (tmp_path / "5" / run.CHECKSUMS).unlink()  # as of an earlier version: it may be damage
    metadata = next((tmp_path / "5").rglob("manifest.ocdbt"))
    metadata.write_bytes(metadata.read_bytes()[:10])
    with Checkpoints(tmp_path) as checkpoints:
        assert int(checkpoints.restore(make_state())[0].step) == 4
    assert "5: damaged checkpoint" in capfd.readouterr().err


def test_where_none_is_sound_every_start_refuses_and_nothing_is_renamed(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(advance(make_state(), 4), {}, {})
        checkpoints.save(advance(make_state(), 5), {}, {})
    damage(tmp_path / "4", "flip")
    damage(tmp_path / "5", "flip")
    for _ in range(2):
        with (
            Checkpoints(tmp_path) as checkpoints,
            pytest.raises(CheckpointError, match="no checkpoint is sound"),
        ):
            checkpoints.restore(make_state())
        assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "5"]
    for step in ("4", "5"):  # as an earlier version left them
        (tmp_path / step).rename(tmp_path / f"{step}.damaged")
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(CheckpointError, match="remove the damaged ones"),
    ):
        checkpoints.restore(make_state())


def test_damage_of_any_file_is_named_and_the_checkpoint_before_is_used(tmp_path, capfd):
    folder = tmp_path / "whole"
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(advance(make_state(), 4), {"next_index": 3}, {})
        checkpoints.save(advance(make_state(), 5), {"next_index": 4}, {})
    for name in ("data/metadata", "config/metadata", "state/manifest.ocdbt", run.CHECKSUMS):
        shutil.copytree(folder, tmp_path / name)
        path = tmp_path / name / "5" / name
        data = path.read_bytes()
        path.write_bytes(data.replace(b"4", b"5", 1) if name == "data/metadata" else data[:-1])
        with Checkpoints(tmp_path / name) as checkpoints:
            restored, position = checkpoints.restore(make_state())
        assert (int(restored.step), position) == (4, {"next_index": 3})
        (line,) = capfd.readouterr().err.splitlines()
        assert f"/5: damaged checkpoint ({name} " in line


def test_a_checkpoint_of_an_earlier_version_has_no_checksums_of_files(tmp_path, capfd):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(advance(make_state(), 5), {"next_index": 4}, {})
    (tmp_path / "5" / run.CHECKSUMS).unlink()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(make_state())[1] == {"next_index": 4}
    assert capfd.readouterr().err == ""


def test_a_changed_value_is_noticed_by_its_checksum(tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(advance(make_state(), 5), {}, {})
    real = run.checksums

    def flipped(arrays):
        name = "params.layer.kernel"
        changed = arrays[name].copy()
        changed.view(np.uint32)[0, 0] ^= 1
        return real(arrays | {name: changed})

    monkeypatch.setattr(run, "checksums", flipped)
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(CheckpointError, match="no checkpoint is sound"),
    ):
        checkpoints.restore(make_state())


def test_what_is_not_finite_is_never_saved(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(advance(make_state(), 5), {}, {})
        broken = dataclasses.replace(advance(make_state(value=np.nan), 6), ema=make_state().ema)
        with pytest.raises(CheckpointError, match=r"params\.layer\.kernel is not finite at step 6"):
            checkpoints.save(broken, {}, {})
        assert checkpoints.latest() == 5


def test_a_disk_without_room_is_named_and_the_checkpoints_stay(tmp_path, monkeypatch):
    with run.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(advance(make_state(), 1), {}, {})
    monkeypatch.setattr(run.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=2**20))
    with run.Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(OSError, match=r"1\.0 MB of room, and a checkpoint needs") as full:
            checkpoints.save(advance(make_state(), 2), {}, {})
        assert full.value.errno == errno.ENOSPC
        assert checkpoints.latest() == 1
