import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import ml_collections
import numpy as np
import optax
import pytest

from lle_jax import checks, models
from lle_jax.checkpoints import load, release
from lle_jax.checkpoints.provenance import Provenance, merge_provenance
from lle_jax.checkpoints.run import Checkpoints
from lle_jax.checks import CheckpointError
from lle_jax.models.params import load_params
from lle_jax.training import state

CONFIG = {
    "name": "dual_path",
    "dtype": "float32",
    "widths": [4, 6],
    "blocks": [1, 1],
}  # of a version before `uncertainty`


@pytest.fixture(scope="module")
def params():
    shapes = models.shapes(ml_collections.ConfigDict(CONFIG | {"uncertainty": False}))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(0, 1, leaf.shape).astype(np.float32), shapes)


@pytest.fixture
def run(params, tmp_path):
    """A run directory with one checkpoint, whose average is one more than its parameters."""
    (tmp_path / "config.json").write_text(json.dumps({"model": CONFIG}))
    (tmp_path / "data.json").write_text(
        json.dumps({"train": ["a"], "validation": ["b"], "order": "c", "presets": {}})
    )
    start = state.create(params, optax.adamw(1e-3), jax.random.key(7))
    start = dataclasses.replace(start, ema=jax.tree.map(lambda leaf: leaf + 1, params))
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(start, {}, {})
    return tmp_path


def test_a_run_gives_its_average_and_what_it_has_seen(run, params):
    loaded = load.load_model(run)
    for before, after in zip(jax.tree.leaves(params), jax.tree.leaves(loaded.params), strict=True):
        np.testing.assert_array_equal(before + 1, after)
    assert loaded.config.to_dict()["name"] == "dual_path"
    assert loaded.provenance.record == {"kind": "run", "step": 0}
    assert loaded.provenance.images == {"train": ["a"], "validation": ["b"]}
    for content in (b"", b"3", b"\xff", b'{"train": 3}'):
        (run / "data.json").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"data\.json: damaged; restore it"):
            load.load_model(run)
    (run / "data.json").unlink()
    assert load.load_model(run).provenance.images == {}


def test_a_release_gives_its_parameters_and_what_it_has_seen(params, tmp_path):
    config = ml_collections.ConfigDict(CONFIG | {"uncertainty": False})
    release.save(tmp_path, config, params, {"images": {"train": ["a"], "validation": []}})
    loaded = load.load_model(tmp_path)
    for before, after in zip(jax.tree.leaves(params), jax.tree.leaves(loaded.params), strict=True):
        np.testing.assert_array_equal(before, after)
    assert loaded.provenance.images == {"train": ["a"], "validation": []}
    assert loaded.provenance.record == {"kind": "release", "sha256": release.digest(tmp_path)}


def test_what_has_no_weights_is_named(run, tmp_path):
    with pytest.raises(CheckpointError, match="nowhere: neither a run directory nor a release"):
        load.load_model(tmp_path / "nowhere")
    next((run / "checkpoints" / "0" / "state").glob("*METADATA")).write_text("{")
    with pytest.raises(CheckpointError, match="no checkpoint is sound; train again"):
        load.load_model(run)
    for path in sorted((run / "checkpoints").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(CheckpointError, match="no checkpoint yet; train first"):
        load.load_model(run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": [4, 8]}, r"is \(.*6.*\) there and \(.*8.*\) here"),
        ({"blocks": [1, 2]}, r"is absent there and \("),
        ({"blocks": [2, 1], "widths": [4, 6]}, r"is absent there and \("),
    ],
)
def test_weights_of_another_network_are_refused_by_name(params, change, message):
    other = ml_collections.ConfigDict(CONFIG | {"uncertainty": False} | change)
    with pytest.raises(checks.ConfigError, match=f"here: weights of another network: .*{message}"):
        load_params(params, other, "here")


def test_a_run_that_starts_from_a_model_was_trained_on_its_images_too():
    own = {"train": ["a"], "validation": ["b"], "test": ["c"]}
    images = {"train": ["d", "a"], "validation": ["e"], "test": ["f"]}
    expected = {"train": ["a", "d"], "validation": ["b", "e"], "test": ["c"]}

    def merged(images):
        return merge_provenance(own, Provenance({}, images))

    assert merged(images) == expected
    assert merged(images | {"incomplete": True}) == expected | {"incomplete": True}
    assert merged({}) == own | {"incomplete": True}


def test_reading_a_run_changes_nothing_in_it(run):
    left_behind = run / "checkpoints" / "7.orbax-checkpoint-tmp"
    left_behind.mkdir()
    (left_behind / "half").write_text("a save under way")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    load.load_model(run)
    load.digest(run)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    with Checkpoints(run / "checkpoints"):
        pass  # a writer, which holds the lock, removes what a killed save left
    assert not left_behind.exists()


WRITE = """
import sys, jax, numpy as np, optax
from pathlib import Path
from lle_jax.checkpoints.run import Checkpoints
from lle_jax.training import sharding, state
import ml_collections
from lle_jax import models
config = ml_collections.ConfigDict({config!r})
params = jax.tree.map(lambda s: np.full(s.shape, 0.5, np.float32), models.shapes(config))
start = state.create(params, optax.adamw(1e-3), jax.random.key(7))
start = jax.device_put(start, sharding.replicated(sharding.make_mesh()))
assert jax.device_count() == 2
with Checkpoints(Path({folder!r})) as checkpoints:
    checkpoints.save(start, {{}}, {{}})
"""


def test_a_run_of_two_devices_is_read_on_one(tmp_path):
    folder = str(tmp_path / "checkpoints")
    config = CONFIG | {"uncertainty": False}
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    subprocess.run(
        [sys.executable, "-c", WRITE.format(config=config, folder=folder)],
        check=True, env=environment, capture_output=True,
    )  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps({"model": CONFIG}))
    assert jax.device_count() == 1
    for leaf in jax.tree.leaves(load.load_model(tmp_path).params):
        np.testing.assert_array_equal(leaf, 0.5)
