"""The exposure objective: a trained two-path network learns how bright an image would be.

Only `DualPath.exposure` is moved, so what the network makes of a brightness that it is told stays
what it was. It sees whole context crops as thumbnails, hundreds of times cheaper than restoring
them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
from flax import nnx

from lle_jax import colour, models
from lle_jax.checks import ConfigError
from lle_jax.models import grid

LAYER = "exposure."  # how its parameters' names begin
SMALL = 0.03  # of the logarithm; below it, the loss is a square


def make(config: ml_collections.ConfigDict) -> tuple[Callable, Callable]:
    """Returns `forward(key, params, low, clean) -> (exposure, clean)` and `loss` of the two.

    Raises:
      ConfigError: unless the network has an exposure path and nothing else would be moved.
    """
    predict = models.tiled(config.model).predict_exposure
    if predict is None:
        raise ConfigError("model.exposure_path is not set; loss.kind exposure needs it")
    if config.optim.weight_decay:
        raise ConfigError(
            f"optim.weight_decay is {config.optim.weight_decay}, which would move all weights; set "
            "it to 0 for loss.kind exposure"
        )

    def forward(key: jax.Array, params: nnx.State, low: jax.Array, clean: jax.Array):
        del key  # there is no tile to choose
        return predict(params, grid.cell_means(low)), clean

    return forward, loss


def loss(exposure: jax.Array, clean: jax.Array) -> jax.Array:
    """Computes the mean Charbonnier loss of the logarithm of the mean luma."""
    mean = colour.mean_luma(clean)
    error = jnp.log(exposure) - jnp.log(jnp.maximum(mean, 1e-3))
    return jnp.mean(jnp.sqrt(error**2 + SMALL**2))
