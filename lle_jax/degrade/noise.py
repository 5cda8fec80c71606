"""Sensor noise, impulses and quantisation. Zero strength returns the image bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np

from lle_jax import checks
from lle_jax.degrade import bits
from lle_jax.degrade.blur import separable
from lle_jax.degrade.poisson import poisson

_NOISE_REACH = 6  # pixels of the filter of correlated noise


def _scaled(name: str, value, x: jax.Array, high: float = jnp.inf) -> jax.Array:
    checks.number(name, value, 0, high)
    return checks.per_image(name, value, x)


def _only_where(active: jax.Array, result: jax.Array, image: jax.Array) -> jax.Array:
    """The clipped result where a strength is not zero, elsewhere the image bit for bit."""
    return jnp.where(active, jnp.clip(result, 0, 1).astype(image.dtype), image)


def gaussian_noise(key: jax.Array, image: jax.Array, *, sigma: jax.Array | float) -> jax.Array:
    """Adds independent normal noise to every sample, in whatever light the image is given.

    Args:
      key: random key.
      image: `[..., H, W, C]` in [0, 1].
      sigma: standard deviation in units of the image, one number or one per image, >= 0.

    Returns:
      The noisy image clipped to [0, 1]; its gradient is that of image + sigma * z with z fixed.

    Raises:
      ValueError: for a malformed image, or a concrete sigma that is negative or NaN.
    """
    image = checks.image(image)
    x = image.astype(checks.compute_dtype(image))
    sigma = _scaled("sigma", sigma, x)
    noisy = x + sigma * bits.normal(key, x.shape, x.dtype)
    return _only_where(sigma > 0, noisy, image)


def correlated_noise(
    key: jax.Array,
    image: jax.Array,
    *,
    luma: jax.Array | float,
    chroma: jax.Array | float,
    length: jax.Array | float,
) -> jax.Array:
    """Adds normal noise that is alike in neighbouring pixels, and more or less alike in channels.

    White noise after a Gaussian filter, scaled back to its standard deviation: what demosaicing,
    resizing and in-camera denoising leave. Luma gets one field for all channels, chroma one for
    each, from which their mean is taken.

    Args:
      key: random key.
      image: `[..., H, W, C]` in [0, 1].
      luma: standard deviation of what the channels share, in units of the image, one number or one
        per image, >= 0.
      chroma: of what they do not share; images of one channel have none.
      length: standard deviation of the filter in pixels, likewise, in [0, 3]; pixels at a distance
        d then correlate by exp(-d^2 / (4 length^2)), below 0.7 pixels by less.

    Returns:
      The noisy image clipped to [0, 1].

    Raises:
      ValueError: for a malformed image, or a concrete number that is negative or NaN.
    """
    image = checks.image(image)
    x = image.astype(checks.compute_dtype(image))
    luma, chroma = _scaled("luma", luma, x), _scaled("chroma", chroma, x)
    width = _scaled("length", length, x, _NOISE_REACH / 2)
    luma_key, chroma_key = jax.random.split(key)
    noise = luma * _filtered_normal(luma_key, (*x.shape[:-1], 1), width, x.dtype)
    if x.shape[-1] == 3:
        fields = _filtered_normal(chroma_key, x.shape, width, x.dtype)
        # of three independent fields less their mean, two thirds of the variance are left
        fields = (fields - jnp.mean(fields, axis=-1, keepdims=True)) * 1.5**0.5
        noise = noise + chroma * fields
    return _only_where((luma > 0) | (chroma > 0), x + noise, image)


def _filtered_normal(key, shape, sigma: jax.Array, dtype) -> jax.Array:
    """White normal noise after a Gaussian filter, of variance 1."""
    reach = np.arange(-_NOISE_REACH, _NOISE_REACH + 1)
    flat = jnp.maximum(sigma[..., 0, 0, 0] if sigma.ndim else sigma, 0.05)[..., None]
    weights = jnp.exp(-0.5 * (reach / flat) ** 2)
    weights = weights / jnp.sqrt(jnp.sum(weights**2, axis=-1, keepdims=True))
    # beyond the image too: mirrored sides would make the noise of an edge 1.4 times as strong
    height, width = (side + 2 * _NOISE_REACH for side in shape[-3:-1])
    white = bits.normal(key, (*shape[:-3], height, width, shape[-1]), dtype)
    inner = slice(_NOISE_REACH, -_NOISE_REACH)
    return separable(white, weights.astype(dtype))[..., inner, inner, :]


def poisson_noise(key: jax.Array, image: jax.Array, *, peak: jax.Array | float) -> jax.Array:
    """Photon noise of an image in linear light: Poisson(image * peak) / peak.

    The same as `poisson_gaussian_noise` with gain 1 / peak and no read noise.

    Args:
      key: random key.
      image: `[..., H, W, C]` in linear light, [0, 1].
      peak: expected photons where the image is 1, one number or one per image, > 0.

    Raises:
      ValueError: for a malformed image, or a concrete peak that is not positive.
    """
    checks.number("peak", peak, 1e-6)
    image = checks.image(image)
    checks.per_image("peak", peak, image)
    return poisson_gaussian_noise(key, image, gain=1 / jnp.asarray(peak), read_noise=0.0)


def poisson_gaussian_noise(
    key: jax.Array,
    image: jax.Array,
    *,
    gain: jax.Array | float,
    read_noise: jax.Array | float,
    exact: bool = True,
) -> jax.Array:
    """Photon and read noise of a sensor, of variance gain * x + read_noise^2 at intensity x.

    gain * Poisson(x / gain) + read_noise * N(0, 1): Foi, Trimeche, Katkovnik and Egiazarian,
    "Practical Poissonian-Gaussian noise modeling and fitting for single-image raw-data", IEEE TIP
    17(10), 2008, doi:10.1109/TIP.2008.2001399, eq. 1-3 with a = gain, b = read_noise^2.

    Args:
      key: random key.
      image: `[..., H, W, C]` in linear light, [0, 1].
      gain: image units per photon, the inverse of the photons counted at 1; one number or one per
        image, >= 0; 0 is no photon noise.
      read_noise: standard deviation in units of the image, likewise.
      exact: draw photons from the Poisson distribution. False draws one normal deviate of the same
        mean and variance, which is faster, but symmetric, continuous and, before the clip, able
        to go negative: its skewness is off by sqrt(gain / x), a tenth at 100 photons.

    Returns:
      The noisy image clipped to [0, 1]. Photon counts have no derivative: the gradient is that of
      x + sqrt(gain) * e + read_noise * z with e and z held fixed at what was drawn, that is, 1
      with respect to the image. With `exact=False`, that of x + sqrt(gain * x + read_noise^2) * z.

    Raises:
      ValueError: for a malformed image, or a concrete gain or read noise that is negative or NaN.
    """
    image = checks.image(image)
    x = image.astype(checks.compute_dtype(image))
    gain, read_noise = _scaled("gain", gain, x), _scaled("read_noise", read_noise, x)
    photon_key, read_key = jax.random.split(key)
    z = bits.normal(read_key, x.shape, x.dtype)
    safe = jnp.where(gain > 0, gain, 1)
    if exact:
        light = jax.lax.stop_gradient(jnp.clip(x, 0))
        count = poisson(photon_key, light / jax.lax.stop_gradient(safe))
        photon = (count * safe - light) / jnp.sqrt(safe)
        photon = jnp.where(gain > 0, jnp.sqrt(safe) * jax.lax.stop_gradient(photon), 0)
        noisy = x + photon + read_noise * z
    else:
        variance = gain * jnp.clip(x, 0) + read_noise**2
        # the square root's slope is infinite at 0, where there is no noise to differentiate
        sigma = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0)
        noisy = x + sigma * z
    return _only_where((gain > 0) | (read_noise > 0), noisy, image)


def banding_noise(
    key: jax.Array,
    image: jax.Array,
    *,
    row_sigma: jax.Array | float,
    column_sigma: jax.Array | float,
) -> jax.Array:
    """Adds one normal offset to every row and one to every column, the same in all channels.

    Args:
      key: random key.
      image: `[..., H, W, C]` in [0, 1].
      row_sigma: standard deviation of the rows' offsets in units of the image, one number or one
        per image, >= 0.
      column_sigma: of the columns' offsets.

    Returns:
      The banded image clipped to [0, 1].

    Raises:
      ValueError: for a malformed image, or a concrete sigma that is negative or NaN.
    """
    image = checks.image(image)
    x = image.astype(checks.compute_dtype(image))
    rows, columns = _scaled("row_sigma", row_sigma, x), _scaled("column_sigma", column_sigma, x)
    row_key, column_key = jax.random.split(key)
    *batch, height, width, _ = x.shape
    offset = rows * bits.normal(row_key, (*batch, height, 1, 1), x.dtype)
    offset += columns * bits.normal(column_key, (*batch, 1, width, 1), x.dtype)
    return _only_where((rows > 0) | (columns > 0), x + offset, image)


def salt_and_pepper(
    key: jax.Array, image: jax.Array, *, salt: jax.Array | float, pepper: jax.Array | float
) -> jax.Array:
    """Sets a fraction of the pixels to 1 and another to 0, all channels of a pixel together.

    Args:
      key: random key.
      image: `[..., H, W, C]` in [0, 1].
      salt: expected fraction of pixels set to 1, one number or one per image, in [0, 1].
      pepper: of pixels set to 0; salt + pepper <= 1.

    Returns:
      The image with impulses. The gradient with respect to the image is 1 where it was kept and 0
      where it was hit; with respect to the densities it is 0.

    Raises:
      ValueError: for a malformed image, or a concrete density or sum outside [0, 1].
    """
    image = checks.image(image)
    x = image.astype(checks.compute_dtype(image))
    salt_value, pepper_value = _scaled("salt", salt, x, 1), _scaled("pepper", pepper, x, 1)
    checks.number("salt + pepper", salt_value + pepper_value, 0, 1 + 1e-6)
    u = bits.uniform(key, (*x.shape[:-1], 1), x.dtype)
    hit = jnp.where(u < pepper_value, 0, 1).astype(image.dtype)
    return jnp.where((u < pepper_value) | (u >= 1 - salt_value), hit, image)


def quantise(image: jax.Array, *, bits: jax.Array | float) -> jax.Array:
    """Rounds to 2^bits equally spaced levels from 0 to 1, halves to even.

    Args:
      image: `[..., H, W, C]` in [0, 1].
      bits: one number or one per image, in [1, 24].

    Returns:
      The quantised image. Rounding has no useful derivative: the gradient with respect to the
      image is 1 (straight-through), with respect to `bits` 0.

    Raises:
      ValueError: for a malformed image, or a concrete number of bits outside [1, 24].
    """
    image = checks.image(image)
    x = image.astype(checks.compute_dtype(image))
    checks.number("bits", bits, 1, 24)
    steps = jnp.exp2(jax.lax.stop_gradient(checks.per_image("bits", bits, x))) - 1
    rounded = jnp.round(jnp.clip(x, 0, 1) * steps) / steps
    return (x + jax.lax.stop_gradient(rounded - x)).astype(image.dtype)
