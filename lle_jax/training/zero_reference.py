"""Zero-DCE's four losses (Guo et al., CVPR 2020, arXiv:2001.06826, section 3.3): no clean image.

They ask for an evenly and well exposed, grey-balanced image whose local contrast is the input's.
What is well exposed, and that colours average to grey, are assumptions about everyday photographs:
set `exposure` for a modality and `colour` to 0 where, as in a fundus image, one colour prevails.
"""

import jax
import jax.numpy as jnp
import ml_collections

from lle_jax import models
from lle_jax.checks import ConfigError
from lle_jax.models.zero_dce import brighten

REGION = 4  # side of the regions compared for spatial consistency
PATCH = 16  # side of the regions that should be well exposed


def spatial_consistency(image: jax.Array, enhanced: jax.Array) -> jax.Array:
    """Computes the squared change of differences between neighbouring 4 x 4 regions (equation 4).

    The differences keep their sign, so that an inverted contrast counts. Each pair counts twice
    and the sum is divided by the number of regions, as in the equation.
    """
    change = _region_means(enhanced, REGION) - _region_means(image, REGION)
    across, down = jnp.diff(change, axis=2), jnp.diff(change, axis=1)
    return 2 * (jnp.sum(across**2) + jnp.sum(down**2)) / change.size


def exposure_control(enhanced: jax.Array, level: float) -> jax.Array:
    """Computes the mean distance of 16 x 16 regions from the brightness `level` (equation 5)."""
    return jnp.mean(jnp.abs(_region_means(enhanced, PATCH) - level))


def colour_constancy(enhanced: jax.Array) -> jax.Array:
    """Computes squared differences between the channels' means, summed over pairs (equation 6)."""
    means = jnp.mean(enhanced, axis=(1, 2))
    return jnp.mean(jnp.sum((means - jnp.roll(means, 1, axis=-1)) ** 2, axis=-1))


def smoothness(curves: jax.Array) -> jax.Array:
    """Computes the mean of (|dx| + |dy|)^2, summed over channels (equation 7)."""
    across = jnp.abs(jnp.diff(curves, axis=2))[:, :-1]
    down = jnp.abs(jnp.diff(curves, axis=1))[:, :, :-1]
    return 3 * jnp.mean((across + down) ** 2)


def _region_means(image: jax.Array, side: int) -> jax.Array:
    """Computes the mean of side x side regions, `[B, H // side, W // side]`; crops the rest."""
    batch, height, width, channels = image.shape
    rows, columns = height // side, width // side
    if not rows or not columns:
        raise ConfigError(f"images of {height} x {width}; zero-reference losses need {PATCH}")
    image = image[:, : rows * side, : columns * side]
    return jnp.mean(image.reshape(batch, rows, side, columns, side, channels), axis=(2, 4, 5))


def make(config: ml_collections.ConfigDict):
    """Returns the forward function and the loss of the zero-reference objective.

    Args:
      config: an experiment; `loss.zero_reference` has `exposure`, the brightness to aim for, and
        the weights `spatial`, `colour` and `smoothness` of the other three losses.

    Returns:
      `(apply, loss)`: `apply(params, low)` gives the input, the result and the curves, and
      `loss(those, clean)` does not look at `clean`.

    Raises:
      ConfigError: unless the network has curves and the crops hold a patch.
    """
    if config.model.name != "zero_dce":
        raise ConfigError(f"model.name is {config.model.name!r}; zero-reference takes zero_dce")
    if config.data.crop < PATCH:
        raise ConfigError(f"data.crop is {config.data.crop}; zero-reference losses need {PATCH}")
    network, weights = models.bind(config.model), config.loss.zero_reference

    def apply(params, low: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        curves = network(params).curves(low)
        return low, brighten(low, curves), curves

    def loss(results: tuple[jax.Array, jax.Array, jax.Array], clean: jax.Array) -> jax.Array:
        del clean
        low, enhanced, curves = results
        return (
            exposure_control(enhanced, weights.exposure)
            + weights.spatial * spatial_consistency(low, enhanced)
            + weights.colour * colour_constancy(enhanced)
            + weights.smoothness * smoothness(curves)
        )

    return apply, loss
