"""Local means, derivatives and maxima, which the structural measures are made of."""

import functools
import operator
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
import scipy

_DENSE = 1024  # pixels


def gaussian(taps: int, sigma: float) -> np.ndarray:
    """Computes the weights of a sampled Gaussian, sum 1."""
    weights = np.exp(-0.5 * ((np.arange(taps) - (taps - 1) / 2) / sigma) ** 2)
    return weights / weights.sum()


def valid(image: jax.Array, window: np.ndarray) -> jax.Array:
    """Filters height and width of `[..., H, W, C]` separably, only where the window fits.

    Training crops go through a banded matrix product, whose gradient is another one (on CPU, six
    times faster than differentiating the shifts); larger images through shifted multiply-adds,
    whose cost does not grow with the side. XLA's convolution is slower than both on CPU.
    """
    height, width = image.shape[-3] - len(window) + 1, image.shape[-2] - len(window) + 1
    if max(image.shape[-3:-1]) <= 256:
        rows, columns = _band(height, window, image.dtype), _band(width, window, image.dtype)
        image = jnp.einsum("ij,...jwc->...iwc", rows, image, precision="highest")
        return jnp.einsum("ij,...hjc->...hic", columns, image, precision="highest")
    rows = _total(float(w) * image[..., k : k + height, :, :] for k, w in enumerate(window))
    return _total(float(w) * rows[..., k : k + width, :] for k, w in enumerate(window))


def _total(terms: Iterable[jax.Array]) -> jax.Array:
    return functools.reduce(operator.add, terms)


def _band(size: int, window: np.ndarray, dtype: jnp.dtype) -> jax.Array:
    matrix = sum(w * np.eye(size, size + len(window) - 1, k) for k, w in enumerate(window))
    return jnp.asarray(matrix, dtype)


def halve(image: jax.Array, odd: str) -> jax.Array:
    """Averages blocks of 2 x 2 pixels of `[..., H, W, C]`, sides rounded up.

    Args:
      image: `[..., H, W, C]`.
      odd: what an odd side is extended by (`mode` of jnp.pad): "edge", its last pixels, in the last
        block; "zeros before", black in the first block; "zeros after", black in the last.
    """
    sides = [
        (side % 2, 0) if odd == "zeros before" else (0, side % 2) for side in image.shape[-3:-1]
    ]
    pad = [(0, 0)] * (image.ndim - 3) + [*sides, (0, 0)]
    image = jnp.pad(image, pad, mode="edge" if odd == "edge" else "constant")
    rows = image[..., ::2, :, :] + image[..., 1::2, :, :]
    return (rows[..., ::2, :] + rows[..., 1::2, :]) / 4


def gaussian_derivative(
    image: jax.Array, sigma: float, order: tuple[int, int] = (0, 0)
) -> jax.Array:
    """Derivatives of a Gaussian over height and width of `[..., H, W, C]`, borders mirrored.

    Sides up to `_DENSE` go through a matrix product, longer ones, for which the matrix would not
    fit the caches or even memory, through shifted multiply-adds.
    """
    for axis, each in ((-3, order[0]), (-2, order[1])):
        side = image.shape[axis]
        if side <= _DENSE:
            matrix = scipy.ndimage.gaussian_filter1d(np.eye(side), sigma, 0, each)
            product = "ij,...jwc->...iwc" if axis == -3 else "ij,...hjc->...hic"
            weights = jnp.asarray(matrix, image.dtype)
            image = jnp.einsum(product, weights, image, precision="highest")
            continue
        radius = int(4 * sigma + 0.5)
        impulse = np.zeros(2 * radius + 1)
        impulse[radius] = 1
        taps = scipy.ndimage.gaussian_filter1d(impulse, sigma, 0, each, mode="constant")
        padding = [(0, 0)] * image.ndim
        padding[axis] = (radius, radius)
        padded = jnp.pad(image, padding, mode="symmetric")
        # what an impulse spreads to are the weights, turned round
        image = _total(
            float(tap) * jax.lax.slice_in_dim(padded, k, k + side, axis=axis)
            for k, tap in enumerate(taps[::-1])
        )
    return image


def greatest(x: jax.Array, radius: int) -> jax.Array:
    """Maximum within `radius` along height and width of `[..., H, W, C]`."""
    # Doubled shifts of whole rows: on CPU ten times as fast as lax.reduce_window.
    shape = x.shape
    x = x.reshape(*shape[:-2], -1)
    for axis, step in ((x.ndim - 2, 1), (x.ndim - 1, shape[-1])):
        padding = [(0, 0)] * x.ndim
        padding[axis] = (radius * step,) * 2
        x = jnp.pad(x, padding, constant_values=-jnp.inf)
        reached, window = 1, 2 * radius + 1
        while reached < window:
            further = min(reached, window - reached)
            last = x.shape[axis] - further * step
            x = jnp.maximum(
                jax.lax.slice_in_dim(x, 0, last, axis=axis),
                jax.lax.slice_in_dim(x, further * step, None, axis=axis),
            )
            reached += further
    return x.reshape(shape)
