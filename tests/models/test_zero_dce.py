import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from lle_jax import models
from lle_jax.experiments import zero_dce as experiment
from lle_jax.models import zero_dce


def config(**changes):
    base = {"name": "zero_dce", "dtype": "float32", "width": 4, "iterations": 2}
    return ml_collections.ConfigDict(base | changes)


def test_parameters_equal_the_published_network():
    assert models.parameter_count(models.shapes(experiment.get_config().model)) == 79_416


def test_curves_follow_their_formula():
    rng = np.random.default_rng(0)
    image = rng.random((2, 5, 4, 3))
    curves = rng.uniform(-1, 1, (2, 5, 4, 9))
    expected = image
    for n in range(3):
        expected = expected + curves[..., 3 * n : 3 * n + 3] * (expected**2 - expected)
    found = zero_dce.brighten(jnp.asarray(image, jnp.float32), jnp.asarray(curves, jnp.float32))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.all((np.asarray(found) >= 0) & (np.asarray(found) <= 1))


def test_a_wrong_configuration_is_named():
    with pytest.raises(ValueError, match="expected positive numbers"):
        models.build(config(iterations=0), jax.random.key(0))
