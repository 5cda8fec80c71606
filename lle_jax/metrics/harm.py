"""Do no harm: structure added or lost, frequencies not of the truth, shifts of colour.

An output can gain PSNR and SSIM and still show a vessel that was not there. These figures look for
that. None is a loss: the rates are counts, without a useful gradient.
"""

import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lle_jax import checks
from lle_jax.metrics import filters
from lle_jax.metrics.colour import ciede2000_map
from lle_jax.metrics.conventions import pair, select, unless_nan
from lle_jax.xla import order_statistic

# Of structure_change; lengths in pixels.
SCALES = (1.5, 3.0)
ORIENTATIONS = 6
SURROUNDINGS = 8.0
FAINTEST = 0.03  # contrast in [0, 1] below which there is nothing to see
CLEAR_SHARE = 0.1  # of the reference's responses that are clear structure
LEAST_CLEAR = 0.25  # in units of local contrast, for a reference without structure
FAINT = 0.3  # of a clear response is counterpart enough, so that blur loses nothing
# Of hallucination_rate: where the truth's amplitude is that of white noise of this sigma or less,
# noise of the output decides the correlation.
ENERGY = 0.03
# Of background_colour_shift.
FLAT_SHARE, FLAT_SCALE = 0.25, 2.0
BLACK, WHITE = 0.05, 0.98  # luma beyond which a sensor tells no colour


class StructureChange(NamedTuple):
    """What `structure_change` finds.

    Attributes:
      added: `[...]`, share in [0, 1] of the image's structure that the reference lacks.
      lost: `[...]`, share in [0, 1] of the reference's structure that the image lacks.
      added_map: bool `[..., H, W]`, where it is.
      lost_map: bool `[..., H, W]`, where it was.
    """

    added: jax.Array
    lost: jax.Array
    added_map: jax.Array
    lost_map: jax.Array


def structure_change(
    image: jax.Array, reference: jax.Array, *, tolerance: int = 3
) -> StructureChange:
    """Edges, vessels and spots of an image without counterpart in the reference, and vice versa.

    The second derivatives of luma at 1.5 and 3 pixels in six directions, dark and bright apart, are
    divided by the contrast around (root mean square of detail within about 8 pixels and of the
    whole image, and at least 0.03), so that a change of brightness, contrast or illumination leaves
    them. Structure is where a response exceeds that of 90 % of the reference's. It lacks a
    counterpart where no response of the same scale, direction and polarity within the tolerance
    reaches 0.3 of that. The thresholds are this package's own choice.

    Faint structure amid strong texture goes unseen, since the texture is a counterpart.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3.
      reference: the truth, same shape.
      tolerance: shift in pixels, along each axis, that is no change.

    Returns:
      rates and maps; see `StructureChange`. Piecewise constant: not a loss.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, shapes that differ, or a tolerance that
        is not a whole number >= 0.
    """
    if not isinstance(tolerance, int) or tolerance < 0:
        raise ValueError(f"tolerance is {tolerance}; expected a whole number >= 0")
    image, reference = pair(image, reference, "luma")
    x, y = _responses(image), _responses(reference)
    strength = jnp.moveaxis(jnp.abs(y[..., :ORIENTATIONS]), -2, -4)  # [..., scale, H, W, direction]
    strength = strength.reshape(*strength.shape[:-3], -1)
    quantile = order_statistic(strength, math.ceil((1 - CLEAR_SHARE) * strength.shape[-1]))
    clear = jnp.maximum(quantile, LEAST_CLEAR)[..., None, None, :, None]
    in_image, in_reference = x > clear, y > clear
    added = in_image & (_greatest(y, tolerance) < FAINT * clear)
    lost = in_reference & (_greatest(x, tolerance) < FAINT * clear)
    added, in_image, lost, in_reference = (
        jnp.any(m, axis=(-2, -1)) for m in (added, in_image, lost, in_reference)
    )
    share_added, share_lost = (
        unless_nan(_share(part, whole), image, reference)
        for part, whole in ((added, in_image), (lost, in_reference))
    )
    return StructureChange(share_added, share_lost, added, lost)


def _share(part: jax.Array, whole: jax.Array) -> jax.Array:
    return jnp.sum(part, axis=(-2, -1)) / jnp.maximum(jnp.sum(whole, axis=(-2, -1)), 1)


def _responses(luma: jax.Array) -> jax.Array:
    """`[..., H, W, 1]` -> `[..., H, W, scale, direction]`, the second half of directions negated.

    Second derivatives in units of local contrast: positive across a dark line, or at a dark spot.
    """
    detail = luma - filters.gaussian_derivative(luma, SURROUNDINGS)
    power = detail**2
    overall = jnp.mean(power, axis=(-3, -2), keepdims=True)
    contrast = jnp.sqrt(filters.gaussian_derivative(power, SURROUNDINGS) + overall + FAINTEST**2)
    angles = np.pi * np.arange(ORIENTATIONS) / ORIENTATIONS
    cos, sin = (jnp.asarray(f(angles), luma.dtype) for f in (np.cos, np.sin))
    responses = []
    for scale in SCALES:
        down, across, mixed = (
            scale**2 * filters.gaussian_derivative(detail, scale, order)
            for order in ((2, 0), (0, 2), (1, 1))
        )
        directed = across * cos**2 + 2 * mixed * cos * sin + down * sin**2
        responses.append(jnp.concatenate([directed, -directed], axis=-1) / contrast)
    return jnp.stack(responses, axis=-2)


def _greatest(responses: jax.Array, radius: int) -> jax.Array:
    """Maximum within `radius` along each axis of `[..., H, W, scale, direction]`."""
    channels = responses.reshape(*responses.shape[:-2], -1)
    return filters.greatest(channels, radius).reshape(responses.shape)


def fourier_ring_correlation(
    image: jax.Array, reference: jax.Array, *, patch: int = 32
) -> jax.Array:
    """Correlation of the spectra of image and reference, by patch and band of frequencies.

    Re sum F conj(G) / sqrt(sum |F|^2 sum |G|^2) over the frequencies of a band, of luma in square
    patches that overlap by half, each less its mean and under a Hann window. A gain, or one per
    band as blur is, does not change it; white noise of variance v on a signal of power s in the
    band lowers it to 1 / sqrt(1 + v / s).

    Saxton and Baumeister, "The correlation averaging of a regularly arranged bacterial cell
    envelope protein", Journal of Microscopy 127(2), 1982, doi:10.1111/j.1365-2818.1982.tb00405.x.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3, at least as large as a patch.
      reference: same shape.
      patch: side in pixels, at least 8.

    Returns:
      `[..., rows of patches, columns of patches, bands]` in [-1, 1]; 0 where either has nothing.
      Bands are octaves from 1.5 cycles per patch to half a cycle per pixel: for 32 pixels the
      limits are 1.5, 3, 6, 12 and 16 cycles per patch.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, shapes that differ, a patch below 8, or
        an image smaller than a patch.
    """
    return _spectra(image, reference, patch)[0]


def hallucination_rate(
    image: jax.Array, reference: jax.Array, *, patch: int = 32, threshold: float = 0.8
) -> jax.Array:
    """Share of patches that do not follow the truth in a band of frequencies where it has energy.

    See `fourier_ring_correlation`. A band of a patch counts where the reference's mean power is
    above that of white noise of sigma 0.03; a patch fails where the correlation is below the
    threshold in any band that counts. Noise of sigma 0.02 thus passes (correlation 0.83 at least,
    on average), blur does too. What is added to a patch without energy is left to
    `structure_change`.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3, at least as large as a patch.
      reference: the truth, same shape.
      patch: side in pixels, at least 8.
      threshold: least correlation, in [-1, 1].

    Returns:
      `[...]` in [0, 1]; 0 is best. Piecewise constant: not a loss.

    Raises:
      ValueError: as `fourier_ring_correlation`, or for a threshold out of range.
    """
    checks.number("threshold", threshold, -1, 1)
    correlation, power = _spectra(image, reference, patch)
    failed = jnp.any((power > ENERGY**2) & (correlation < threshold), axis=-1)
    rate = jnp.mean(failed, axis=(-2, -1), dtype=correlation.dtype)
    return unless_nan(rate, jnp.asarray(image), jnp.asarray(reference))


def _spectra(image, reference, patch: int) -> tuple[jax.Array, jax.Array]:
    """Correlation, and the reference's mean power, of each patch and band."""
    image, reference = pair(image, reference, "luma")
    height, width = image.shape[-3:-1]
    if patch < 8:
        raise ValueError(f"patch is {patch}; expected at least 8 pixels")
    if min(height, width) < patch:
        raise ValueError(
            f"image is {height}x{width} pixels; this patch needs at least {patch}x{patch}"
        )
    frequency = patch * np.hypot(np.fft.fftfreq(patch)[:, None], np.fft.rfftfreq(patch))
    limits = [*1.5 * 2.0 ** np.arange(np.log2(patch / 3)), patch / 2]
    twice = np.ones(frequency.shape)
    twice[:, 1 : (patch + 1) // 2] = 2  # the half of the spectrum that a real one leaves out
    inside = [(frequency >= a) & (frequency < b) for a, b in itertools.pairwise(limits)]
    weights = jnp.asarray(np.stack(inside) * twice, image.dtype)

    def total(spectrum):
        return jnp.einsum("...ij,bij->...b", spectrum, weights, precision="highest")

    f, g = (_patches(i[..., 0], patch) for i in (image, reference))
    product = total(f.real * g.real + f.imag * g.imag)
    powers = [total(i.real**2 + i.imag**2) for i in (f, g)]
    there = (powers[0] > 0) & (powers[1] > 0)
    length = jnp.sqrt(jnp.where(there, powers[0], 1)) * jnp.sqrt(jnp.where(there, powers[1], 1))
    return jnp.where(there, product / length, 0), powers[1] / weights.sum(axis=(1, 2))


def _patches(luma: jax.Array, patch: int) -> jax.Array:
    """Spectra `[..., rows, columns, patch, patch // 2 + 1]`; white noise of sigma 1 has power 1."""
    rows, columns = (
        np.linspace(0, side - patch, -(-(side - patch) // (patch // 2)) + 1).round().astype(int)
        for side in luma.shape[-2:]
    )
    rows, columns = (start[:, None] + np.arange(patch) for start in (rows, columns))
    cut = luma[..., rows[:, None, :, None], columns[None, :, None, :]]
    hann = np.sin(np.pi * (np.arange(patch) + 0.5) / patch) ** 2
    window = np.outer(hann, hann)
    mean = jnp.sum(cut * (window / window.sum()), axis=(-2, -1), keepdims=True)
    return jnp.fft.rfft2((cut - mean) * (window / np.sqrt(np.sum(window**2))))


def background_colour_shift(image: jax.Array, reference: jax.Array) -> jax.Array:
    """Mean CIEDE2000 in the reference's flat regions, where a shift is seen and has no other cause.

    Flat is the quarter of pixels with the least standard deviation of luma around (a Gaussian of 2
    pixels), of those whose own luma is between 0.05 and 0.98. Both images are averaged over
    the same surroundings first, so that noise without a mean is no shift. A change of brightness is
    a difference of colour too, and counts.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3.
      reference: the truth, same shape.

    Returns:
      `[...]` in Delta E00, 0 is best; NaN where the reference is black or white throughout.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, or shapes that differ.
    """
    image, reference = pair(image, reference)
    luma = select(reference, "luma")
    luma = luma - jnp.mean(luma, axis=(-3, -2), keepdims=True)  # less cancellation in float32
    variance = (
        filters.gaussian_derivative(luma**2, FLAT_SCALE)
        - filters.gaussian_derivative(luma, FLAT_SCALE) ** 2
    )
    luma, variance = select(reference, "luma")[..., 0], variance[..., 0]
    coloured = (luma >= BLACK) & (luma <= WHITE)
    variance = jnp.where(coloured, jnp.maximum(variance, 0), jnp.inf)
    rank = jnp.ceil(FLAT_SHARE * jnp.sum(coloured, axis=(-2, -1))).astype(jnp.int32)
    limit = order_statistic(variance.reshape(*variance.shape[:-2], -1), rank)
    flat = coloured & (variance <= limit[..., None, None])
    shift = ciede2000_map(*(filters.gaussian_derivative(i, FLAT_SCALE) for i in (image, reference)))
    count = jnp.sum(flat, axis=(-2, -1))
    mean = jnp.sum(jnp.where(flat, shift, 0), axis=(-2, -1)) / jnp.maximum(count, 1)
    return unless_nan(jnp.where(count > 0, mean, jnp.nan), image, reference)
