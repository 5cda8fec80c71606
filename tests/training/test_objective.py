import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lle_jax.checks import ConfigError
from lle_jax.experiments import base
from lle_jax.training import losses, objective
from lle_jax.training.objective import of_displayed


def test_an_output_beyond_black_or_white_is_no_error_there_and_learns_elsewhere():
    displayed = of_displayed(losses.mse)
    output = jnp.array([-0.2, -0.2, 1.3, 1.3, 0.4]).reshape(1, 5, 1)
    target = jnp.array([0.0, 0.1, 1.0, 0.9, 0.5]).reshape(1, 5, 1)
    value, gradient = jax.value_and_grad(displayed)(output, target)
    clipped = np.clip(output, 0, 1)
    np.testing.assert_allclose(value, np.mean((clipped - target) ** 2), rtol=1e-5)
    # that of the clipped image, where the output is clipped as well
    np.testing.assert_allclose(gradient, 2 * (clipped - target) / 5, rtol=1e-5, atol=1e-7)
    assert losses.mse(output, target) > value


def test_only_a_network_that_takes_an_exposure_may_be_told_it():
    config = base.get_config()
    config.train.given_exposure = 0.5
    with pytest.raises(ConfigError, match=r"given_exposure is 0\.5, but unet .* only dual_path"):
        objective.make(config, lambda params, image: image)
