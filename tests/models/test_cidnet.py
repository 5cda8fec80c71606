import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import skimage.color

from lle_jax import models
from lle_jax.experiments import cidnet as experiment
from lle_jax.models import cidnet
from lle_jax.models.cost import cost

FAST = {"xla_backend_optimization_level": 0}  # to compile


def config(**changes):
    base = {"name": "cidnet", "dtype": "float32", "widths": (4, 8), "heads": (2,)}
    return ml_collections.ConfigDict(base | changes)


@pytest.fixture(scope="module")
def params():
    return models.build(config(), jax.random.key(0))[1]


def test_parameters_and_operations_equal_the_published_network():
    found = cost(experiment.get_config().model, 256, 256)
    assert round(found.parameters / 2**20, 2) == 1.88
    # as thop counts: attention's products not, 11 per resized value, 1 per value through a PReLU
    values = {128: 36, 64: 72, 32: 144}  # side -> channels after halving
    attention = 2 * 4 * sum(side**2 * c * 18 for side, c in values.items())
    resized = 2 * (sum(side**2 * c for side, c in values.items()))
    resized += 2 * (256**2 * 36 + 128**2 * 36 + 64**2 * 72)
    assert round((found.macs - attention + 12 * resized) / 2**30, 2) == 7.57


def test_hvi_is_hsv_in_polar_coordinates(photographs):
    hue, saturation, value = np.moveaxis(skimage.color.rgb2hsv(photographs), -1, 0)
    radius = np.sin(np.pi / 2 * value) ** 0.3 * saturation
    expected = [radius * np.cos(2 * np.pi * hue), radius * np.sin(2 * np.pi * hue), value]
    found = cidnet.to_hvi(jnp.asarray(photographs), 0.3)
    np.testing.assert_allclose(found, np.stack(expected, axis=-1), atol=2e-5)


def test_hvi_comes_back(photographs):
    corners = np.stack(np.meshgrid(*3 * [[0, 0.4, 1]]), axis=-1).reshape(1, 1, -1, 3)
    for image in (photographs, corners.astype(np.float32)):
        back = cidnet.from_hvi(cidnet.to_hvi(image, 0.2), 0.2)
        np.testing.assert_allclose(back, image, atol=2e-4)  # neutral colours keep 1e-4 of hue


def test_gradients_are_finite_also_where_there_is_no_colour():
    image = jnp.array([[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0], [0, 1e-9, 0]])

    def loss(hvi, density):
        return jnp.sum(jnp.cos(cidnet.from_hvi(hvi, density)))

    for slope in jax.grad(loss, (0, 1))(cidnet.to_hvi(image, 0.2), 0.2):
        assert np.isfinite(slope).all()
    slope = jax.grad(lambda density: jnp.sum(jnp.cos(cidnet.to_hvi(image, density))))(0.2)
    assert np.isfinite(slope)


@pytest.mark.parametrize("size", [(3, 4), (12, 16), (6, 1)])
def test_resizing_aligns_corners(size):
    x = np.random.default_rng(0).random((1, 6, 8, 2), np.float32)
    expected = x
    for axis, new in ((1, size[0]), (2, size[1])):
        old = x.shape[axis]
        at = np.arange(new) * (old - 1) / max(new - 1, 1)
        expected = np.apply_along_axis(
            lambda line, at=at, old=old: np.interp(at, np.arange(old), line), axis, expected
        )
    np.testing.assert_allclose(cidnet._resize(x, *size), expected, atol=1e-6)


def test_odd_sizes_and_a_start_near_the_identity(params, photographs):
    apply = jax.jit(models.bind(config())(params), compiler_options=FAST)
    image = photographs[:, :13, :7]
    output = np.asarray(apply(image))
    assert output.shape == image.shape
    np.testing.assert_allclose(output, image, atol=0.05)


def test_steps_lower_the_error_and_every_parameter_has_a_gradient(params, photographs):
    network, bright = models.bind(config()), photographs[:, :8, :8]

    def error(params):
        return jnp.mean((network(params)(0.3 * bright) - bright) ** 2)

    step = jax.jit(jax.value_and_grad(error), compiler_options=FAST)
    first, slope = step(params)
    paths = jax.tree_util.tree_flatten_with_path(slope)[0]
    assert [path for path, leaf in paths if not 0 < np.abs(leaf).max() < np.inf] == []
    for _ in range(10):
        loss, slope = step(params)
        params = jax.tree.map(lambda p, s: p - 0.1 * s, params, slope)
    assert loss < 0.8 * first


@pytest.mark.parametrize(
    "changes", [{"heads": (1, 1)}, {"heads": (3,)}, {"widths": (4, 0)}, {"widths": ()}]
)
def test_a_wrong_configuration_is_named(changes):
    with pytest.raises(ValueError, match="expected positive numbers, one more width than heads"):
        models.build(config(**changes), jax.random.key(0))
