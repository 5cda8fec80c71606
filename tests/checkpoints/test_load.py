import dataclasses
import json

import jax
import ml_collections
import numpy as np
import optax
import pytest

from lle_jax import checks, models
from lle_jax.checkpoints import load as weights
from lle_jax.checkpoints import release
from lle_jax.checkpoints.run import CheckpointError, Checkpoints
from lle_jax.training import state

CONFIG = {"name": "dual_path", "dtype": "float32", "widths": [4, 6], "blocks": [1, 1]}


@pytest.fixture(scope="module")
def params():
    shapes = models.shapes(ml_collections.ConfigDict(CONFIG))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(0, 1, leaf.shape).astype(np.float32), shapes)


@pytest.fixture
def run(params, tmp_path):
    """A run directory with one checkpoint, whose average is one more than its parameters."""
    (tmp_path / "config.json").write_text(json.dumps({"model": CONFIG}))
    (tmp_path / "data.json").write_text(json.dumps({"train": ["a"], "validation": ["b"]}))
    start = state.create(params, optax.adamw(1e-3), jax.random.key(7))
    start = dataclasses.replace(start, ema=jax.tree.map(lambda leaf: leaf + 1, params))
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(start, {}, {})
    return tmp_path


def test_a_run_gives_its_average_and_what_it_has_seen(run, params):
    found = weights.load(run)
    for before, after in zip(jax.tree.leaves(params), jax.tree.leaves(found.params), strict=True):
        np.testing.assert_array_equal(before + 1, after)
    assert found.config.to_dict()["name"] == "dual_path"
    assert found.record == {"kind": "run", "step": 0}
    assert found.seen == {"train": ["a"], "validation": ["b"]}
    (run / "data.json").unlink()
    assert weights.load(run).seen == {}


def test_a_release_gives_its_parameters_and_what_it_has_seen(params, tmp_path):
    config = ml_collections.ConfigDict(CONFIG)
    release.save(tmp_path, config, params, {"images": {"train": ["a"], "validation": []}})
    found = weights.load(tmp_path)
    for before, after in zip(jax.tree.leaves(params), jax.tree.leaves(found.params), strict=True):
        np.testing.assert_array_equal(before, after)
    assert found.seen == {"train": ["a"], "validation": []}
    assert found.record == {"kind": "release", "sha256": release.digest(tmp_path)}


def test_what_has_no_weights_is_named(run, tmp_path):
    with pytest.raises(CheckpointError, match="nowhere: neither a run directory nor a release"):
        weights.load(tmp_path / "nowhere")
    next((run / "checkpoints" / "0" / "state").glob("*METADATA")).write_text("{")
    with pytest.raises(CheckpointError, match="0: damaged checkpoint; delete that folder"):
        weights.load(run)
    for path in sorted((run / "checkpoints").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(CheckpointError, match="no checkpoint yet; train first"):
        weights.load(run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": [4, 8]}, r"is \(.*6.*\) there and \(.*8.*\) here"),
        ({"blocks": [1, 2]}, r"is absent there and \("),
        ({"blocks": [2, 1], "widths": [4, 6]}, r"is absent there and \("),
    ],
)
def test_weights_of_another_network_are_refused_by_name(params, change, message):
    other = ml_collections.ConfigDict(CONFIG | change)
    with pytest.raises(checks.ConfigError, match=f"here: weights of another network: .*{message}"):
        weights.fitted(params, other, "here")


def test_a_run_that_goes_on_from_weights_has_seen_their_images_too():
    own = {"train": ["a"], "validation": ["b"], "test": ["c"]}
    seen = {"train": ["d", "a"], "validation": ["e"], "test": ["f"]}
    expected = {"train": ["a", "d"], "validation": ["b", "e"], "test": ["c"]}
    assert weights.joined(own, seen) == expected
    assert weights.joined(own, seen | {"incomplete": True}) == expected | {"incomplete": True}
    assert weights.joined(own, {}) == own | {"incomplete": True}
