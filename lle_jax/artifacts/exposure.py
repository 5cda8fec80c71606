"""Exposure: how bright an image is, how evenly lit, how contrasty, and how its colour leans."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lle_jax import checks, colour

_TILES, _SMALL_TILES = 8, 32


class Exposure(NamedTuple):
    """Holds the measures of `exposure`, `[...]` each.

    Attributes:
      luminance: mean relative luminance in linear light, 0 to 1.
      crushed: fraction of the samples at level 0 of 255.
      saturated: fraction of the samples at level 255.
      non_uniformity: standard deviation over mean of the luminance of 8 x 8 equal tiles: of the
        illumination, if the scene is even.
      contrast: standard deviation of luma.
      cast: distance from grey of the mean colour, as its channels' standard deviation over mean in
        linear light; 0 for one channel.
      entropy: of the 8-bit levels of luma, in bits, 0 to 8.
      darkest: luminance of the darkest of 32 x 32 equal tiles over the mean, 0 to 1. So much of the
        light at most is a veil (`degrade.veiling_glare`), and all of it where a tile would be
        black without: the dark object of Chavez, Remote Sensing of Environment 24, 1988.
    """

    luminance: jax.Array
    crushed: jax.Array
    saturated: jax.Array
    non_uniformity: jax.Array
    contrast: jax.Array
    cast: jax.Array
    entropy: jax.Array
    darkest: jax.Array


def exposure(image: jax.Array) -> Exposure:
    """Measures brightness, clipping, evenness, contrast, colour cast, entropy and veil.

    Ratios to a mean of 0, of a black image, are 0.

    Args:
      image: sRGB `[..., H, W, C]` in [0, 1], C = 1 or 3.

    Raises:
      ValueError: if the image is malformed.
    """
    image = checks.image(image)
    x = image.astype(checks.compute_dtype(image)).reshape(-1, *image.shape[-3:])
    values = jax.lax.map(_of_one, x)
    return Exposure(*(value.reshape(image.shape[:-3]) for value in values))


@jax.jit
def _of_one(x: jax.Array) -> Exposure:
    height, width, channels = x.shape
    linear = colour.srgb_to_linear(x).reshape(height, width * channels)
    tiles = _means(linear, (height, width, channels), _TILES)
    luminance = colour.luma(tiles, colour.BT709)
    small = colour.luma(_means(linear, (height, width, channels), _SMALL_TILES), colour.BT709)
    means = jnp.mean(tiles, axis=(0, 1))
    luma = colour.luma(x)
    return Exposure(
        luminance=jnp.mean(luminance),
        crushed=jnp.mean(x < 0.5 / 255, dtype=x.dtype),
        saturated=jnp.mean(x >= 254.5 / 255, dtype=x.dtype),
        non_uniformity=_over(jnp.std(luminance), jnp.mean(luminance)),
        contrast=jnp.std(luma),
        cast=_over(jnp.std(means), jnp.mean(means)),
        entropy=_entropy(luma),
        darkest=_over(jnp.min(small), jnp.mean(luminance)),
    )


def _means(image: jax.Array, shape: tuple[int, int, int], count: int) -> jax.Array:
    """Averages `[H, W * C]` over count x count equal tiles, `[count, count, C]`.

    Sums are written as products of matrices: XLA on CPU fuses a sum with the powers before it and
    then does not vectorise them.
    """
    height, width, channels = shape
    rows, columns = (_shares(side, count).astype(image.dtype) for side in (height, width))
    tiles = jnp.dot(rows, image, precision="highest").reshape(-1, width, channels)
    return jnp.einsum("tw,rwc->rtc", columns, tiles, precision="highest")


def _shares(side: int, count: int) -> np.ndarray:
    """Weights `[count, side]` that average a side over equal parts, sharing pixels between."""
    edges = np.linspace(0, side, count + 1)
    pixel = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.maximum(overlap, 0) * count / side


def _over(value: jax.Array, mean: jax.Array) -> jax.Array:
    return jnp.where(mean > 0, value / jnp.where(mean > 0, mean, 1), 0)


def _entropy(luma: jax.Array) -> jax.Array:
    levels = jnp.round(jnp.clip(luma, 0, 1) * 255).astype(jnp.int32)
    share = jnp.bincount(levels.reshape(-1), length=256).astype(luma.dtype) / levels.size
    return -jnp.sum(jnp.where(share > 0, share * jnp.log2(jnp.where(share > 0, share, 1)), 0))
