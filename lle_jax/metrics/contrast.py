"""Computes contrast: of blocks, against a reference, of histograms, between regions."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from lle_jax import checks, colour
from lle_jax.metrics.conventions import pair, unless_nan


def _luma(image) -> jax.Array:
    """BT.601 luma at full range, `[..., H, W]`, at least float32."""
    image = checks.image(image)
    return colour.luma(image.astype(checks.compute_dtype(image)))[..., 0]


def _large_enough(image: jax.Array, least: int, name: str) -> None:
    if min(image.shape[-2:]) < least:
        size = f"{image.shape[-2]}x{image.shape[-1]}"
        raise ValueError(f"image is {size} pixels; {name} needs at least {least}x{least}")


def eme(image: jax.Array, *, block: int = 8) -> jax.Array:
    """Computes EME, the mean over blocks of 20 log10((max + 1) / (min + 1)).

    Of luma in levels of 0 to 255; the one level that is added keeps black finite. Noise raises it
    as detail does. Right and bottom remainders that fill no block are left out.

    Agaian, Panetta and Grigoryan, "Transform-based image enhancement algorithms with performance
    measure", IEEE TIP 10(3), 2001, doi:10.1109/83.908502.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3.
      block: side of the blocks in pixels.

    Returns:
      `[...]` in dB, at least 0; 0 for a flat image.

    Raises:
      ValueError: if the image is malformed or smaller than a block, or `block` < 1.
    """
    if block < 1:
        raise ValueError(f"block is {block}; expected an integer >= 1")
    luma = _luma(image)
    _large_enough(luma, block, "EME")
    rows, columns = luma.shape[-2] // block, luma.shape[-1] // block
    luma = luma[..., : rows * block, : columns * block]
    blocks = luma.reshape(*luma.shape[:-2], rows, block, columns, block)
    high, low = (255 * f(blocks, axis=(-3, -1)) + 1 for f in (jnp.max, jnp.min))
    return jnp.mean(20 * jnp.log10(high / low), axis=(-2, -1))


def contrast_improvement_index(image: jax.Array, reference: jax.Array) -> jax.Array:
    """Computes the ratio of mean local contrasts of the enhanced image and of the original.

    The local contrast is (max - min) / (max + min) of luma in 3 x 3 pixels, 0 where all are black;
    positions where the window fits.

    Laine, Schuler, Fan and Huda, "Mammographic feature enhancement by multiscale analysis", IEEE
    TMI 13(4), 1994, doi:10.1109/42.363095, there with the contrast of a lesion against its
    surroundings; `contrast_to_noise` has masks.

    Args:
      image: the enhanced image, `[..., H, W, C]` in [0, 1], C 1 or 3.
      reference: the image before, same shape.

    Returns:
      `[...]`, above 1 where contrast was gained; infinite if the reference alone has none, 1 if
      neither has any.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, shapes that differ, or an image smaller
        than 3 x 3.
    """
    image, reference = (i[..., 0] for i in pair(image, reference, "luma"))
    _large_enough(image, 3, "contrast")
    found, before = _local_contrast(image), _local_contrast(reference)
    neither = (found == 0) & (before == 0)
    return jnp.where(neither, 1, found / jnp.where(neither, 1, before))


def _local_contrast(luma: jax.Array) -> jax.Array:
    high, low = luma, luma
    for axis in (-2, -1):
        size = luma.shape[axis] - 2
        parts = [
            [jax.lax.slice_in_dim(i, k, k + size, axis=axis % luma.ndim) for k in range(3)]
            for i in (high, low)
        ]
        high = jnp.maximum(jnp.maximum(*parts[0][:2]), parts[0][2])
        low = jnp.minimum(jnp.minimum(*parts[1][:2]), parts[1][2])
    total = high + low
    black = total <= 0  # and not NaN, which stays
    return jnp.mean(jnp.where(black, 0, (high - low) / jnp.where(black, 1, total)), axis=(-2, -1))


def local_entropy(image: jax.Array, *, side: int = 9) -> jax.Array:
    """Computes the mean Shannon entropy of luma's 8-bit levels in square windows.

    Equals scikit-image's `filters.rank.entropy(levels, ones((side, side)))` where the window fits.
    Noise raises it as detail does. Piecewise constant: its gradient is 0.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3.
      side: of the window in pixels, odd.

    Returns:
      `[...]` in bits, 0 to min(8, 2 log2(side)).

    Raises:
      ValueError: if the image is malformed or smaller than the window, or `side` is even or < 3.
    """
    if side < 3 or side % 2 == 0:
        raise ValueError(f"side is {side}; expected an odd integer >= 3")
    luma = _luma(image)
    _large_enough(luma, side, "local entropy")
    levels = jnp.round(255 * jnp.clip(jax.lax.stop_gradient(luma), 0, 1))
    # n log2(n) of each possible count of a level: the entropy is what their sum lacks.
    count = np.arange(side**2 + 1)
    terms = jnp.asarray(count * np.log2(np.maximum(count, 1)), levels.dtype)

    def add(level, total):
        inside = (levels == level).astype(jnp.int32)
        for axis in (-2, -1):
            size = inside.shape[axis] - side + 1
            inside = sum(
                jax.lax.slice_in_dim(inside, k, k + size, axis=axis % inside.ndim)
                for k in range(side)
            )
        return total + jnp.take(terms, inside)

    shape = (*levels.shape[:-2], levels.shape[-2] - side + 1, levels.shape[-1] - side + 1)
    total = jax.lax.fori_loop(0, 256, add, jnp.zeros(shape, levels.dtype))
    return unless_nan(math.log2(side**2) - jnp.mean(total, axis=(-2, -1)) / side**2, image)


def contrast_to_noise(
    image: jax.Array, region_mask: jax.Array, background_mask: jax.Array
) -> jax.Array:
    """Computes the CNR, |mean of region - mean of background| / std of background, of luma.

    The standard deviation is the population's, of the background only, which is one of several
    definitions in use: Welvaert and Rosseel, PLoS ONE 8(11), 2013,
    doi:10.1371/journal.pone.0077089, list them.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3.
      region_mask: `[..., H, W]`, or `[H, W]` for all images: True, or not 0, where a lesion or
        vessel is.
      background_mask: likewise, where its surroundings are.

    Returns:
      `[...]`, at least 0; infinite where the background is constant, NaN where a traced mask is
      empty.

    Raises:
      ValueError: if the image is malformed, or a mask has another height and width or marks no
        pixel.
    """
    luma = _luma(image)
    masks = {"region_mask": region_mask, "background_mask": background_mask}
    (region, _), (background, noise) = (_masked(luma, name, mask) for name, mask in masks.items())
    return jnp.abs(region - background) / noise


def _masked(luma: jax.Array, name: str, mask) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of luma where the mask is not 0."""
    mask = jnp.asarray(mask) != 0
    if mask.shape not in (luma.shape, luma.shape[-2:]):
        raise ValueError(f"{name} has shape {mask.shape}; expected {luma.shape[-2:]}")
    if not isinstance(mask, jax.core.Tracer) and not mask.any(axis=(-2, -1)).all():
        raise ValueError(f"{name} marks no pixel")
    axes = (-2, -1)
    count = jnp.sum(mask, axis=axes, keepdims=True)
    mean = jnp.sum(jnp.where(mask, luma, 0), axis=axes, keepdims=True) / count
    variance = jnp.sum(jnp.where(mask, (luma - mean) ** 2, 0), axis=axes, keepdims=True) / count
    return mean[..., 0, 0], jnp.sqrt(variance)[..., 0, 0]
