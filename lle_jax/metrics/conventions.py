"""What all metrics share: checks of image pairs, the channels compared, NaN and a square root."""

import functools

import jax
import jax.numpy as jnp

from lle_jax import checks, colour

CHANNELS = ("rgb", "luma", "rounded_luma", "studio_luma")


def pair(
    image, reference, channels: str = "rgb", data_range: float = 1.0
) -> tuple[jax.Array, jax.Array]:
    """Checks a pair of like images and returns the channels to compare, at least float32.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, shapes that differ, or a `channels` that
        is not in `CHANNELS`.
    """
    image, reference = checks.image(image), checks.image(reference, "reference")
    checks.same_shape(image, reference, ("image", "reference"))
    dtype = jnp.promote_types(checks.compute_dtype(image), reference.dtype)
    first, second = (
        select(array.astype(dtype), channels, data_range) for array in (image, reference)
    )
    return first, second


def unless_nan(value: jax.Array, *images: jax.Array) -> jax.Array:
    """Returns `[...]` values, NaN where a pixel of one of the images `[..., H, W, C]` is NaN.

    For what counts by comparison, in which NaN would pass for nothing found.
    """
    damaged = [jnp.any(jnp.isnan(image), axis=(-3, -2, -1)) for image in images]
    return jnp.where(functools.reduce(jnp.logical_or, damaged), jnp.nan, value)


def sqrt(x: jax.Array) -> jax.Array:
    """Square root, 0 with gradient 0 at 0 and below; NaN stays NaN."""
    none = x <= 0
    return jnp.where(none, 0, jnp.sqrt(jnp.where(none, 1, x)))


def select(image: jax.Array, channels: str, data_range: float = 1.0) -> jax.Array:
    """Selects the channels that a measure compares.

    Args:
      image: sRGB `[..., H, W, C]` in [0, data_range], C 1 or 3; one channel counts as R = G = B.
      channels:
        "rgb": all channels as they are.
        "luma": Y' of ITU-R BT.601 at full range, as in JPEG, PIL and scikit-image's `rgb2yiq`.
        "rounded_luma": the same, rounded to 8-bit levels, halves to even, as pyiqa does
          (`test_y_channel`) but for some of the halves; its gradient is that of "luma".
        "studio_luma": Y' of BT.601 at 16 to 235 of 255, as in MATLAB's `rgb2ycbcr` of floating
          point and BasicSR's `test_y_channel`.
      data_range: the value of white, 1 for images in [0, 1].

    Returns:
      `[..., H, W, C]` for "rgb", else `[..., H, W, 1]`.

    Raises:
      ValueError: if `channels` is none of these.
    """
    if channels not in CHANNELS:
        raise ValueError(f"channels is {channels!r}; expected one of {', '.join(CHANNELS)}")
    if channels == "rgb":
        return image
    luma = colour.luma(image)
    if channels == "rounded_luma":
        level = luma * (255 / data_range)
        # In 8-bit images one level in a thousand ends in 5 / 10, give or take float32's rounding,
        # which differs from one compilation to another: such a level goes to the even neighbour.
        half = jnp.floor(level) + 0.5
        level = jnp.where(jnp.abs(level - half) < 1e-4, half, level)
        rounded = jnp.round(level) * (data_range / 255)
        return luma + jax.lax.stop_gradient(rounded - luma)
    return luma if channels == "luma" else (16 * data_range + 219 * luma) / 255
