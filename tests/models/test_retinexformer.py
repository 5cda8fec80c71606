import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from lle_jax import models
from lle_jax.experiments import retinexformer as experiment


def config(**changes):
    base = {"name": "retinexformer", "dtype": "float32", "width": 4, "blocks": (1, 1)}
    return ml_collections.ConfigDict(base | changes)


@pytest.fixture(scope="module")
def network():
    apply, params = models.build(config(), jax.random.key(0))
    return jax.jit(apply), params


def test_parameters_equal_the_published_network():
    params = models.shapes(experiment.get_config().model)
    assert round(models.parameter_count(params) / 1e6, 2) == 1.61


def test_odd_sizes_and_grey(network, photographs):
    apply, params = network
    image = photographs[:, :13, :7].copy()
    image[0] = image[0, ..., :1]
    output = np.asarray(apply(params, image))
    assert output.shape == image.shape
    np.testing.assert_array_equal(output[0, ..., 0], output[0, ..., 2])
    assert np.abs(output[1, ..., 0] - output[1, ..., 2]).max() > 0.01


def test_bfloat16_stays_close(network, photographs):
    apply, params = network
    image = photographs[:, :13, :7]
    half, _ = models.build(config(dtype="bfloat16"), jax.random.key(0))
    output = jax.jit(half)(params, image)
    assert output.dtype == jnp.float32
    assert 0 < np.abs(output - apply(params, image)).max() < 0.1


def test_a_few_steps_lower_the_error_and_every_parameter_has_a_gradient(network, photographs):
    (apply, params), dark = network, 0.5 * photographs

    @jax.jit
    def step(params):
        loss, slope = jax.value_and_grad(lambda p: jnp.mean((apply(p, dark) - photographs) ** 2))(
            params
        )
        return loss, slope, jax.tree.map(lambda p, s: p - 0.05 * s, params, slope)

    losses = []
    for _ in range(8):
        loss, slope, params = step(params)
        losses.append(float(loss))
    assert losses[-1] < 0.7 * losses[0]
    paths = jax.tree_util.tree_flatten_with_path(slope)[0]
    assert [path for path, leaf in paths if not np.abs(leaf).max() > 0] == []


@pytest.mark.parametrize("changes", [{"width": 6}, {"blocks": ()}, {"blocks": (1, 0)}])
def test_a_wrong_configuration_is_named(changes):
    with pytest.raises(ValueError, match="expected a multiple of 4 and positive numbers"):
        models.build(config(**changes), jax.random.key(0))
