"""Noise of a sensor: how much of it grows with the light, and how much is there in the dark."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lle_jax import checks, colour
from lle_jax.artifacts.noise import BLOCK, block_powers, white_variance

_BINS = 16
_STEPS = 8


class NoiseModel(NamedTuple):
    """Holds a noise model of variance gain * x + read_noise^2 at linear light x; `[...]` each.

    Attributes:
      gain: image units per photon, as in `degrade.poisson_gaussian_noise`.
      read_noise: standard deviation in the dark, in units of linear light.
    """

    gain: jax.Array
    read_noise: jax.Array


def noise_model(image: jax.Array) -> NoiseModel:
    """Fits the signal-dependent noise of a sensor to one image.

    The samples are brought to linear light, where the model of Foi, Trimeche, Katkovnik and
    Egiazarian holds ("Practical Poissonian-Gaussian noise modeling and fitting for single-image
    raw-data", IEEE TIP 17(10), 2008, doi:10.1109/TIP.2008.2001399). The blocks of 8 x 8 samples are
    put in 16 groups of equal number by their mean; in each, the variance is found as by
    `noise_sigma`, less that of rounding to 8 bits. A straight line is fitted through the groups,
    weighted by the inverse of the squared variances, both coefficients at least 0. The gain
    comes out within 6 % in the median on well-lit images; at 0.15 of their display values within
    20 % of up to 0.003, within 40 % of 0.01 (`docs/artifacts.md`). Read noise is found where it is
    not small beside the photon noise.

    It needs an image with light and dark parts; in one of even brightness the two parameters cannot
    be told apart. Noise added after the tone curve reads as a mixture of both.

    Args:
      image: sRGB `[..., H, W, C]` in [0, 1], at least 64 x 64; channels are pooled.

    Returns:
      both parameters `[...]`; NaN where no block can be used, such as of a black or a white image.

    Raises:
      ValueError: if the image is malformed or smaller.
    """
    image = checks.image(image)
    height, width = image.shape[-3:-1]
    if min(height, width) < 8 * BLOCK:
        raise ValueError(f"image is {height} x {width} pixels; noise_model needs at least 64 x 64")
    batch = image.shape[:-3]
    x = image.astype(checks.compute_dtype(image)).reshape(-1, *image.shape[-3:])
    fits = jax.vmap(_fit)(x)
    return NoiseModel(*(value.reshape(batch) for value in fits))


@jax.jit
def _fit(x: jax.Array) -> NoiseModel:
    linear = colour.srgb_to_linear(x)
    blocks, power = block_powers(linear)
    mean = jnp.mean(blocks, axis=1)
    usable = (jnp.max(blocks, axis=1) > 0) & (jnp.max(blocks, axis=1) < 0.99)
    # groups of equal number, those that do not count at the end and in none
    order = jnp.argsort(jnp.where(usable, mean, jnp.inf))
    size = len(order) // _BINS
    groups = order[: size * _BINS].reshape(_BINS, size)
    light, variance, count = jax.vmap(_of_group)(mean[groups], power[groups], usable[groups])
    gain, offset = _line(light, variance, count)
    measured = jnp.any(count > 0)
    return NoiseModel(*(jnp.where(measured, v, jnp.nan) for v in (gain, jnp.sqrt(offset))))


def _of_group(mean: jax.Array, power: jax.Array, usable: jax.Array):
    """Mean light, variance of the noise and number of blocks in one group."""
    light = jnp.sum(jnp.where(usable, mean, 0)) / jnp.maximum(jnp.sum(usable), 1)
    variance, count = white_variance(mean, power, usable)
    slope = jax.grad(colour.srgb_to_linear)(colour.linear_to_srgb(light))
    rounding = (slope / 255) ** 2 / 12
    return light, jnp.maximum(variance - rounding, 0), jnp.where(jnp.any(usable), count, 0)


def _line(x: jax.Array, y: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Slope and offset, neither negative, of y over x, weighted by count / y^2 of the line."""

    def step(_, line):
        expected = line[0] * x + line[1]
        weight = count / jnp.maximum(expected, 1e-9) ** 2
        weight = weight / jnp.maximum(jnp.sum(weight), 1e-30)
        sx, sy = jnp.sum(weight * x), jnp.sum(weight * y)
        sxx, sxy = jnp.sum(weight * x * x), jnp.sum(weight * x * y)
        slope = (sxy - sx * sy) / jnp.maximum(sxx - sx**2, 1e-30)
        offset = sy - slope * sx
        through = sxy / jnp.maximum(sxx, 1e-30)  # of the line through 0
        slope, offset = (
            jnp.where(slope < 0, 0, jnp.where(offset < 0, through, slope)),
            jnp.where(slope < 0, sy, jnp.maximum(offset, 0)),
        )
        return jnp.stack([slope, offset])

    start = jnp.stack([jnp.zeros_like(x[0]), jnp.sum(count * y) / jnp.maximum(jnp.sum(count), 1)])
    slope, offset = jax.lax.fori_loop(0, _STEPS, step, start)
    return slope, offset
