import functools
import importlib.util
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lle_jax import metrics
from lle_jax.metrics import learned

REFERENCE = Path(__file__).parents[1] / "reference"


@pytest.fixture(scope="module")
def recorder():
    spec = importlib.util.spec_from_file_location("record_learned", REFERENCE / "record_learned.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def arrays(recorder):
    """Network -> tensors under PyTorch's names."""
    return functools.cache(lambda network: recorder.weights(learned.lpips_shapes(network)))


@pytest.mark.parametrize("network", ["alex", "vgg"])
def test_lpips_equals_pytorch(recorder, arrays, network):
    record = json.loads(recorder.PATH.read_text())
    images = recorder.pair()
    assert recorder.checksum(images) == record["images"], "not the images that were recorded"
    tensors = arrays(network)
    digest = recorder.checksum(tensors[name] for name in sorted(tensors))
    assert digest == record["networks"][network]["sha256"], "not the weights that were recorded"
    weights = learned.lpips_weights(tensors)
    value = jax.jit(metrics.lpips)(*images, weights)
    np.testing.assert_allclose(value, record["networks"][network]["lpips"], rtol=1e-4)


def test_identical_images_are_0_and_the_gradient_is_finite(recorder, arrays):
    weights = learned.lpips_weights(arrays("alex"))
    images, _ = recorder.pair()
    black = jnp.zeros_like(images)

    @jax.jit
    def loss(image, reference):
        return metrics.lpips(image, reference, weights).sum()

    gradient = jax.jit(jax.grad(loss))
    assert loss(images, images) == 0
    for image, reference in ((images, images), (black, images)):
        assert jnp.isfinite(gradient(image, reference)).all()
    assert jnp.abs(gradient(images, images)).max() < 1e-9
    assert jnp.abs(gradient(black, images)).max() > 0


def test_grey_counts_as_three_equal_channels_axes_lead_and_jit_changes_nothing(recorder, arrays):
    weights = learned.lpips_weights(arrays("alex"))
    image, reference = (x[:, None, :31, :31, :1] for x in recorder.pair())  # the smallest
    grey = jax.jit(metrics.lpips)(image, reference, weights)
    assert grey.shape == (2, 1)
    colour = [jnp.broadcast_to(x, (*x.shape[:-1], 3)) for x in (image, reference)]
    np.testing.assert_allclose(metrics.lpips(*colour, weights), grey, rtol=1e-5)


def renamed(tensors):
    """As the authors' package saves them."""
    slices = {0: 1, 3: 2, 6: 3, 8: 4, 10: 5}
    result = {}
    for name, array in tensors.items():
        kind, number, rest = name.partition(".")[0], name.split(".")[1], name.split(".", 2)[2]
        if kind == "features":
            result[f"net.slice{slices[int(number)]}.{number}.{rest}"] = array
        else:
            result |= {name: array, f"lins.{kind[3:]}.model.1.weight": array}
    result["scaling_layer.shift"] = np.float32([-0.030, -0.088, -0.188]).reshape(1, 3, 1, 1)
    result["scaling_layer.scale"] = np.float32([0.458, 0.448, 0.450]).reshape(1, 3, 1, 1)
    return result


def test_a_file_in_either_naming_gives_the_same_weights(arrays, tmp_path):
    tensors = arrays("alex")
    np.savez(tmp_path / "authors.npz", **renamed(tensors))
    loaded = learned.load_lpips(tmp_path / "authors.npz")
    expected = learned.lpips_weights(tensors | {"classifier.1.weight": np.zeros((2, 2))})
    assert list(loaded) == list(expected) == list(learned.lpips_shapes("alex"))
    for name, array in tensors.items():
        assert (loaded[name] == array).all()
        assert (expected[name] == array).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.3.bias": None}, r"features\.3\.bias is missing of alex"),
        ({"lin2.model.1.weight": None}, r"lin2\.model\.1\.weight is missing"),
        ({"features.3.bias": np.zeros(7, np.float32)}, r"features\.3\.bias is float32 \(7,\)"),
        ({"features.3.bias": np.zeros(192, np.int32)}, r"features\.3\.bias is int32"),
        ({"features.3.bias": np.full(192, np.nan, np.float32)}, r"features\.3\.bias is not finite"),
        ({"features.1.weight": np.zeros(3, np.float32)}, r"features\.1\.weight is no tensor"),
        ({"net.slice1.0.bias": np.zeros(64, np.float32)}, "is present twice"),
        ({"lins.0.model.1.weight": np.ones((1, 64, 1, 1))}, r"lins\.0.* differs"),
        ({"lins.7.model.1.weight": np.ones((1, 64, 1, 1))}, r"lins\.7.* is no tensor"),
        ({"scaling_layer.shift": np.zeros((1, 3, 1, 1))}, r"scaling_layer\.shift differs"),
    ],
)
def test_wrong_tensors_are_refused_by_name(arrays, change, message):
    tensors = {**arrays("alex"), **change}
    with pytest.raises(ValueError, match=message):
        learned.lpips_weights({k: v for k, v in tensors.items() if v is not None})


def test_files_that_are_no_weights_are_refused(tmp_path):
    with pytest.raises(learned.WeightsError, match=r"none\.npz: not found"):
        learned.load_lpips(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(learned.WeightsError, match=r"text\.npz: not an archive of arrays"):
        learned.load_lpips(tmp_path / "text.npz")
    np.savez(tmp_path / "pickled.npz", **{"features.0.weight": np.array([{}], dtype=object)})
    with pytest.raises(learned.WeightsError, match=r"pickled\.npz"):
        learned.load_lpips(tmp_path / "pickled.npz")
    np.savez(tmp_path / "empty.npz")
    with pytest.raises(learned.WeightsError, match=r"features\.0\.weight is missing"):
        learned.load_lpips(tmp_path / "empty.npz")
    with pytest.raises(ValueError, match="network is 'squeeze'"):
        learned.lpips_shapes("squeeze")


def test_images_that_do_not_fit_are_refused(arrays):
    weights = learned.lpips_weights(arrays("alex"))
    with pytest.raises(ValueError, match=r"30x64 pixels; LPIPS \(alex\) needs 31x31"):
        metrics.lpips(jnp.zeros((30, 64, 3)), jnp.zeros((30, 64, 3)), weights)
    with pytest.raises(ValueError, match="they must be equal"):
        metrics.lpips(jnp.zeros((64, 64, 3)), jnp.zeros((64, 64, 1)), weights)
