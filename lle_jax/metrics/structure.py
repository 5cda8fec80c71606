"""Computes structural similarity at one scale (SSIM) and at five (MS-SSIM)."""

import jax
import jax.numpy as jnp
import numpy as np

from lle_jax.metrics import filters
from lle_jax.metrics.conventions import pair

GAUSSIAN_11 = filters.gaussian(11, 1.5)
UNIFORM_7 = np.full(7, 1 / 7)
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ssim_map(
    image: jax.Array,
    reference: jax.Array,
    *,
    channels: str = "rgb",
    window: np.ndarray = GAUSSIAN_11,
    data_range: float = 1.0,
    k1: float = 0.01,
    k2: float = 0.03,
    unbiased: bool = False,
) -> jax.Array:
    """Computes the local SSIM index, `[..., H - n + 1, W - n + 1, C]` for n taps; see `ssim`."""
    if data_range <= 0:
        raise ValueError(f"data_range is {data_range:g}; expected a number > 0")
    image, reference = pair(image, reference, channels, data_range)
    constants = (k1 * data_range) ** 2, (k2 * data_range) ** 2
    luminance, structure = _terms(image, reference, window, *constants, unbiased)
    return luminance * structure


def _terms(
    image: jax.Array,
    reference: jax.Array,
    window: np.ndarray,
    c1: float,
    c2: float,
    unbiased: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """The local luminance term, and the contrast and structure terms' product."""
    if min(image.shape[-3:-1]) < len(window):
        raise ValueError(
            f"image is {image.shape[-3]}x{image.shape[-2]} pixels; "
            f"SSIM with this window needs at least {len(window)}x{len(window)}"
        )
    # Moments of sum and difference instead of the two images: the same index from four filtered
    # images instead of five, and their rounding errors cancel where the images agree. About each
    # channel's mean rather than black, for the same reason; the index does not depend on it.
    both = image + reference, image - reference
    centres = [jax.lax.stop_gradient(jnp.mean(i, axis=(-3, -2), keepdims=True)) for i in both]
    total, difference = both[0] - centres[0], both[1] - centres[1]
    moments = filters.valid(
        jnp.stack([total, difference, total * total, difference * difference]), window
    )
    scale = len(window) ** 2 / (len(window) ** 2 - 1) if unbiased else 1.0
    total, difference = (scale * (moments[2 + i] - moments[i] ** 2) for i in (0, 1))
    structure = (total - difference + 2 * c2) / (total + difference + 2 * c2)
    total, difference = ((moments[i] + centres[i]) ** 2 for i in (0, 1))
    luminance = (total - difference + 2 * c1) / (total + difference + 2 * c1)
    return luminance, structure


def ssim(image: jax.Array, reference: jax.Array, **options) -> jax.Array:
    """Computes the mean SSIM index over positions and channels.

    The default is the convention of the paper: an 11-tap Gaussian window of sigma 1.5, population
    moments, only positions where the window fits, no downsampling; each colour channel on its own.
    It equals scikit-image's `structural_similarity(..., gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1)`. scikit-image's *own* defaults are
    `window=UNIFORM_7, unbiased=True`.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to
    structural similarity", IEEE TIP 13(4), 2004, doi:10.1109/TIP.2003.819861, eq. 13 and 14-17.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3, at least as large as the window.
      reference: same shape.
      **options: `channels` ("rgb", "luma", "rounded_luma" or "studio_luma"; see
        `conventions.select`), `window` (1-D weights of the separable window, sum 1: `GAUSSIAN_11`,
        `UNIFORM_7` or other), `data_range`, `k1`, `k2`, `unbiased` (moments with n - 1).

    Returns:
      `[...]`, at most 1; 1 for identical images.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, shapes that differ, unknown `channels`,
        `data_range` <= 0, or an image smaller than the window.
    """
    return jnp.mean(ssim_map(image, reference, **options), axis=(-3, -2, -1))


def ms_ssim(
    image: jax.Array,
    reference: jax.Array,
    *,
    channels: str = "rgb",
    convention: str = "wang",
    data_range: float = 1.0,
    scales: int = 5,
) -> jax.Array:
    """Computes MS-SSIM over five scales, each half as large as the one before.

    The product of the mean contrast-structure terms of scales 1 to 4 and the mean SSIM of scale 5,
    each to the power of its weight; each channel on its own, then their mean.

    Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment",
    Asilomar 2003, doi:10.1109/ACSSC.2003.1292216, eq. 7.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3, at least 161 x 161 (for fewer scales: more than
        5 * 2^scales).
      reference: same shape.
      channels: "rgb", "luma", "rounded_luma" or "studio_luma"; see `conventions.select`.
      convention: what to do where the paper is silent. "wang", as in the authors' MATLAB code: odd
        sides repeat their last pixels, and only a mean below 0, which has no real power, counts as
        0. "pyiqa": odd sides get a black border, and each *local* contrast-structure term below 0
        counts as 0.
      data_range: the value of white, 1 for images in [0, 1].
      scales: 1 to 5; fewer are for images too small for five, take the weights of the first, scaled
        to the sum 1, and are no measure of that paper.

    Returns:
      `[...]` in [0, 1]; 1 for identical images.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, shapes that differ, unknown `channels` or
        `convention`, `data_range` <= 0, `scales` out of range, or an image too small for them.
    """
    _check_ms_ssim(convention, data_range, scales)
    x, y = pair(image, reference, channels, data_range)
    least = 10 * 2 ** (scales - 1) + 1
    if min(x.shape[-3:-1]) < least:
        raise ValueError(
            f"image is {x.shape[-3]}x{x.shape[-2]} pixels; "
            f"MS-SSIM needs at least {least}x{least} for {scales} scales"
        )
    index = jnp.ones((*x.shape[:-3], x.shape[-1]), x.dtype)
    for scale, weight in enumerate(_scale_weights(scales), start=1):
        c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        luminance, local = _terms(x, y, GAUSSIAN_11, c1, c2)
        if convention == "pyiqa":
            local = jnp.maximum(local, 0)
        if scale == scales:
            local = luminance * local
        else:
            odd = "edge" if convention == "wang" else "zeros before"
            x, y = filters.halve(x, odd), filters.halve(y, odd)
        index = index * _power(jnp.mean(local, axis=(-3, -2)), weight)
    return jnp.mean(index, axis=-1)


def _check_ms_ssim(convention: str, data_range: float, scales: int) -> None:
    if convention not in ("wang", "pyiqa"):
        raise ValueError(f"convention is {convention!r}; expected 'wang' or 'pyiqa'")
    if data_range <= 0:
        raise ValueError(f"data_range is {data_range:g}; expected a number > 0")
    if not 1 <= scales <= len(SCALE_WEIGHTS):
        raise ValueError(f"scales is {scales}; expected 1 to {len(SCALE_WEIGHTS)}")


def _scale_weights(scales: int) -> tuple[float, ...]:
    weights = SCALE_WEIGHTS[:scales]
    if scales == len(SCALE_WEIGHTS):
        return weights
    return tuple(weight / sum(weights) for weight in weights)


def _power(mean: jax.Array, weight: float) -> jax.Array:
    """mean ** weight, 0 with gradient 0 where the mean is not positive; NaN stays NaN."""
    none = mean <= 0
    return jnp.where(none, 0, jnp.where(none, 1, mean) ** weight)
