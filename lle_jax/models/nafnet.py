"""NAFNet (Chen, Chu, Zhang and Sun, ECCV 2022, arXiv:2204.04676): restoration without activations.

Widths and blocks as published: width 32, encoder (1, 1, 1, 28), middle 1, decoder (1, 1, 1, 1) for
deblurring (GoPro, 17.1 M parameters); encoder (2, 2, 4, 8), middle 12, decoder (2, 2, 2, 2) for
denoising (SIDD, 29.2 M). Names of the parameters follow the public checkpoints.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lle_jax.models import layers


class NAFBlock(nnx.Module):
    """Adds a depthwise and a pointwise half, each normalised and gated (section 3.4, figure 3c).

    The gate multiplies one half of the channels by the other (equation 8). The channel attention
    is a linear function of the image-wide means (equation 5), or of `context` where one is given.

    Args:
      width: channels in and out.
      context: length of the context vector; None takes the means of the features themselves.
      dtype: of the computation.
      rngs: initialises the parameters.
    """

    def __init__(self, width: int, *, context: int | None = None, dtype: jnp.dtype, rngs: nnx.Rngs):
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.norm1 = nnx.LayerNorm(width, epsilon=1e-6, **kwargs)
        self.conv1 = nnx.Linear(width, 2 * width, **kwargs)
        self.conv2 = layers.DepthwiseConv(2 * width, **kwargs)
        self.sca = nnx.Linear(
            context or width, width, bias_init=nnx.initializers.ones_init(), **kwargs
        )
        self.conv3 = nnx.Linear(width, width, **kwargs)
        self.norm2 = nnx.LayerNorm(width, epsilon=1e-6, **kwargs)
        self.conv4 = nnx.Linear(width, 2 * width, **kwargs)
        self.conv5 = nnx.Linear(width, width, **kwargs)
        self.beta = nnx.Param(jnp.zeros(width))
        self.gamma = nnx.Param(jnp.zeros(width))

    def __call__(
        self, x: jax.Array, context: jax.Array | None = None, inside: tuple | None = None
    ) -> jax.Array:
        """`x` is `[B, H, W, width]`, `context` `[B, 1, 1, context]`; see `layers.masked`."""
        y = _gate(self.conv2(layers.masked(self.conv1(self.norm1(x)), inside)))
        summary = jnp.mean(y, axis=(1, 2), keepdims=True) if context is None else context
        y = self.conv3(y * self.sca(summary))
        x = x + y * self.beta[...].astype(y.dtype)
        y = self.conv5(_gate(self.conv4(self.norm2(x))))
        return x + y * self.gamma[...].astype(y.dtype)


def _gate(x: jax.Array) -> jax.Array:
    first, second = jnp.split(x, 2, axis=-1)
    return first * second


class NAFNet(nnx.Module):
    """Predicts a correction to its input by a U-Net of NAFBlocks (section 4).

    Args:
      width: channels at full resolution; each level halves the resolution and doubles them.
      encoder: blocks of each level, from fine to coarse.
      middle: blocks below the coarsest.
      decoder: blocks of each level, from coarse to fine.
      dtype: of the computation; parameters are float32.
      rngs: initialises the parameters.
    """

    def __init__(
        self,
        *,
        width: int,
        encoder: tuple[int, ...],
        middle: int,
        decoder: tuple[int, ...],
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        if len(encoder) != len(decoder) or min(width, middle, *encoder, *decoder) < 1:
            raise ValueError(
                f"width={width}, encoder={tuple(encoder)}, middle={middle}, "
                f"decoder={tuple(decoder)}; expected positive numbers, as many in both"
            )
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.dtype = dtype
        widths = [width * 2**level for level in range(len(encoder))]

        def blocks(count: int, width: int) -> nnx.List:
            return nnx.List([NAFBlock(width, **kwargs) for _ in range(count)])

        self.intro = layers.Conv3x3(3, width, **kwargs)
        self.encoders = nnx.List([blocks(n, c) for n, c in zip(encoder, widths, strict=True)])
        self.downs = nnx.List([nnx.Conv(c, 2 * c, (2, 2), strides=2, **kwargs) for c in widths])
        self.middle_blks = blocks(middle, 2 * widths[-1])
        self.ups = nnx.List(
            [nnx.Linear(2 * c, 4 * c, use_bias=False, **kwargs) for c in reversed(widths)]
        )
        self.decoders = nnx.List(
            [blocks(n, c) for n, c in zip(decoder, reversed(widths), strict=True)]
        )
        # small, so that training starts near the identity
        small = nnx.initializers.variance_scaling(1e-4, "fan_in", "truncated_normal")
        self.ending = layers.Conv3x3(width, 3, kernel_init=small, **kwargs)

    def __call__(self, image: jax.Array) -> jax.Array:
        """`[B, H, W, 3]` in [0, 1], any H and W -> the restored image, same shape, float32."""
        height, width = image.shape[1:3]
        image = layers.pad_to_multiple(image.astype(jnp.float32), 2 ** len(self.encoders))
        x = self.intro(image.astype(self.dtype))
        skips = []
        for stage, down in zip(self.encoders, self.downs, strict=True):
            for block in stage:
                x = block(x)
            skips.append(x)
            x = down(x)
        for block in self.middle_blks:
            x = block(x)
        for up, skip, stage in zip(self.ups, reversed(skips), self.decoders, strict=True):
            x = layers.depth_to_space(up(x), 2) + skip
            for block in stage:
                x = block(x)
        return (image + self.ending(x).astype(jnp.float32))[:, :height, :width]
