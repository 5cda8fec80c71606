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
      given_exposure: fraction of the images whose network is told the mean luma of `clean`, in the
        other it predicts it; above 0 only for networks that work in tiles.

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
            true = jnp.mean(colour.luma(clean), axis=(1, 2), keepdims=True)
            told = jax.random.bernoulli(jax.random.fold_in(key, 1), given_exposure, true.shape)
            exposure = jnp.where(told, true, jnp.nan)
        context = tiled.compute_context(params, low, exposure)
        return restore(params, tile(low), context, corner, (height, width)), tile(clean)

    return forward_tile
