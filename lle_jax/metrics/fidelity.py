"""Pixel-wise fidelity: mean absolute error, peak signal-to-noise ratio, and "GT-mean"."""

import jax
import jax.numpy as jnp

from lle_jax import colour
from lle_jax.metrics.conventions import pair


def mae(image: jax.Array, reference: jax.Array, *, channels: str = "rgb") -> jax.Array:
    """Computes the mean absolute error over height, width and channels.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3.
      reference: same shape.
      channels: "rgb", "luma", "rounded_luma" or "studio_luma"; see `conventions.select`.

    Returns:
      `[...]`, in [0, 1]; 0 for identical images.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, shapes that differ, or unknown
        `channels`.
    """
    image, reference = pair(image, reference, channels)
    return jnp.mean(jnp.abs(image - reference), axis=(-3, -2, -1))


def psnr(
    image: jax.Array, reference: jax.Array, *, channels: str = "rgb", data_range: float = 1.0
) -> jax.Array:
    """Computes PSNR, 10 log10(data_range^2 / MSE), the MSE over all channels.

    The default is the RGB convention (scikit-image's `peak_signal_noise_ratio`). Many restoration
    papers print "studio_luma" instead (BasicSR's `test_y_channel`), whose peak is still 255 though
    the signal spans 219: 1.32 dB more than "luma", which in turn is usually more than "rgb".

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3.
      reference: same shape.
      channels: "rgb", "luma", "rounded_luma" or "studio_luma"; see `conventions.select`.
      data_range: the peak, 1 for images in [0, 1].

    Returns:
      `[...]` in dB; infinite for identical images.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, shapes that differ, unknown `channels`,
        or `data_range` <= 0.
    """
    if data_range <= 0:
        raise ValueError(f"data_range is {data_range:g}; expected a number > 0")
    image, reference = pair(image, reference, channels, data_range)
    mse = jnp.mean((image - reference) ** 2, axis=(-3, -2, -1))
    return 10 * jnp.log10(data_range**2 / mse)


def gt_mean(image: jax.Array, reference: jax.Array) -> jax.Array:
    """Scales the mean luma to the reference's and clips to [0, 1] ("GT-mean").

    A measure of what it returns leaves overall brightness out, and looks at the truth to do so:
    report it beside the plain one, never alone. The procedure of Zhang et al., "Kindling the
    Darkness" (KinD), ACM Multimedia 2019, arXiv:1905.04161, published code, here in floating point.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3.
      reference: same shape.

    Returns:
      The scaled image, same shape. A black image stays black.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, or shapes that differ.
    """
    image, reference = pair(image, reference)
    have, want = colour.mean_luma(image), colour.mean_luma(reference)
    return jnp.clip(image * (want / jnp.maximum(have, 1e-6)), 0, 1)


def brightness_ratio(image: jax.Array, reference: jax.Array) -> jax.Array:
    """Divides the mean luma by the reference's: 1 where an image is as bright as the truth.

    Its standard deviation over images is near 0 for outputs whose brightness was taken from the
    truth, as by `gt_mean`, whatever was done to them afterwards.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3.
      reference: same shape. A mean below half a level of 255 counts as that.

    Returns:
      One value per image, shape `[...]`.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, or shapes that differ.
    """
    image, reference = pair(image, reference)
    ratio = colour.mean_luma(image) / jnp.maximum(colour.mean_luma(reference), 0.5 / 255)
    return ratio[..., 0, 0, 0]
