import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from lle_jax import models
from lle_jax.experiments import nafnet as experiment


def config(**changes):
    base = {"name": "nafnet", "dtype": "float32", "width": 4, "encoder": (1,), "middle": 1}
    return ml_collections.ConfigDict(base | {"decoder": (1,)} | changes)


def test_parameters_equal_the_published_deblurring_network():
    published = config(width=32, encoder=(1, 1, 1, 28), decoder=(1, 1, 1, 1))
    assert round(models.parameter_count(models.shapes(published)) / 1e6, 2) == 17.11


def test_the_experiments_network_is_small():
    assert models.parameter_count(models.shapes(experiment.get_config().model)) < 1_000_000


def test_it_starts_near_the_identity(photographs):
    image = photographs[:, :13, :7]
    apply, params = models.build(config(), jax.random.key(0))
    np.testing.assert_allclose(jax.jit(apply)(params, image), image, atol=0.05)


def test_a_few_steps_lower_the_error(photographs):
    apply, params = models.build(config(), jax.random.key(0))
    dark = 0.5 * photographs

    @jax.jit
    def step(params):
        loss, slope = jax.value_and_grad(lambda p: jnp.mean((apply(p, dark) - photographs) ** 2))(
            params
        )
        return loss, jax.tree.map(lambda p, s: p - 0.3 * s, params, slope)

    losses = []
    for _ in range(8):
        loss, params = step(params)
        losses.append(float(loss))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("changes", [{"decoder": (1, 1)}, {"width": 0}, {"middle": 0}])
def test_a_wrong_configuration_is_named(changes):
    with pytest.raises(ValueError, match="expected positive numbers, as many in both"):
        models.build(config(**changes), jax.random.key(0))
