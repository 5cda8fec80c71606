import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from lle_jax import models
from lle_jax.experiments import unet as experiment
from lle_jax.models import layers


def config(**changes):
    base = {"name": "unet", "dtype": "float32", "widths": (8, 12), "blocks": 1}
    return ml_collections.ConfigDict(base | changes)


@pytest.fixture(scope="module")
def network():
    """A small network whose parameters are all random, so that it is not the identity."""
    apply, params = models.build(config(), jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + rng.normal(0, 0.03, leaf.shape).astype(np.float32), params
    )
    return jax.jit(apply), params


def test_space_to_depth_is_undone_by_its_inverse_and_keeps_blocks_together():
    image = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    folded = layers.space_to_depth(image, 2)
    assert folded.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(folded[0, 1, 2].reshape(2, 2, 3), image[0, 2:4, 4:6])
    np.testing.assert_array_equal(layers.depth_to_space(folded, 2), image)


def test_the_experiments_network_has_at_most_a_million_parameters():
    _, params = models.build(experiment.get_config().model, jax.random.key(0))
    assert 300_000 < models.parameter_count(params) <= 1_000_000


def test_an_untrained_network_is_the_identity(photographs):
    apply, params = models.build(config(), jax.random.key(0))
    np.testing.assert_allclose(jax.jit(apply)(params, photographs), photographs, atol=1e-6)


def test_jit_equals_eager(network, photographs):
    apply, params = network
    with jax.disable_jit():
        eager = apply(params, photographs[:1, :9, :6])
    np.testing.assert_allclose(apply(params, photographs[:1, :9, :6]), eager, atol=1e-5)


def test_one_image_of_a_batch_does_not_change_another(network, photographs):
    apply, params = network
    alone = apply(params, photographs[:1])
    np.testing.assert_allclose(apply(params, photographs)[:1], alone, atol=1e-5)


def test_the_brightness_of_the_whole_image_reaches_every_pixel(network, photographs):
    apply, params = network
    image = jnp.asarray(photographs[0])
    influence = jax.jit(jax.grad(lambda x: apply(params, x)[0, 0].sum()))(image)
    assert np.abs(influence[-1, -1]).max() > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "unett"}, "model.name is 'unett'; expected one of unet"),
        ({"dtype": "float8"}, "model.dtype is 'float8'; expected float32 or bfloat16"),
        ({"depth": 3}, "unexpected keyword argument 'depth'"),
        ({"widths": ()}, "expected positive numbers"),
    ],
)
def test_a_wrong_configuration_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        models.build(config(**changes), jax.random.key(0))
