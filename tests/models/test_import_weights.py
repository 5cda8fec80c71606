import importlib.util
import json
import struct
from pathlib import Path

import jax
import numpy as np
import pytest

from lle_jax import cli, images, models
from lle_jax.checkpoints import release
from lle_jax.models import import_weights, torch_files

REFERENCE = Path(__file__).parents[1] / "reference"
NAMES = ("flol", "iat", "nafnet", "retinexformer", "zero_dce")
FOLDED = ("iat",)  # a batch normalisation and the convolution before it become one convolution


@pytest.fixture(scope="module")
def recorder():
    path = REFERENCE / "record_networks.py"
    spec = importlib.util.spec_from_file_location("record_networks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def recorded():
    return json.loads((REFERENCE / "networks.json").read_text())["networks"]


def safetensors(tensors):
    header, parts, end = {"__metadata__": {"format": "pt"}}, [], 0
    for name, array in tensors.items():
        first, end = end, end + array.nbytes
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [first, end]}
        parts.append(array.tobytes())
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


@pytest.mark.parametrize("name", NAMES)
def test_an_imported_network_computes_what_pytorch_did(name, recorder, recorded, tmp_path, capsys):
    expected, image = recorded[name], recorder.image()
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors(recorder.weights(expected["shapes"])))
    command = ["import-weights", str(path), "--model", name, "-o", str(tmp_path / "out")]
    assert cli.main(command) == 0
    assert f"width {expected['sizes']['width']}, " in capsys.readouterr().out
    config, params = release.load(tmp_path / "out")
    sizes = {key: config[key] for key in expected["sizes"]}
    assert json.loads(json.dumps(sizes)) == expected["sizes"]
    description = json.loads((tmp_path / "out" / "config.json").read_text())
    assert description["record"]["imported from"] == "model.safetensors"
    assert len(description["record"]["sha256"]) == 64
    network = models.bind(config)
    run = jax.jit(
        lambda params, image: network(params)(image),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    output = np.asarray(run(params, image))
    np.testing.assert_allclose(output.ravel(), expected["output"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FOLDED])
def test_every_tensor_matters(name, recorder, recorded):
    """Each parameter of ours comes from the file, and each tensor of the file is a parameter."""
    tensors = recorder.weights(recorded[name]["shapes"])
    _, params = import_weights.convert(tensors, name)
    ours = np.sort(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)]))
    theirs = np.sort(np.concatenate([np.ravel(array) for array in tensors.values()]))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", FOLDED)
def test_every_tensor_matters_where_several_become_one_parameter(name, recorder, recorded):
    tensors = recorder.weights(recorded[name]["shapes"])
    before = jax.tree.leaves(import_weights.convert(tensors, name)[1])
    for changed, array in tensors.items():
        _, params = import_weights.convert(tensors | {changed: array + 1}, name)
        leaves = zip(before, jax.tree.leaves(params), strict=True)
        same = all(np.array_equal(first, second) for first, second in leaves)
        assert same == changed.endswith("num_batches_tracked"), changed


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_or_partial_file_is_refused(name, recorder, recorded):
    tensors = recorder.weights(recorded[name]["shapes"])
    first, second = [key for key in sorted(tensors) if key.endswith("bias")][:2]
    wrong = {key: array for key, array in tensors.items() if key != first}
    wrong[second] = wrong[second][..., None]
    wrong["more\nlines"] = np.zeros(3, np.float32)
    with pytest.raises(torch_files.WeightsError) as caught:
        import_weights.convert(wrong, name)
    count = tensors[second].size
    assert str(caught.value) == (
        f"tensors are not those of {name}: 1 missing ({first}); 1 unexpected ('more\\nlines'); "
        f"1 of another shape ({second} ({count}, 1), not ({count},))"
    )
    for other in NAMES:
        if other != name:
            with pytest.raises(torch_files.WeightsError, match=r"missing|expected"):
                import_weights.convert(tensors, other)


def test_sizes_that_nobody_has_are_refused_at_once(recorder, recorded):
    tensors = recorder.weights(recorded["nafnet"]["shapes"])
    huge = tensors | {"intro.weight": np.zeros((2000, 3, 1, 1), np.float32)}
    with pytest.raises(ValueError, match="of 2000; expected at most 1024"):
        import_weights.convert(huge, "nafnet")
    deep = tensors | {f"downs.{level}.weight": np.zeros(1, np.float32) for level in range(2, 40)}
    with pytest.raises(ValueError, match="40 levels"):
        import_weights.convert(deep, "nafnet")
    with pytest.raises(ValueError, match="no import for 'unet'; expected one of flol, iat, nafnet"):
        import_weights.convert(tensors, "unet")


def test_numbers_that_are_not_finite_are_refused(recorder, recorded, tmp_path, capsys):
    tensors = recorder.weights(recorded["zero_dce"]["shapes"])
    tensors["e_conv3.bias"][2] = np.nan
    (tmp_path / "nan.safetensors").write_bytes(safetensors(tensors))
    command = ["import-weights", str(tmp_path / "nan.safetensors"), "--model", "zero_dce"]
    assert cli.main([*command, "-o", str(tmp_path / "out")]) == 2
    assert "e_conv3.bias holds NaN" in capsys.readouterr().err
    assert not (tmp_path / "out" / "release.json").exists()


def test_a_file_that_pytorch_wrote(recorder, tmp_path):
    """zero_dce_tiny.pth and .legacy.pth: float16, torch.save's two formats."""
    newer = torch_files.parse(recorder.TINY.read_bytes(), recorder.TINY)
    expected = recorder.weights({name: array.shape for name, array in newer.items()})
    for name, array in expected.items():
        np.testing.assert_array_equal(newer[name], array.astype(np.float16).astype(np.float32))
    older = torch_files.parse(recorder.TINY_LEGACY.read_bytes(), recorder.TINY_LEGACY)
    assert list(older) == list(newer)
    for name in newer:
        np.testing.assert_array_equal(older[name], newer[name])
    config, _ = import_weights.convert(newer, "zero_dce")
    assert (config.width, config.iterations) == (2, 1)


SHARED = Path(__file__).parents[3] / "shared"


@pytest.mark.parametrize(
    ("name", "file", "expected"),
    [  # PSNR of the modules of record_networks.py in PyTorch, float32, on images 1 and 111
        ("iat", "iat_lol_v1.pth", (22.8694, 28.7049)),
        ("zero_dce", "zero_dce_Epoch99.pth", (13.8060, 12.6468)),
        ("flol", "flol_all.pt", (21.6691, 20.0454)),
    ],
)
def test_public_weights_give_what_they_do_in_pytorch(name, file, expected):
    weights, pairs = SHARED / "weights" / file, SHARED / "data" / "lol_eval15"
    if not weights.is_file() or not pairs.is_dir():
        pytest.skip("../shared/weights and ../shared/data/lol_eval15 are not here")
    tensors = torch_files.parse(torch_files.load(weights), weights)
    config, params = import_weights.convert(tensors, name)
    enhance = jax.jit(models.forward(config))
    for image, psnr in zip(("1.png", "111.png"), expected, strict=True):
        low, clean = (images.read(pairs / side / image).pixels for side in ("low", "high"))
        error = np.mean((np.asarray(enhance(params, low), np.float64) - clean) ** 2)
        assert abs(-10 * np.log10(error) - psnr) < 0.005
