"""Crops for training out of larger views: what is global is seen whole, what is local in part.

A view is degraded as one image. A network of two steps (`models.Tiled`) looks at all of it and
restores the crop only, as it restores a tile of a large image; any other network sees the crop.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
from flax import nnx

from lle_jax import models

Cut = Callable[[jax.Array, nnx.State, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def make(
    config: ml_collections.ConfigDict, apply: Callable, crop: int, spread: bool = False
) -> Cut:
    """Returns `cut(key, params, low, clean) -> (restored crop, clean crop)`.

    Args:
      config: of the network, as for `models.build`.
      apply: `(params, image) -> image`, for networks that are not `models.Tiled`.
      crop: side of the crops, at most that of the views.
      spread: restore by `Tiled.spread`, so that a pair comes in place of the restored crop.

    The crop's position is random, the same for all images of a batch `[B, H, W, 3]`; of a network
    that works in tiles, where a tile may start.
    """
    steps = models.tiled(config) if models.is_tiled(config) else None
    multiple = steps.multiple if steps else 1

    def cut(key, params, low, clean):
        height, width = low.shape[1:3]
        most = jnp.array([(height - crop) // multiple, (width - crop) // multiple])
        corner = multiple * jax.random.randint(key, (2,), 0, most + 1)

        def crop_of(image):
            return jax.lax.dynamic_slice(
                image, (0, *corner, 0), (len(image), crop, crop, image.shape[-1])
            )

        if steps is None:
            return apply(params, crop_of(low)), crop_of(clean)
        seen = steps.context(params, low)
        restore = steps.spread if spread else steps.restore
        return restore(params, crop_of(low), seen, corner, (height, width)), crop_of(clean)

    return cut
