"""Computes measures of perceived quality without learned weights: GMSD and VIFp."""

import jax
import jax.numpy as jnp

from lle_jax.metrics import filters
from lle_jax.metrics.conventions import pair, sqrt


def gmsd(image: jax.Array, reference: jax.Array, *, channels: str = "luma") -> jax.Array:
    """Computes GMSD, the gradient magnitude similarity deviation.

    The standard deviation (n - 1) over positions of the similarity of the gradients' magnitudes,
    from Prewitt differences of the images at half size; black beyond the borders, as in the
    authors' MATLAB code.

    Xue, Zhang, Mou and Bovik, "Gradient magnitude similarity deviation", IEEE TIP 23(2), 2014,
    doi:10.1109/TIP.2013.2293423, with T = 170 for levels of 0 to 255.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3, at least 4 x 4.
      reference: same shape.
      channels: "luma", "rounded_luma" or "studio_luma"; "rgb" for one channel only. See
        `conventions.select`.

    Returns:
      `[...]`, 0 for identical images, worse up to about 0.35. Its gradient is 0 where two images
      are equal.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, shapes that differ, unknown `channels`,
        "rgb" of three channels, or an image smaller than 4 x 4.
    """
    x, y = _luma_pair(image, reference, channels, least=4, name="GMSD")
    x, y = (_prewitt(filters.halve(i, "zeros after")[..., 0]) for i in (x, y))
    constant = 170 / 255**2
    similarity = (2 * x * y + constant) / (x * x + y * y + constant)
    mean = jnp.mean(similarity, axis=(-2, -1), keepdims=True)
    count = similarity.shape[-2] * similarity.shape[-1]
    return sqrt(jnp.sum((similarity - mean) ** 2, axis=(-2, -1)) / (count - 1))


def _luma_pair(image, reference, channels: str, least: int, name: str):
    x, y = pair(image, reference, channels)
    if x.shape[-1] != 1:
        raise ValueError(f"channels is 'rgb'; {name} of a colour image is defined on luma only")
    if min(x.shape[-3:-1]) < least:
        size = f"{x.shape[-3]}x{x.shape[-2]}"
        raise ValueError(f"image is {size} pixels; {name} needs at least {least}x{least}")
    return x, y


def _prewitt(image: jax.Array) -> jax.Array:
    """Gradient magnitude of `[..., H, W]`, black beyond the borders."""
    padded = jnp.pad(image, [(0, 0)] * (image.ndim - 2) + [(1, 1), (1, 1)])
    rows = padded[..., :-2, :] + padded[..., 1:-1, :] + padded[..., 2:, :]
    columns = padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]
    across = (rows[..., 2:] - rows[..., :-2]) / 3
    down = (columns[..., 2:, :] - columns[..., :-2, :]) / 3
    return sqrt(across**2 + down**2)


def vif(image: jax.Array, reference: jax.Array, *, channels: str = "luma") -> jax.Array:
    """Computes visual information fidelity in the pixel domain (VIFp), at four scales.

    The share of the reference's information, as a Gaussian scale mixture seen through noise of
    variance 2 (in levels of 0 to 255), that the image still carries. An image of more contrast than
    the reference can exceed 1, which SSIM punishes.

    Sheikh and Bovik, "Image information and visual quality", IEEE TIP 15(2), 2006,
    doi:10.1109/TIP.2005.859378, in the authors' simplification to scalars in the pixel domain
    (their `vifp_mscale`), which is not the wavelet VIF of the paper (pyiqa's `vif`).

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3, at least 41 x 41.
      reference: same shape.
      channels: "luma", "rounded_luma" or "studio_luma"; "rgb" for one channel only. See
        `conventions.select`.

    Returns:
      `[...]`, 1 for identical images, 0 where nothing of the reference is left.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, shapes that differ, unknown `channels`,
        "rgb" of three channels, or an image smaller than 41 x 41.
    """
    x, y = _luma_pair(image, reference, channels, least=41, name="VIF")
    x, y = 255 * x, 255 * y
    # identical flat images share all of no information, and others none of it
    total = jnp.full(x.shape[:-3], 1e-8, x.dtype)
    shared = jnp.where(jnp.all(x == y, axis=(-3, -2, -1)), total, 0)
    for taps in (17, 9, 5, 3):
        window = filters.gaussian(taps, taps / 5)
        if taps < 17:
            x, y = (filters.valid(i, window)[..., ::2, ::2, :] for i in (x, y))
        of_image, of_reference = _information(x, y, window)
        shared, total = shared + of_image, total + of_reference
    return shared / total


def _information(x: jax.Array, y: jax.Array, window) -> tuple[jax.Array, jax.Array]:
    """Computes the mutual information (nats) of x and the reference y, and that of y."""
    noise, least = 2.0, 1e-8
    # About the means, not black, for less cancellation in float32.
    x, y = (i - jnp.mean(i, axis=(-3, -2), keepdims=True) for i in (x, y))
    moments = filters.valid(jnp.stack([x, y, x * x, y * y, x * y]), window)
    rounding = 8 * float(jnp.finfo(x.dtype).eps)
    variance_x, variance_y = (
        jnp.where(variance > rounding * square, variance, 0)  # flat as far as the dtype can tell
        for variance, square in (
            (moments[2] - moments[0] ** 2, moments[2]),
            (moments[3] - moments[1] ** 2, moments[3]),
        )
    )
    covariance = moments[4] - moments[0] * moments[1]
    # A model gain of the reference and what it does not explain; an inverted image has no gain.
    textured = (variance_y >= least) & (variance_x >= least) & (covariance > 0)
    gain = jnp.where(textured, covariance / jnp.where(textured, variance_y, 1), 0)
    rest = jnp.maximum(variance_x - gain * covariance, least)
    variance_y = jnp.where(variance_y >= least, variance_y, 0)
    shared = jnp.log1p(gain**2 * variance_y / (rest + noise))
    total = jnp.log1p(variance_y / noise)
    return jnp.sum(shared, axis=(-3, -2, -1)), jnp.sum(total, axis=(-3, -2, -1))
