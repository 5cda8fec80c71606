import dataclasses
import hashlib
import json
import zipfile

import jax
import numpy as np
import optax
import pytest

from lle_jax import cli, models
from lle_jax.checkpoints import release, training_record
from lle_jax.checkpoints.run import Checkpoints
from lle_jax.checks import CheckpointError
from lle_jax.training import state


def reseal(folder):
    """Makes release.json fit the files, as somebody who means harm would."""
    path = folder / "release.json"
    content = json.loads(path.read_text())
    for name in content["sha256"]:
        content["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    path.write_text(json.dumps(content))


@pytest.fixture
def copy(config, params, tmp_path):
    release.save(tmp_path / "copy", config, params, {})
    return tmp_path / "copy"


def test_what_is_saved_comes_back(config, params, folder):
    found, loaded = release.load(folder)
    assert found.to_dict() == json.loads(config.to_json_best_effort())
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    for before, after in zip(jax.tree.leaves(params), jax.tree.leaves(loaded), strict=True):
        np.testing.assert_array_equal(before, after)


def test_float16_halves_the_size_and_stays_close(config, params, folder, tmp_path):
    release.save(tmp_path, config, params, {}, dtype="float16")
    half, loaded = np.load(tmp_path / "params.npz"), release.load(tmp_path)[1]
    assert {array.dtype for array in half.values()} == {np.dtype(np.float16)}
    for before, after in zip(jax.tree.leaves(params), jax.tree.leaves(loaded), strict=True):
        assert after.dtype == np.float32
        np.testing.assert_allclose(before, after, rtol=2**-10, atol=2**-24)
    assert release.digest(tmp_path) != release.digest(folder)


def test_the_same_parameters_give_the_same_bytes(folder, copy):
    assert (folder / "params.npz").read_bytes() == (copy / "params.npz").read_bytes()


def test_every_file_is_guarded_by_its_digest(copy):
    for name in ("params.npz", "config.json", "CARD.md"):
        data = (copy / name).read_bytes()
        (copy / name).write_bytes(data + b" ")
        with pytest.raises(release.ReleaseError, match=rf"{name}: its SHA-256"):
            release.load(copy)
        (copy / name).write_bytes(data)
    release.load(copy)


def missing(arrays):
    del arrays["stem.kernel"]


def unexpected(arrays):
    arrays["extra"] = np.zeros(1, np.float32)


def reshaped(arrays):
    arrays["stem.bias"] = arrays["stem.bias"][:-1]


def integers(arrays):
    arrays["stem.bias"] = arrays["stem.bias"].astype(np.int32)


def objects(arrays):
    arrays["stem.bias"] = np.array([{}], object)


def bomb(arrays):
    arrays["stem.bias"] = np.zeros(10**6, np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (missing, "stem.kernel is missing"),
        (unexpected, "extra is unexpected"),
        (reshaped, r"stem.bias is float32 \(3,\); expected float16 or float32 \(4,\)"),
        (integers, "stem.bias is int32"),
        (objects, "not a file of plain arrays"),
        (bomb, "bytes are too many for"),
    ],
)
def test_arrays_of_another_network_are_named(copy, change, message):
    arrays = dict(np.load(copy / "params.npz"))
    change(arrays)
    np.savez_compressed(copy / "params.npz", **arrays)
    reseal(copy)
    with pytest.raises(release.ReleaseError, match=message) as raised:
        release.load(copy)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("params.npz", b"PK\x05\x06" + bytes(18), "is missing"),
        ("params.npz", b"no archive", "not a file of plain arrays"),
        ("config.json", b"{}", "no description of a network"),
        ("config.json", b'{"model": {"name": "x", "dtype": "float32"}}', "model.name is 'x'"),
        ("config.json", b"[", "no description of a network"),
    ],
)
def test_damaged_files_are_named_even_with_a_fitting_digest(copy, name, content, message):
    (copy / name).write_bytes(content)
    reseal(copy)
    with pytest.raises(release.ReleaseError, match=message):
        release.load(copy)


def test_what_is_no_release_is_said(tmp_path, copy, monkeypatch):
    with pytest.raises(release.ReleaseError, match="no released model"):
        release.load(tmp_path)
    monkeypatch.setattr(release, "BUNDLED", tmp_path)
    with pytest.raises(release.ReleaseError, match="no model is bundled with"):
        release.load()
    (copy / "CARD.md").unlink()
    with pytest.raises(release.ReleaseError, match=r"CARD\.md: No such file"):
        release.load(copy)
    (copy / "release.json").write_text('{"format": 2, "sha256": {}}')
    with pytest.raises(release.ReleaseError, match="format 2, not 1"):
        release.load(copy)
    (copy / "release.json").write_text("3")
    with pytest.raises(release.ReleaseError, match="damaged"):
        release.load(copy)


def test_parameters_that_cannot_be_released_are_refused(config, params, tmp_path):
    broken = jax.tree.map(lambda leaf: leaf * 1e6, params)
    with pytest.raises(release.ReleaseError, match="float16 cannot hold"):
        release.save(tmp_path / "new", config, broken, {}, dtype="float16")
    other = config.copy_and_resolve_references()
    other.widths = (6, 6)
    with pytest.raises(release.ReleaseError, match="expected float16 or float32"):
        release.save(tmp_path / "new", other, params, {})
    assert not (tmp_path / "new").exists()


def test_what_is_no_release_is_not_replaced(config, params, copy, tmp_path):
    release.save(copy, config, params, {})  # another release is
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(release.ReleaseError, match="holds other files"):
        release.save(tmp_path / "run", config, params, {})
    assert (tmp_path / "run" / "config.json").read_text() == "{}"


def test_the_archive_is_one_that_numpy_alone_reads(folder):
    with zipfile.ZipFile(folder / "params.npz") as archive:
        assert all(name.endswith(".npy") for name in archive.namelist())
    assert "not at all" in (folder / "CARD.md").read_text()


def test_a_run_becomes_a_release_of_its_average_and_names_no_path(config, params, tmp_path):
    with pytest.raises(CheckpointError, match="neither a run directory nor a release"):
        training_record.read(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "model": config.to_dict(),
                "data": {"source": "/home/me/eyes"},
                "degradation": {"mixed_with": ["/home/me/beside.toml", "wide"]},
            }
        )
    )
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        training_record.read(tmp_path)
    start = state.create(params, optax.adamw(1e-3), jax.random.key(7))
    start = dataclasses.replace(start, ema=jax.tree.map(lambda leaf: leaf + 1, params))
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(start, {}, {})
    loaded, record = training_record.read(tmp_path)
    assert loaded.config.to_dict() == json.loads(config.to_json())
    for before, after in zip(jax.tree.leaves(params), jax.tree.leaves(loaded.params), strict=True):
        np.testing.assert_array_equal(before + 1, after)
    assert record == {
        "step": 0,
        "data.source": "eyes",
        "degradation.mixed_with": ["beside.toml", "wide"],
    }
    (tmp_path / "evaluation").mkdir()
    for name, contents, message in (
        ("environment.json", (b"", b"[]", b"3", b"[3]", b"\xff"), "damaged; restore it, or remove"),
        (
            "evaluation/summary.csv",
            (b"", b"method,mean\na,3\n", b"\xff"),
            "damaged; evaluate the run",
        ),
    ):
        for content in contents:
            (tmp_path / name).write_bytes(content)
            with pytest.raises(CheckpointError, match=message):
                training_record.read(tmp_path)
        (tmp_path / name).unlink()
    output = ["release", str(tmp_path), "-o", str(tmp_path / "out"), "--float16"]
    (tmp_path / "card").write_bytes(b"\xff")
    assert cli.main([*output, "--card", str(tmp_path / "card")]) == 2
    assert cli.main(output) == 0
    assert release.record(tmp_path / "out") == record
    assert np.load(tmp_path / "out" / "params.npz")["stem.bias"].dtype == np.float16
    assert cli.main(["release", str(tmp_path / "out"), "-o", str(tmp_path / "again")]) == 2


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("/clinic/Hospital A/Jane Doe/img", "img"),
        ("/clinic/Doe, Jane/img/", "img"),
        ("/clinic/Jane Doe/a.csv,/clinic/John Doe/b.CSV,samples", "a.csv,b.CSV,samples"),
        ("samples,/clinic/Jane Doe/img", "samples,img"),
        ("samples,/clinic/Doe, Jane/img", "img"),
        ("C:\\Jane Doe\\low,C:\\Jane Doe\\high", "high"),
        (["lowlight", "/clinic/Jane Doe/my preset.toml"], ["lowlight", "my preset.toml"]),
        ("samples", "samples"),
        (0.5, 0.5),
    ],
)
def test_of_paths_with_blanks_and_commas_only_the_last_part_is_recorded(value, kept):
    assert training_record._without_folders(value) == kept


def test_a_release_of_an_earlier_version_still_loads(config, params, tmp_path):
    config = config.copy_and_resolve_references()
    config.uncertainty = config.exposure_path = True
    shapes = models.shapes(config)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: rng.normal(0, 1, s.shape).astype(np.float32), shapes)
    added = params.log_scale_grey, params.exposure.clinic.kernel, params.exposure.clinic.bias
    for leaf in added:
        leaf[...] = np.zeros(leaf.shape, np.float32)
    release.save(tmp_path, config, params, {})
    arrays = dict(np.load(tmp_path / "params.npz"))
    for name in ("log_scale_grey", "exposure.clinic.kernel", "exposure.clinic.bias"):
        del arrays[name]
    former = {name.replace("log_scale.", "spread."): array for name, array in arrays.items()}
    assert former.keys() != arrays.keys()
    np.savez(tmp_path / "params.npz", **former)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"uncertainty"', '"spread"'))
    reseal(tmp_path)
    loaded, again = release.load(tmp_path)
    assert loaded.uncertainty is True
    for before, after in zip(jax.tree.leaves(params), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(before, after)
