"""Whether an enhancement keeps the order of lightness, and with it the light's direction."""

import jax
import jax.numpy as jnp

from lle_jax.metrics.conventions import pair, unless_nan


def lightness_order_error(image: jax.Array, reference: jax.Array) -> jax.Array:
    """Computes LOE, the mean number of pixels of about 50 x 50 whose lightness order changed.

    Lightness is the largest of R, G and B in 8-bit levels; of two pixels one is at least as light
    as the other or not. As in the authors' MATLAB code the lightness is the maximum over 15 x 15
    pixels, taken at every s-th row and column, s the shorter side over 50, rounded down (at least
    1). The sum depends on that grid: divide by its size to compare images of other shapes. Others'
    code resizes with bicubic filtering instead, and takes no maximum.

    Wang, Zheng, Hu and Li, "Naturalness preserved enhancement algorithm for non-uniform
    illumination images", IEEE TIP 22(9), 2013, doi:10.1109/TIP.2013.2261309.

    Args:
      image: the enhanced image, `[..., H, W, C]` in [0, 1], C 1 or 3.
      reference: the image before, same shape.

    Returns:
      `[...]`, 0 where the order is kept, as after any strictly increasing curve common to R, G
      and B (up to rounding); at most the number of pixels sampled. Gradient 0.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, or shapes that differ.
    """
    image, reference = pair(image, reference)
    before, after = (_sampled_lightness(i) for i in (reference, image))

    def changes(these):
        lighter_before, lighter_after = these[0][..., None] >= before, these[1][..., None] >= after
        return jnp.sum(lighter_before != lighter_after, axis=-1)

    # One pixel of each image at a time: all pairs at once would be 6 million for each image.
    moved = jnp.moveaxis(jnp.stack([before, after]), -1, 0)
    counts = jax.lax.map(changes, moved)
    return unless_nan(jnp.mean(counts.astype(before.dtype), axis=0), image, reference)


def _sampled_lightness(image: jax.Array) -> jax.Array:
    """Lightness in levels, its local maximum on the grid, `[..., N]`."""
    lightness = jnp.round(255 * jnp.max(jax.lax.stop_gradient(image), axis=-1))
    for axis in (-2, -1):
        lightness = _running_maximum(lightness, axis % lightness.ndim)
    step = max(1, min(lightness.shape[-2:]) // 50)
    sampled = lightness[..., step - 1 :: step, step - 1 :: step]
    return sampled.reshape(*sampled.shape[:-2], -1)


def _running_maximum(image: jax.Array, axis: int, radius: int = 7) -> jax.Array:
    """Maximum over 2 radius + 1 pixels, of those inside the image."""
    size = image.shape[axis]
    pad = [(radius, radius) if i == axis else (0, 0) for i in range(image.ndim)]
    padded = jnp.pad(image, pad, constant_values=-jnp.inf)
    result = image
    for k in range(2 * radius + 1):
        result = jnp.maximum(result, jax.lax.slice_in_dim(padded, k, k + size, axis=axis))
    return result
