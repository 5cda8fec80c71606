import json
import shutil

import jax
import ml_collections
import numpy as np
import pytest

from lle_jax.checkpoints import release, segmenters
from lle_jax.models import segmenter

NETWORK = {"widths": (4, 6), "reduce": 2, "fold": 2}


def test_saving_and_loading_gives_the_same_probabilities(tmp_path, photographs):
    graph, shapes = segmenter.declare(ml_collections.ConfigDict(NETWORK))
    generator = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: generator.normal(0, 0.1, leaf.shape).astype(np.float16).astype(np.float32),
        shapes,
    )
    segmenters.save(tmp_path / "mine", NETWORK, params, {"threshold": 0.25})
    loaded = segmenters.load(tmp_path / "mine")
    expected = segmenter.probabilities(graph, params)(photographs[0])
    np.testing.assert_array_equal(loaded(photographs[0]), expected)
    assert loaded.threshold == 0.25
    assert loaded.name == "mine"
    assert not segmenters.is_bundled(loaded)
    broken = jax.tree.map(lambda leaf: leaf + 1e6, params)
    with pytest.raises(ValueError, match="float16 cannot hold"):
        segmenters.save(tmp_path / "big", NETWORK, broken, {})


def test_what_is_no_segmenter_is_refused_by_name(tmp_path):
    with pytest.raises(release.ReleaseError, match=r"tumours: no such folder; .*polyps, vessels"):
        segmenters.load("tumours")
    shutil.copytree(segmenters.FOLDER / "vessels", tmp_path / "copy")
    data = bytearray((tmp_path / "copy" / "params.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "copy" / "params.npz").write_bytes(data)
    with pytest.raises(release.ReleaseError, match=r"params\.npz: its SHA-256 is not the one"):
        segmenters.load(tmp_path / "copy")
    _, params = release.load(segmenters.FOLDER / "vessels", shapes=segmenter.shapes)
    network = json.loads((segmenters.FOLDER / "vessels" / "config.json").read_text())["model"]
    del network["name"]
    segmenters.save(tmp_path / "high", network, params, {"threshold": "high"})
    with pytest.raises(release.ReleaseError, match=r"needs a threshold in \[0, 1\]"):
        segmenters.load(tmp_path / "high")


def test_a_bundled_segmenter_is_known_under_another_name(tmp_path):
    assert segmenters.bundled() == ["polyps", "vessels"]
    shutil.copytree(segmenters.FOLDER / "vessels", tmp_path / "renamed")
    assert segmenters.is_bundled(segmenters.load(tmp_path / "renamed"))
