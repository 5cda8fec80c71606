"""Structural similarity."""

import jax
import jax.numpy as jnp
import numpy as np

from lle_jax import checks

GAUSSIAN_11 = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
GAUSSIAN_11 /= GAUSSIAN_11.sum()


def _filter(image: jax.Array, window: np.ndarray) -> jax.Array:
    """Separable filter over height and width, only where the window fits (`valid`).

    Training crops go through a banded matrix product, whose gradient is another one (on CPU, six
    times faster than differentiating the shifts); larger images through shifted multiply-adds,
    whose cost does not grow with the side. XLA's convolution is slower than both on CPU.
    """
    height, width = image.shape[-3] - len(window) + 1, image.shape[-2] - len(window) + 1
    if max(image.shape[-3:-1]) <= 256:
        rows, columns = _band(height, window, image.dtype), _band(width, window, image.dtype)
        image = jnp.einsum("ij,...jwc->...iwc", rows, image, precision="highest")
        return jnp.einsum("ij,...hjc->...hic", columns, image, precision="highest")
    rows = sum(float(w) * image[..., k : k + height, :, :] for k, w in enumerate(window))
    return sum(float(w) * rows[..., k : k + width, :] for k, w in enumerate(window))


def _band(size: int, window: np.ndarray, dtype: jnp.dtype) -> jax.Array:
    matrix = sum(w * np.eye(size, size + len(window) - 1, k) for k, w in enumerate(window))
    return jnp.asarray(matrix, dtype)


def ssim_map(
    image: jax.Array,
    reference: jax.Array,
    *,
    window: np.ndarray = GAUSSIAN_11,
    data_range: float = 1.0,
    k1: float = 0.01,
    k2: float = 0.03,
    unbiased: bool = False,
) -> jax.Array:
    """Local SSIM index, `[..., H - n + 1, W - n + 1, C]` for a window of n taps; see `ssim`."""
    image, reference = checks.image(image), checks.image(reference, "reference")
    checks.same_shape(image, reference, ("image", "reference"))
    if min(image.shape[-3:-1]) < len(window):
        raise ValueError(
            f"image is {image.shape[-3]}x{image.shape[-2]} pixels; "
            f"SSIM with this window needs at least {len(window)}x{len(window)}"
        )
    dtype = jnp.promote_types(checks.compute_dtype(image), reference.dtype)
    image, reference = image.astype(dtype), reference.astype(dtype)
    # Second moments about each channel's mean rather than black: the same covariances with less
    # cancellation, which in float32 matters in flat regions.
    centre_x, centre_y = (jnp.mean(i, axis=(-3, -2), keepdims=True) for i in (image, reference))
    x, y = image - centre_x, reference - centre_y
    # Only the sum of the two variances is needed, so four filtered images do for five moments.
    moments = _filter(jnp.stack([x, y, x * x + y * y, x * y]), window)
    mean_x, mean_y = moments[0], moments[1]
    scale = len(window) ** 2 / (len(window) ** 2 - 1) if unbiased else 1.0
    variances = scale * (moments[2] - mean_x**2 - mean_y**2)
    covariance = scale * (moments[3] - mean_x * mean_y)
    c1, c2 = (k1 * data_range) ** 2, (k2 * data_range) ** 2
    mean_x, mean_y = mean_x + centre_x, mean_y + centre_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance * (2 * covariance + c2) / (variances + c2)


def ssim(image: jax.Array, reference: jax.Array, **options) -> jax.Array:
    """Structural similarity index, the mean of the local index over positions and channels.

    The default is the convention of the paper: an 11-tap Gaussian window of sigma 1.5, population
    moments, only positions where the window fits, no downsampling; each colour channel on its own.
    It equals scikit-image's `structural_similarity(..., gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1)`. scikit-image's *own* defaults are
    `window=np.full(7, 1 / 7), unbiased=True`.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to
    structural similarity", IEEE TIP 13(4), 2004, doi:10.1109/TIP.2003.819861, eq. 13 and 14-17.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3, at least as large as the window.
      reference: same shape.
      **options: `window` (1-D weights of the separable window, sum 1), `data_range`, `k1`, `k2`,
        `unbiased` (moments with n - 1).

    Returns:
      `[...]`, at most 1; 1 for identical images.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, shapes that differ, or an image smaller
        than the window.
    """
    return jnp.mean(ssim_map(image, reference, **options), axis=(-3, -2, -1))
