"""Context crops: a large crop is degraded as one image, and a random tile of it is restored.

A network of two steps (`models.Tiled`) computes its context from the whole context crop, and
restores the tile only, as it restores a tile of a large image; any other network gets the tile.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lle_jax import colour, models
from lle_jax.degrade.exposure import scale_linear

STOPS = 1.0  # of light, more or less, in images whose brightness the network is told


def make(
    crop: int,
    forward: Callable,
    tiled: models.Tiled | None,
    restore: Callable | None,
    given_exposure: float = 0.0,
) -> Callable[[jax.Array, nnx.State, jax.Array, jax.Array], tuple[Any, jax.Array]]:
    """Returns `forward(key, params, low, clean) -> (output, target)` for context crops.

    Args:
      crop: side of the tiles, at most that of the context crops.
      forward: `(params, image) -> output`, for networks that are not `models.Tiled`.
      tiled: the two steps of the network, or None.
      restore: `(params, tile, context, corner, size) -> output`, or None.
      given_exposure: fraction of the images that are to be restored with another amount of light,
        of whose mean luma the network is told; above 0 only for networks that work in tiles.

    The tile's position is random and the same for all images of a batch `[B, H, W, 3]`; a network
    that works in tiles gets one where a tile may start.
    """
    multiple = tiled.multiple if tiled and restore else 1

    def forward_tile(key, params, low, clean):
        height, width = low.shape[1:3]
        highest = jnp.array([(height - crop) // multiple, (width - crop) // multiple])
        corner = multiple * jax.random.randint(key, (2,), 0, highest + 1)

        def tile(image):
            return jax.lax.dynamic_slice(
                image, (0, *corner, 0), (len(image), crop, crop, image.shape[-1])
            )

        if tiled is None or restore is None:
            return forward(params, tile(low)), tile(clean)
        exposure: Any = jnp.nan
        if given_exposure:
            clean, exposure = told(jax.random.fold_in(key, 1), clean, given_exposure)
        context = tiled.compute_context(params, low, exposure)
        return restore(params, tile(low), context, corner, (height, width)), tile(clean)

    return forward_tile


def told(key: jax.Array, clean: jax.Array, fraction: float) -> tuple[jax.Array, jax.Array]:
    """Gives a fraction of the clean images other light; `(images, mean luma, or NaN for the rest)`.

    Were it their own light, the network could go by what such scenes look like, and would not learn
    to do as it is told.
    """
    shape = (len(clean), 1, 1, 1)
    told_key, light_key = jax.random.split(key)
    told = jax.random.bernoulli(told_key, fraction, shape)
    factor = jnp.exp2(jax.random.uniform(light_key, shape, minval=-STOPS, maxval=STOPS))
    clean = jnp.where(told, scale_linear(clean, factor), clean)
    mean = colour.mean_luma(clean)
    return clean, jnp.where(told, mean, jnp.nan)
