"""Pixel-wise fidelity: mean absolute error and peak signal-to-noise ratio."""

import jax
import jax.numpy as jnp

from lle_jax import checks


def _pair(image, reference) -> tuple[jax.Array, jax.Array]:
    image, reference = checks.image(image), checks.image(reference, "reference")
    checks.same_shape(image, reference, ("image", "reference"))
    dtype = jnp.promote_types(checks.compute_dtype(image), reference.dtype)
    return image.astype(dtype), reference.astype(dtype)


def mae(image: jax.Array, reference: jax.Array) -> jax.Array:
    """Mean absolute error over height, width and channels.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3.
      reference: same shape.

    Returns:
      `[...]`, in [0, 1]; 0 for identical images.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, or shapes that differ.
    """
    image, reference = _pair(image, reference)
    return jnp.mean(jnp.abs(image - reference), axis=(-3, -2, -1))


def psnr(image: jax.Array, reference: jax.Array, *, data_range: float = 1.0) -> jax.Array:
    """Peak signal-to-noise ratio, 10 log10(data_range^2 / MSE), the MSE over all channels.

    This is the RGB convention (scikit-image's `peak_signal_noise_ratio`); many restoration papers
    print the PSNR of BT.601 luma instead, which is a different and usually larger number.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3.
      reference: same shape.
      data_range: the peak, 1 for images in [0, 1].

    Returns:
      `[...]` in dB; infinite for identical images.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, shapes that differ, or
        `data_range` <= 0.
    """
    image, reference = _pair(image, reference)
    if data_range <= 0:
        raise ValueError(f"data_range is {data_range:g}; expected a number > 0")
    mse = jnp.mean((image - reference) ** 2, axis=(-3, -2, -1))
    return 10 * jnp.log10(data_range**2 / mse)
