import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

import lle_jax
from lle_jax import cli, models
from lle_jax.checkpoints import load, release
from lle_jax.inference import export

DOCS = Path(__file__).parents[2] / "docs" / "enhance.md"


@pytest.fixture(scope="module")
def exported(folder, tmp_path_factory):
    pytest.importorskip("flatbuffers", reason="jax exports with flatbuffers: pip install it")
    path = tmp_path_factory.mktemp("exported") / "model.stablehlo"
    assert cli.main(["export", "-o", str(path), "--model", str(folder)]) == 0
    return path


@pytest.mark.parametrize("shape", [(2, 13, 22), (1, 1, 1)])
def test_one_file_serves_any_batch_and_size(exported, config, params, shape):
    program = jax.export.deserialize(bytearray(exported.read_bytes()))
    rng = np.random.default_rng(0)
    image = rng.random((*shape, 3)).astype(np.float32)
    if len(image) > 1:
        image[0] = image[0, ..., :1]  # grey
    found = program.call(image)
    apply = jax.jit(lambda params, image: models.bind(config)(params)(image))
    expected = np.clip(apply(params, image), 0, 1)
    assert np.abs(expected - image).max() > 0.02
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert set(program.platforms) == {"cpu", "cuda", "tpu"}


def test_the_released_model_has_all_its_paths_when_exported():
    pytest.importorskip("flatbuffers", reason="jax exports with flatbuffers: pip install it")
    config, params = release.load()
    assert all(config[f"{path}_path"] for path in ("exposure", "light", "glare"))
    program = jax.export.deserialize(bytearray(export.serialise(config, params)))
    image = 0.3 * np.random.default_rng(0).random((3, 33, 20, 3)).astype(np.float32)
    image[0] = image[0, ..., :1]
    apply = jax.jit(lambda params, image: models.bind(config)(params)(image))
    expected = np.clip(apply(params, image), 0, 1)
    assert np.abs(expected - image).max() > 0.1
    np.testing.assert_allclose(program.call(image), expected, atol=1e-5)


def test_the_example_in_the_documentation_runs_without_lle_jax(exported, folder, tmp_path):
    (code,) = re.findall(r"## Without lle_jax.*?```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 10
    (tmp_path / "model.stablehlo").write_bytes(exported.read_bytes())
    dark = np.random.default_rng(0).integers(0, 60, (20, 30, 3), np.uint8)
    Image.fromarray(dark).save(tmp_path / "dark.png")
    code = "import sys\nsys.modules['lle_jax'] = None\n" + code
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    bright = np.asarray(Image.open(tmp_path / "bright.png")).astype(int)
    assert np.abs(bright - lle_jax.enhance(dark, model=folder)).max() <= 1


def test_a_run_is_exported_and_nothing_is_written_into_the_model(folder, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(export, "serialise", lambda *model: written.append(model) or b"model")
    monkeypatch.setattr(load, "load_model", lambda path: SimpleNamespace(config=path, params=1))
    run = tmp_path / "run"
    assert cli.main(["export", "-o", str(tmp_path / "a"), "--model", str(run)]) == 0
    assert written == [(run, 1)]
    assert (tmp_path / "a").read_bytes() == b"model"
    before = (folder / "params.npz").read_bytes()
    for path in (folder / "params.npz", folder / "a", folder / ".." / folder.name / "b" / "c"):
        assert cli.main(["export", "-o", str(path), "--model", str(folder)]) == 2
    assert (folder / "params.npz").read_bytes() == before
    assert not (folder / "a").exists()


def test_a_missing_package_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    for name in [name for name in sys.modules if name.startswith("jax._src.export.serial")]:
        monkeypatch.delitem(sys.modules, name)
    # the module is also an attribute of its package
    monkeypatch.delattr("jax._src.export.serialization", raising=False)
    with pytest.raises(export.ExportError, match="pip install flatbuffers"):
        export.serialise(*release.load(folder))
