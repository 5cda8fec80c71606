"""Estimates blur as the sigma of an equivalent Gaussian, in pixels, corrected for noise."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from lle_jax import checks, colour
from lle_jax.artifacts.noise import noise_sigma
from lle_jax.xla import force_materialize

_FINE, _COARSE = 1.0, 1.5
_MAX_SIGMA = 20.0


def _kernels(scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian of this scale and its derivative, cut off at 4 scales, odd length."""
    impulse = np.zeros(2 * int(4 * scale + 0.5) + 1)
    impulse[len(impulse) // 2] = 1
    smooth = scipy.ndimage.gaussian_filter1d(impulse, scale, mode="constant")
    return smooth, scipy.ndimage.gaussian_filter1d(impulse, scale, order=1, mode="constant")


def blur_sigma(image: jax.Array) -> jax.Array:
    """Estimates the sigma, in pixels, of the Gaussian that blurs step edges like the image's.

    Across a step edge blurred by sigma, the squared gradient at the scale s (derivatives of a
    Gaussian of s pixels) sums to a multiple of 1 / sqrt(s^2 + sigma^2). With E the mean over the
    image, at 1 and at 1.5 pixels, q = (E(1) / E(1.5))^2 = (1.5^2 + sigma^2) / (1 + sigma^2) gives
    sigma. The part of E that noise has, from `noise_sigma` and the rounding to 8 bits, is
    subtracted first. The ratio of gradients at two scales is Zhuo and Sim's, "Defocus map
    estimation from a single image", Pattern Recognition 44(9), 2011,
    doi:10.1016/j.patcog.2011.03.009, there taken at single edges; the sums over the whole image
    and the correction for noise are this package's own.

    Blur of the picture itself counts: soft tissue reads as blurred, texture as sharp.

    Args:
      image: `[..., H, W, C]` in [0, 1], at least 8 x 8; luma is measured.

    Returns:
      `[...]` in pixels, 0 to 20; 20 where no structure is left above the noise.

    Raises:
      ValueError: if the image is malformed or smaller.
    """
    image = checks.image(image)
    x = image.astype(checks.compute_dtype(image))
    weights = np.array(colour.BT601 if x.shape[-1] == 3 else (1.0,))
    noise = jnp.nan_to_num(noise_sigma(x)) ** 2 + 1 / (12 * 255**2)
    return _sigma(colour.luma(x)[..., 0], noise * float(np.sum(weights**2)))


@jax.jit
def _sigma(luma: jax.Array, noise: jax.Array) -> jax.Array:
    fine, coarse = (_gradient_power(luma, scale, noise) for scale in (_FINE, _COARSE))
    q = (fine / coarse) ** 2
    square = (_COARSE**2 - q * _FINE**2) / jnp.maximum(q - 1, 1e-3)
    return jnp.sqrt(jnp.clip(square, 0, _MAX_SIGMA**2))


def _gradient_power(luma: jax.Array, scale: float, noise: jax.Array) -> jax.Array:
    """Mean squared gradient at a scale less the part of white noise of that variance: `[...]`."""
    smooth, derivative = _kernels(scale)
    across = _filter(_filter(luma, smooth, -2), derivative, -1)
    down = _filter(_filter(luma, derivative, -2), smooth, -1)
    passed = float(2 * np.sum(smooth**2) * np.sum(derivative**2))  # of the noise
    power = jnp.mean(across**2 + down**2, axis=(-2, -1))
    return jnp.maximum(power - noise * passed, 1e-12)


def _filter(x: jax.Array, kernel: np.ndarray, axis: int) -> jax.Array:
    """Correlation along an axis, edges extended by half-sample symmetry."""
    reach = len(kernel) // 2
    padding = [(0, 0)] * x.ndim
    padding[axis] = (reach, reach)
    padded = jnp.pad(x, padding, mode="symmetric")
    side = x.shape[axis]
    taps = (
        float(weight) * jax.lax.slice_in_dim(padded, start, start + side, axis=axis % x.ndim)
        for start, weight in enumerate(kernel)
    )
    return force_materialize(functools.reduce(operator.add, taps))
