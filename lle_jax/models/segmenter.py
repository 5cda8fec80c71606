"""A small U-Net that segments: image to the logit of each pixel."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from flax import nnx

from lle_jax.models import layers


class Segmenter(nnx.Module):
    """Segments an image by a U-Net (Ronneberger, Fischer and Brox, arXiv:1505.04597).

    Args:
      widths: channels of each level, from fine to coarse; each level halves the resolution.
      reduce: the image is averaged over squares of this side first, for objects that are large.
      fold: squares of this side are then folded into channels, which saves time, not detail.
      rngs: initialises the parameters.
    """

    def __init__(self, *, widths: tuple[int, ...], reduce: int, fold: int, rngs: nnx.Rngs):
        kwargs: dict[str, Any] = {"dtype": jnp.float32, "rngs": rngs}
        self.reduce, self.fold = reduce, fold
        self.multiple = reduce * fold * 2 ** (len(widths) - 1)
        coarser = list(itertools.pairwise(widths))

        def block(width: int) -> layers.ResidualBlock:
            return layers.ResidualBlock(width, **kwargs)

        self.stem = layers.Conv3x3(3 * fold**2, widths[0], **kwargs)
        self.encoder = nnx.List([block(width) for width in widths])
        self.down = nnx.List([nnx.Conv(a, b, (2, 2), strides=2, **kwargs) for a, b in coarser])
        self.up = nnx.List([nnx.Linear(b, 4 * a, **kwargs) for a, b in coarser])
        self.merge = nnx.List([nnx.Linear(2 * a, a, **kwargs) for a, _ in coarser])
        self.decoder = nnx.List([block(width) for width in widths[:-1]])
        self.head = layers.Conv3x3(widths[0], fold**2, **kwargs)

    def __call__(self, image: jax.Array) -> jax.Array:
        """`[B, H, W, 3]` in [0, 1], any H and W -> logits `[B, H, W]`, float32."""
        batch, height, width, _ = image.shape
        x = layers.pad_to_multiple(image.astype(jnp.float32), self.multiple)
        padded = x.shape[1:3]
        small = (padded[0] // self.reduce, padded[1] // self.reduce)
        x = x.reshape(batch, small[0], self.reduce, small[1], self.reduce, 3).mean(axis=(2, 4))
        x = self.stem(layers.space_to_depth(4 * x - 2, self.fold))
        skips = []
        for block, down in zip(self.encoder, self.down, strict=False):  # the last has no way down
            x = block(x)
            skips.append(x)
            x = down(x)
        x = self.encoder[-1](x)
        for up, merge, block, skip in reversed(
            list(zip(self.up, self.merge, self.decoder, skips, strict=True))
        ):
            x = layers.depth_to_space(up(x), 2)
            x = block(merge(jnp.concatenate([x, skip], axis=-1)))
        x = layers.depth_to_space(self.head(x), self.fold)
        x = jax.image.resize(x, (batch, *padded, 1), "linear")
        return x[:, :height, :width, 0]


def declare(config: ml_collections.ConfigDict) -> tuple[nnx.GraphDef, nnx.State]:
    """Returns the structure of a segmenter, and its parameters as shapes and dtypes.

    Args:
      config: `widths`, `reduce` and `fold` of `Segmenter`; a `name` is ignored.
    """
    arguments = {key: config[key] for key in ("widths", "reduce", "fold")}

    def make() -> Segmenter:
        return Segmenter(**arguments, rngs=nnx.Rngs(0))

    return nnx.split(nnx.eval_shape(make), nnx.Param)


def shapes(config: ml_collections.ConfigDict) -> nnx.State:
    """Returns the parameters of a segmenter as shapes and dtypes."""
    return declare(config)[1]


def probabilities(graph: nnx.GraphDef, params: nnx.State) -> Callable[[jax.Array], jax.Array]:
    """Returns `[H, W, C] -> [H, W]`, compiled for each size; C is 1 or 3."""

    @jax.jit
    def run(params: nnx.State, image: jax.Array) -> jax.Array:
        image = jnp.broadcast_to(jnp.clip(image, 0, 1), (*image.shape[:2], 3))
        return jax.nn.sigmoid(nnx.merge(graph, params)(image[None])[0])

    return functools.partial(run, params)
