"""Checks what every network of `models.NETWORKS` promises, each at its smallest configuration."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from lle_jax import models

SMALLEST = {
    "unet": {"widths": (4,), "blocks": 1},
    "dual_path": {"widths": (4,), "blocks": (1,)},
    "nafnet": {"width": 2, "encoder": (1,), "middle": 1, "decoder": (1,)},
    "retinexformer": {"width": 4, "blocks": (1,)},
    "zero_dce": {"width": 2, "iterations": 1},
    "cidnet": {"widths": (2, 2), "heads": (1,)},
    "flol": {"width": 4, "amplitude_width": 2, "frequency_blocks": 1, "spatial_blocks": 1},
    "iat": {"width": 4, "blocks": 1, "global_width": 8},
}

# The largest error of bfloat16 as a fraction of what the network changes; 0.02 where none is named.
# Measured are 0.003 to 0.011, and 0.033 for CIDNet.
BFLOAT16_ERROR = {"cidnet": 0.05}


def config(name: str, **changes) -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict({"name": name, "dtype": "float32"} | SMALLEST[name] | changes)


@pytest.fixture(scope="module", params=models.NETWORKS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def network(name):
    """The network's function, and parameters that are all random, so that none is left at 0."""
    apply, params = models.build(config(name), jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + rng.normal(0, 0.03, leaf.shape).astype(np.float32), params
    )
    return apply, params


@pytest.fixture(scope="module")
def run(network):
    """`[2, 3, H, W, 3] -> image`: one program for each size of image."""
    apply, params = network
    compiled = jax.jit(apply)
    return lambda image: np.asarray(compiled(params, image))


@pytest.fixture(scope="module")
def images(photographs):
    """Two axes of images, `[2, 2, 7, 5, 3]`: a coloured photograph, and a grey one, and darker."""
    crop = photographs[0, :7, :5]
    grey = np.repeat(crop[..., :1], 3, axis=-1)
    return np.stack([np.stack([crop, grey]), np.stack([0.2 * crop, 0.2 * grey])])


@pytest.fixture(scope="module")
def outputs(run, images):
    return run(images)


def test_the_smallest_configuration_of_every_network_is_known():
    assert SMALLEST.keys() == models.NETWORKS.keys()


def test_parameters_are_float32_under_unique_names(name, network):
    _, params = network
    leaves = jax.tree_util.tree_leaves_with_path(params)
    names = [jax.tree_util.keystr(path) for path, _ in leaves]
    assert len(set(names)) == len(names)
    assert {leaf.dtype for _, leaf in leaves} == {jnp.dtype("float32")}
    shapes = models.shapes(config(name))
    assert jax.tree.structure(shapes) == jax.tree.structure(params)
    assert models.parameter_count(shapes) == sum(leaf.size for _, leaf in leaves) > 0


def test_any_size_and_batch_axes(run, images, outputs):
    assert outputs.shape == images.shape
    assert outputs.dtype == np.float32
    assert np.isfinite(outputs).all()
    one = run(images[:, :, :1, :1])
    assert one.shape == (2, 2, 1, 1, 3)
    assert np.isfinite(one).all()


def test_grey_in_gives_exactly_grey_out(outputs):
    np.testing.assert_array_equal(outputs[:, 1, ..., 0], outputs[:, 1, ..., 1])
    np.testing.assert_array_equal(outputs[:, 1, ..., 0], outputs[:, 1, ..., 2])
    assert (outputs[:, 0, ..., 0] != outputs[:, 0, ..., 1]).any()


def test_one_channel_without_batch_axes_is_as_three_in_a_batch(network, images, outputs):
    apply, params = network
    one = jax.jit(apply)(params, images[1, 1, ..., :1])
    assert one.shape == (7, 5, 1)
    np.testing.assert_allclose(one[..., 0], outputs[1, 1, ..., 0], atol=1e-5)


def test_bfloat16_returns_float32_close_to_float32(name, network, images, outputs):
    half, _ = models.build(config(name, dtype="bfloat16"), jax.random.key(0))
    close = jax.jit(half)(network[1], images)
    assert close.dtype == jnp.float32
    change = np.abs(outputs - images).max()
    error = np.abs(close - outputs).max()
    assert 0 < error < BFLOAT16_ERROR.get(name, 0.02) * change


def test_gradients_are_finite_and_reach_every_parameter(network, images):
    apply, params = network

    def loss(params, image):
        return jnp.mean((apply(params, image) - 0.5) ** 2)

    gradients = jax.jit(jax.grad(loss))(params, images)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)
        assert np.any(leaf), jax.tree_util.keystr(path)
