"""A residual U-Net (Ronneberger, Fischer and Brox, MICCAI 2015, arXiv:1505.04597)."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lle_jax.models import layers


class UNet(nnx.Module):
    """Predicts a correction to its input by an encoder-decoder with skip connections.

    The input is the image and its brightness-normalised copy: a dark image occupies a small part
    of [0, 1], where a convolution sees almost nothing. The first level works on 2x2 blocks folded
    into channels (an exact, invertible rearrangement), which costs a quarter of full resolution.

    Args:
      widths: channels of each level, from fine to coarse; each level halves the resolution.
      blocks: residual blocks per level, in the encoder and again in the decoder.
      dtype: of the computation; parameters are float32.
      rngs: initialises the parameters.
    """

    def __init__(self, *, widths: tuple[int, ...], blocks: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        if not widths or min(widths) < 1 or blocks < 1:
            raise ValueError(f"widths={tuple(widths)}, blocks={blocks}; expected positive numbers")
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.dtype = dtype
        self.multiple = 2 ** len(widths)
        self.stem = layers.Conv3x3(6 * 4, widths[0], **kwargs)
        coarser = list(itertools.pairwise(widths))
        self.encoder = nnx.List([self._stage(width, blocks, kwargs) for width in widths[:-1]])
        self.down = nnx.List([nnx.Conv(a, b, (2, 2), strides=2, **kwargs) for a, b in coarser])
        self.bottom = self._stage(widths[-1], 2 * blocks, kwargs)
        self.up = nnx.List([nnx.Linear(b, 4 * a, **kwargs) for a, b in coarser])
        self.merge = nnx.List([nnx.Linear(2 * a, a, **kwargs) for a, _ in coarser])
        self.decoder = nnx.List([self._stage(width, blocks, kwargs) for width in widths[:-1]])
        self.head = layers.Conv3x3(
            widths[0], 2 * 3 * 4, kernel_init=nnx.initializers.zeros_init(), **kwargs
        )

    @staticmethod
    def _stage(features: int, blocks: int, kwargs: dict[str, Any]) -> nnx.Sequential:
        return nnx.Sequential(*[layers.ResidualBlock(features, **kwargs) for _ in range(blocks)])

    def __call__(self, image: jax.Array) -> jax.Array:
        """`[B, H, W, 3]` in [0, 1], any H and W -> the enhanced image, same shape, float32."""
        height, width = image.shape[1:3]
        image = layers.pad_to_multiple(image.astype(jnp.float32), self.multiple)
        mean = jnp.mean(image, axis=(1, 2, 3), keepdims=True)
        bright = jnp.minimum(image * (0.4 / jnp.maximum(mean, 1e-3)), 1)
        x = jnp.concatenate([image, bright], axis=-1).astype(self.dtype)
        x = self.stem(layers.space_to_depth(x, 2))
        skips = []
        for stage, down in zip(self.encoder, self.down, strict=True):
            x = stage(x)
            skips.append(x)
            x = down(x)
        x = self.bottom(x)
        for up, merge, stage, skip in reversed(
            list(zip(self.up, self.merge, self.decoder, skips, strict=True))
        ):
            x = layers.depth_to_space(up(x), 2)
            x = stage(merge(jnp.concatenate([x, skip], axis=-1)))
        x = layers.depth_to_space(self.head(x).astype(jnp.float32), 2)
        # Starts as the identity; gains multiply because a dark pixel's correction is proportional.
        gain, offset = jnp.split(x, 2, axis=-1)
        return (image * (1 + gain) + offset)[:, :height, :width]
