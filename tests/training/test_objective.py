import jax
import jax.numpy as jnp
import numpy as np

from lle_jax.training import losses
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
