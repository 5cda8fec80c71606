"""HVI-CIDNet (Yan et al., CVPR 2025, arXiv:2502.20272): colour and light apart, in step.

As published (widths 36, 36, 72, 144): 1.88 M parameters, M being 2^20, and 7.57 G operations for a
256 x 256 image, G being 2^30, as thop counts: convolutions, 11 per value that is resized, 1 per
value through a PReLU; attention's products (0.14 G) are left out. The image becomes HVI, a colour
space in which dark pixels have little colour; one branch corrects the two colour channels, one the
intensity, and each attends to the other at every level.

Every block here feeds the next. In the authors' code (Fediory/HVI-CIDNet) the second attention on
the way down goes to the skip connection alone and an attention on the way up, of the intensity, to
nothing; their checkpoints would therefore not give their results here.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lle_jax.models import layers

_SMALL = 1e-8


def to_hvi(image: jax.Array, density: jax.Array) -> jax.Array:
    """Converts RGB `[..., 3]` to HVI: horizontal and vertical colour, intensity (section 3.1).

    The hexagonal hue of HSV becomes an angle, and the radius is the saturation times
    sin(pi I / 2)^density, so that all dark colours lie near the origin. `density` is 1 / k.
    """
    red, green, blue = jnp.moveaxis(image, -1, 0)
    high, low = jnp.max(image, axis=-1), jnp.min(image, axis=-1)
    span = high - low + _SMALL
    sixth = jnp.where(
        red == high,
        (green - blue) / span,
        jnp.where(green == high, 2 + (blue - red) / span, 4 + (red - green) / span),
    )
    radius = _radius(high, density) * (high - low) / (high + _SMALL)
    angle = sixth * jnp.pi / 3
    return jnp.stack([radius * jnp.cos(angle), radius * jnp.sin(angle), high], axis=-1)


def from_hvi(hvi: jax.Array, density: jax.Array) -> jax.Array:
    """Inverts `to_hvi`; colours are first clipped to [-1, 1], intensity to [0, 1]."""
    high = jnp.clip(hvi[..., 2], 0, 1)
    radius = _radius(high, density) + _SMALL
    x, y = (jnp.clip(jnp.clip(hvi[..., i], -1, 1) / radius, -1, 1) for i in (0, 1))
    saturation = jnp.minimum(jnp.sqrt(x**2 + y**2 + _SMALL), 1)
    neutral = (x == 0) & (y == 0)  # has no angle, and atan2 no gradient
    sixth = jnp.arctan2(y, jnp.where(neutral, 1.0, x)) * 3 / jnp.pi

    def channel(offset: int) -> jax.Array:  # red, green, blue are 5, 3, 1 sixths of a turn on
        position = (sixth + offset) % 6
        return high - high * saturation * jnp.clip(jnp.minimum(position, 4 - position), 0, 1)

    return jnp.stack([channel(5), channel(3), channel(1)], axis=-1)


def _radius(intensity: jax.Array, density: jax.Array) -> jax.Array:
    return (jnp.sin(intensity * jnp.pi / 2) + _SMALL) ** density


class CrossAttention(nnx.Module):
    """Computes cross attention from the channels of one branch to the other's (section 3.3)."""

    def __init__(self, width: int, heads: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        kwargs: dict[str, Any] = {"use_bias": False, "dtype": dtype, "rngs": rngs}
        self.heads = heads
        self.temperature = nnx.Param(jnp.ones(heads))
        self.q = nnx.Linear(width, width, **kwargs)
        self.q_dwconv = layers.DepthwiseConv(width, **kwargs)
        self.kv = nnx.Linear(width, 2 * width, **kwargs)
        self.kv_dwconv = layers.DepthwiseConv(2 * width, **kwargs)
        self.project_out = nnx.Linear(width, width, **kwargs)

    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape

        def split(x: jax.Array) -> jax.Array:
            return x.reshape(batch, height * width, self.heads, channels // self.heads)

        key, value = jnp.split(self.kv_dwconv(self.kv(y)), 2, axis=-1)
        query = layers.unit_length(split(self.q_dwconv(self.q(x))))
        key = layers.unit_length(split(key))
        similarity = jnp.einsum("bnhi,bnhj->bhij", query, key, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(similarity * self.temperature[...][:, None, None], axis=-1)
        mixed = jnp.einsum("bhij,bnhj->bnhi", weights.astype(x.dtype), split(value))
        return self.project_out(mixed.reshape(x.shape))


class Gated(nnx.Module):
    """Multiplies two halves, each with a bounded correction (section 3.3)."""

    def __init__(self, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        kwargs: dict[str, Any] = {"use_bias": False, "dtype": dtype, "rngs": rngs}
        hidden = int(2.66 * width)
        self.project_in = nnx.Linear(width, 2 * hidden, **kwargs)
        self.dwconv = layers.DepthwiseConv(2 * hidden, **kwargs)
        self.dwconv1 = layers.DepthwiseConv(hidden, **kwargs)
        self.dwconv2 = layers.DepthwiseConv(hidden, **kwargs)
        self.project_out = nnx.Linear(hidden, width, **kwargs)

    def __call__(self, x: jax.Array) -> jax.Array:
        first, second = jnp.split(self.dwconv(self.project_in(x)), 2, axis=-1)
        first = first + jnp.tanh(self.dwconv1(first))
        second = second + jnp.tanh(self.dwconv2(second))
        return self.project_out(first * second)


class LCA(nnx.Module):
    """Corrects one branch's features by lightweight cross attention to the other's."""

    def __init__(self, width: int, heads: int, *, add: bool, dtype: jnp.dtype, rngs: nnx.Rngs):
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.add = add  # to the intensity its correction is added, of the colours it is the result
        self.norm = nnx.LayerNorm(width, epsilon=1e-6, **kwargs)
        self.ffn = CrossAttention(width, heads, **kwargs)
        self.gdfn = Gated(width, **kwargs)

    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        x = x + self.ffn(self.norm(x), self.norm(y))
        corrected = self.gdfn(self.norm(x))
        return x + corrected if self.add else corrected


class Branch(nnx.Module):
    """Holds the convolutions and attentions of the colours or of the intensity."""

    def __init__(self, channels: int, widths, heads, *, add: bool, dtype, rngs: nnx.Rngs):
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        bare = kwargs | {"use_bias": False}
        steps = list(itertools.pairwise(widths))
        outputs = 1 if channels == 1 else 2
        self.first = layers.Conv3x3(channels, widths[0], padding="VALID", **bare)
        self.down = nnx.List([layers.Conv3x3(a, b, **bare) for a, b in steps])
        self.up = nnx.List([layers.Conv3x3(b, a, **bare) for a, b in steps])
        self.merge = nnx.List([nnx.Linear(2 * a, a, **bare) for a, _ in steps])
        self.slope_down = nnx.List([nnx.Param(jnp.full((), 0.25)) for _ in steps])
        self.slope_up = nnx.List([nnx.Param(jnp.full((), 0.25)) for _ in steps])
        pairs = list(zip(widths[1:], heads, strict=True))
        self.lca_down = nnx.List([LCA(c, n, add=add, **kwargs) for c, n in pairs])
        self.lca_up = nnx.List([LCA(c, n, add=add, **kwargs) for c, n in pairs])
        # small, so that training starts near the identity
        small = nnx.initializers.variance_scaling(1e-4, "fan_in", "truncated_normal")
        self.last = layers.Conv3x3(widths[0], outputs, padding="VALID", kernel_init=small, **bare)

    def descend(self, level: int, x: jax.Array) -> jax.Array:
        x = _resize(self.down[level](x), x.shape[1] // 2, x.shape[2] // 2)
        return _prelu(x, self.slope_down[level])

    def ascend(self, level: int, x: jax.Array, skip: jax.Array) -> jax.Array:
        x = _resize(self.up[level](x), 2 * x.shape[1], 2 * x.shape[2])
        x = self.merge[level](jnp.concatenate([x, skip], axis=-1))
        return _prelu(x, self.slope_up[level])


def _prelu(x: jax.Array, slope: nnx.Param) -> jax.Array:
    return jnp.where(x >= 0, x, slope[...].astype(x.dtype) * x)


def _pad(x: jax.Array) -> jax.Array:
    return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")


def _resize(x: jax.Array, height: int, width: int) -> jax.Array:
    """Bilinear, first and last pixels on first and last (PyTorch's align_corners)."""
    for axis, size in ((1, height), (2, width)):
        position = jnp.linspace(0, x.shape[axis] - 1, size)
        low = jnp.floor(position).astype(int)
        high = jnp.minimum(low + 1, x.shape[axis] - 1)
        shape = [1, 1, 1, 1]
        shape[axis] = size
        part = (position - low).astype(x.dtype).reshape(shape)
        x = jnp.take(x, low, axis) * (1 - part) + jnp.take(x, high, axis) * part
    return x


class CIDNet(nnx.Module):
    """Enhances by two U-Nets, of colour and intensity, with cross attention (section 3.2).

    Args:
      widths: channels at full resolution and after each halving.
      heads: of attention after each halving; each divides its width.
      dtype: of the computation; parameters, and the change of colour space, are float32.
      rngs: initialises the parameters.
    """

    def __init__(
        self, *, widths: tuple[int, ...], heads: tuple[int, ...], dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        positive = min((*widths, *heads), default=0) > 0
        fit = positive and len(heads) == len(widths) - 1
        if not fit or any(c % n for c, n in zip(widths[1:], heads, strict=True)):
            raise ValueError(
                f"widths={tuple(widths)}, heads={tuple(heads)}; expected positive numbers, one "
                "more width than heads, each width after the first a multiple of its heads"
            )
        self.dtype = dtype
        self.density = nnx.Param(jnp.full((), 0.2))
        self.colour = Branch(3, widths, heads, add=False, dtype=dtype, rngs=rngs)
        self.intensity = Branch(1, widths, heads, add=True, dtype=dtype, rngs=rngs)

    def __call__(self, image: jax.Array) -> jax.Array:
        """`[B, H, W, 3]` in [0, 1], any H and W -> the enhanced image, same shape, float32."""
        height, width = image.shape[1:3]
        levels = len(self.colour.down)
        image = layers.pad_to_multiple(image.astype(jnp.float32), 2**levels)
        hvi = to_hvi(image, self.density[...])
        padded = _pad(hvi).astype(self.dtype)
        colour, light = self.colour, self.intensity
        x, y = colour.first(padded), light.first(padded[..., 2:])
        skips = []
        for level in range(levels):
            skips.append((x, y))
            x, y = colour.descend(level, x), light.descend(level, y)
            x, y = colour.lca_down[level](x, y), light.lca_down[level](y, x)
        for level in reversed(range(levels)):
            x, y = colour.lca_up[level](x, y), light.lca_up[level](y, x)
            skip_x, skip_y = skips[level]
            x, y = colour.ascend(level, x, skip_x), light.ascend(level, y, skip_y)
        change = jnp.concatenate([colour.last(_pad(x)), light.last(_pad(y))], axis=-1)
        enhanced = from_hvi(hvi + change.astype(jnp.float32), self.density[...])
        return enhanced[:, :height, :width]
