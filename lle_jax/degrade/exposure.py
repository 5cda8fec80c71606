"""Exposure, gamma and white balance."""

import jax
import jax.numpy as jnp

from lle_jax import checks, colour


def exposure(image: jax.Array, *, gain: jax.Array | float) -> jax.Array:
    """Multiplies the light that reaches the sensor: sRGB -> linear, times `gain`, -> sRGB.

    Halving the exposure time or the light is `gain=0.5`; what exceeds white is clipped.

    Args:
      image: `[..., H, W, C]` in [0, 1].
      gain: > 0; 1 returns the image bit for bit. One number, or one per image.

    Returns:
      The image, same shape and dtype, in [0, 1].

    Raises:
      ValueError: for a malformed image, or a concrete `gain` that is negative.
    """
    image = checks.image(image)
    checks.number("gain", gain, 0)
    return scale_linear(image, checks.per_image("gain", gain, image))


def white_balance(
    image: jax.Array, *, red: jax.Array | float, blue: jax.Array | float
) -> jax.Array:
    """Scales the red and the blue channel in linear light, as a wrong illuminant does.

    A diagonal (von Kries) model relative to green. A grey image has no white balance and is
    returned as it is.

    Args:
      image: `[..., H, W, C]` in [0, 1].
      red: gain of the red channel, >= 0; 1 changes nothing. One number, or one per image.
      blue: gain of the blue channel, likewise.

    Raises:
      ValueError: for a malformed image, or a concrete gain that is negative.
    """
    image = checks.image(image)
    checks.number("red", red, 0)
    checks.number("blue", blue, 0)
    red = checks.per_image("red", red, image)
    blue = checks.per_image("blue", blue, image)
    if image.shape[-1] == 1:
        return image
    return scale_linear(image, channel_gains(red, blue))


def gamma(image: jax.Array, *, gamma: jax.Array | float) -> jax.Array:
    """Darkens the mid-tones of a display-referred image: `image ** gamma`.

    Args:
      image: `[..., H, W, C]` in [0, 1].
      gamma: >= 1; 1 returns the image bit for bit. Below 1 the slope at black would be infinite,
        and brightening is not a degradation. One number, or one per image.

    Raises:
      ValueError: for a malformed image, or a concrete `gamma` below 1.
    """
    image = checks.image(image)
    checks.number("gamma", gamma, 1)
    exponent = checks.per_image("gamma", gamma, image)
    x = jnp.clip(image.astype(checks.compute_dtype(image)), 0, 1)
    # x * x^(gamma - 1), so that gamma 1 is exact and black has a finite gradient; by exp and log,
    # which XLA on CPU vectorises and a general power it does not.
    power = jnp.exp((exponent - 1) * jnp.log(jnp.maximum(x, jnp.finfo(x.dtype).tiny)))
    return (x * power).astype(image.dtype)


def tone_curve(image: jax.Array, *, contrast: jax.Array | float) -> jax.Array:
    """Bends a display-referred image by an S-curve: `x + contrast * x (1 - x) (2 x - 1)`.

    At contrast 1 it is 3 x^2 - 2 x^3, the tone curve of Brooks et al., "Unprocessing images for
    learned raw denoising", CVPR 2019, arXiv:1811.11127; below 0 it is flatter than a straight line.

    Args:
      image: `[..., H, W, C]` in [0, 1].
      contrast: in [-1, 1], where the curve rises everywhere; 0 returns the image bit for bit. One
        number, or one per image.

    Raises:
      ValueError: for a malformed image, or a concrete contrast outside [-1, 1].
    """
    image = checks.image(image)
    checks.number("contrast", contrast, -1, 1)
    amount = checks.per_image("contrast", contrast, image)
    x = jnp.clip(image.astype(checks.compute_dtype(image)), 0, 1)
    return (x + amount * (x * (1 - x) * (2 * x - 1))).astype(image.dtype)


def scale_linear(image: jax.Array, factor: jax.Array) -> jax.Array:
    """Multiplies linear light by `factor`, which broadcasts; where it is 1, pixels stay as is."""
    x = jnp.clip(image.astype(checks.compute_dtype(image)), 0, 1)
    light = jnp.clip(colour.srgb_to_linear(x) * factor, 0, 1)
    return _exact(colour.linear_to_srgb(light), x, factor == 1).astype(image.dtype)


def channel_gains(red: jax.Array, blue: jax.Array) -> jax.Array:
    """Two gains that broadcast over an image -> gains of (red, green, blue), `[..., 3]`."""
    red, blue = jnp.broadcast_arrays(jnp.atleast_1d(red), jnp.atleast_1d(blue))
    return jnp.concatenate([red, jnp.ones_like(red), blue], axis=-1)


def _exact(result: jax.Array, image: jax.Array, unchanged: jax.Array) -> jax.Array:
    """`image` where `unchanged`, else `result`; the gradient is that of `result` everywhere.

    Where nothing changes, result and image differ by rounding only, so that their difference is
    exact (Sterbenz) and adding it gives the image bit for bit; a plain `where` would give a
    parameter at its neutral value no gradient to learn from.
    """
    return result + jax.lax.stop_gradient(jnp.where(unchanged, image - result, 0))
