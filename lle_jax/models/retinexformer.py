"""Retinexformer (Cai et al., ICCV 2023, arXiv:2303.06705): light up, then correct by attention.

As published (width 40, blocks (1, 2, 2)): 1.61 M parameters and, for a 256 x 256 image, 15.57 G
multiply-accumulates, where G is 2^30 and a normalised value counts as 5.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lle_jax.models import layers


class IlluminationEstimator(nnx.Module):
    """Estimates the light-up map and the illumination features (section 3.1, figure 2 (i))."""

    GROUPS = 4  # of the 5x5 convolution, one for each input channel

    def __init__(self, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.conv1 = nnx.Linear(4, width, **kwargs)
        part = width // self.GROUPS
        # a convolution per group: XLA's grouped one is slow on CPU, and this has the same formula
        self.depth_conv = nnx.List([nnx.Conv(part, part, (5, 5), **kwargs) for _ in range(4)])
        self.conv2 = nnx.Linear(width, 3, **kwargs)

    def __call__(self, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean = jnp.mean(image, axis=-1, keepdims=True)
        x = self.conv1(jnp.concatenate([image, mean], axis=-1))
        parts = jnp.split(x, self.GROUPS, axis=-1)
        convolved = [conv(part) for conv, part in zip(self.depth_conv, parts, strict=True)]
        features = jnp.concatenate(convolved, axis=-1)
        return features, self.conv2(features)


class Attention(nnx.Module):
    """Computes illumination-guided attention between channels (IG-MSA, section 3.2).

    Args:
      width: channels in and out.
      heads: groups of channels that attend among themselves.
      dtype: of the computation.
      rngs: initialises the parameters.
    """

    def __init__(self, width: int, heads: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.heads = heads
        self.to_q = nnx.Linear(width, width, use_bias=False, **kwargs)
        self.to_k = nnx.Linear(width, width, use_bias=False, **kwargs)
        self.to_v = nnx.Linear(width, width, use_bias=False, **kwargs)
        self.rescale = nnx.Param(jnp.ones(heads))
        self.proj = nnx.Linear(width, width, **kwargs)
        self.position1 = layers.DepthwiseConv(width, use_bias=False, **kwargs)
        self.position2 = layers.DepthwiseConv(width, use_bias=False, **kwargs)

    def __call__(self, x: jax.Array, light: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape

        def split(x: jax.Array) -> jax.Array:
            return x.reshape(batch, height * width, self.heads, channels // self.heads)

        value = self.to_v(x)
        query, key = (layers.unit_length(split(to(x))) for to in (self.to_q, self.to_k))
        similarity = jnp.einsum("bnhi,bnhj->bhij", key, query, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(similarity * self.rescale[...][:, None, None], axis=-1)
        mixed = jnp.einsum("bhij,bnhj->bnhi", weights.astype(x.dtype), split(value * light))
        position = self.position2(_gelu(self.position1(value)))
        return self.proj(mixed.reshape(x.shape)) + position


def _gelu(x: jax.Array) -> jax.Array:
    return nnx.gelu(x, approximate=False)  # the error function, as the checkpoints were trained


class Block(nnx.Module):
    """Applies attention, then a normalised feed-forward network with a depthwise convolution."""

    def __init__(self, width: int, heads: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.attention = Attention(width, heads, **kwargs)
        self.norm = nnx.LayerNorm(width, epsilon=1e-5, **kwargs)
        self.expand = nnx.Linear(width, 4 * width, use_bias=False, **kwargs)
        self.depthwise = layers.DepthwiseConv(4 * width, use_bias=False, **kwargs)
        self.contract = nnx.Linear(4 * width, width, use_bias=False, **kwargs)

    def __call__(self, x: jax.Array, light: jax.Array) -> jax.Array:
        x = x + self.attention(x, light)
        y = _gelu(self.depthwise(_gelu(self.expand(self.norm(x)))))
        return x + self.contract(y)


class Retinexformer(nnx.Module):
    """Estimates the illumination, lights the image up, and corrects it by a U-Net of attention.

    Args:
      width: channels at full resolution, a multiple of 4; each level doubles them.
      blocks: per level, from fine to coarse; as many again on the way up, except the coarsest.
      dtype: of the computation; parameters are float32.
      rngs: initialises the parameters.
    """

    def __init__(self, *, width: int, blocks: tuple[int, ...], dtype: jnp.dtype, rngs: nnx.Rngs):
        if width < 4 or width % 4 or not blocks or min(blocks) < 1:
            raise ValueError(
                f"width={width}, blocks={tuple(blocks)}; expected a multiple of 4 and positive "
                "numbers"
            )
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.dtype = dtype
        self.multiple = 2 ** (len(blocks) - 1)

        def stage(level: int) -> nnx.List:
            heads = 2**level
            return nnx.List([Block(width * heads, heads, **kwargs) for _ in range(blocks[level])])

        def halve(level: int) -> nnx.Conv:
            c = width * 2**level
            return nnx.Conv(
                c, 2 * c, (4, 4), strides=2, padding=((1, 1), (1, 1)), use_bias=False, **kwargs
            )

        down, up = range(len(blocks) - 1), range(len(blocks) - 2, -1, -1)
        widths = {level: width * 2**level for level in up}
        self.estimator = IlluminationEstimator(width, **kwargs)
        self.embedding = layers.Conv3x3(3, width, use_bias=False, **kwargs)
        self.encoder = nnx.List([stage(level) for level in down])
        self.halve = nnx.List([halve(level) for level in down])
        self.halve_light = nnx.List([halve(level) for level in down])
        self.bottleneck = stage(len(blocks) - 1)
        # a 2x2 transposed convolution of stride 2 is a linear map from a pixel to its 2x2 block
        self.double = nnx.List(
            [nnx.Linear(2 * c, 4 * c, use_bias=False, **kwargs) for c in widths.values()]
        )
        self.double_bias = nnx.List([nnx.Param(jnp.zeros(c)) for c in widths.values()])
        self.merge = nnx.List(
            [nnx.Linear(2 * c, c, use_bias=False, **kwargs) for c in widths.values()]
        )
        self.decoder = nnx.List([stage(level) for level in up])
        self.mapping = layers.Conv3x3(width, 3, use_bias=False, **kwargs)

    def __call__(self, image: jax.Array) -> jax.Array:
        """`[B, H, W, 3]` in [0, 1], any H and W -> the enhanced image, same shape, float32."""
        height, width = image.shape[1:3]
        image = layers.pad_to_multiple(image.astype(jnp.float32), self.multiple)
        light, light_up = self.estimator(image.astype(self.dtype))
        lit = image * (1 + light_up.astype(jnp.float32))
        x = self.embedding(lit.astype(self.dtype))
        skips = []
        for stage, halve, halve_light in zip(
            self.encoder, self.halve, self.halve_light, strict=True
        ):
            for block in stage:
                x = block(x, light)
            skips.append((x, light))
            x, light = halve(x), halve_light(light)
        for block in self.bottleneck:
            x = block(x, light)
        for double, bias, merge, stage in zip(
            self.double, self.double_bias, self.merge, self.decoder, strict=True
        ):
            x = layers.depth_to_space(double(x), 2) + bias[...].astype(self.dtype)
            skip, light = skips.pop()
            x = merge(jnp.concatenate([x, skip], axis=-1))
            for block in stage:
                x = block(x, light)
        return (lit + self.mapping(x).astype(jnp.float32))[:, :height, :width]
