"""Measures naturalness without a reference: BRISQUE and NIQE, from normalised luma.

Both divide out the local mean and deviation of luma and describe what is left by the shapes of its
distribution. Conventions, those of the authors' MATLAB code:

- luma is BT.601 at full range, rounded to levels of 0 to 255 ("rounded_luma");
- local moments: Gaussian window of 7 taps, sigma 7/6; beyond the border black (BRISQUE) or the
  last pixel (NIQE); the deviation is divided by after adding 1 level;
- the second scale is half the size, by the antialiased bicubic filter of MATLAB's `imresize`
  (8 taps, a = -0.5, mirrored borders, odd sides rounded up);
- the shape of a generalised Gaussian is looked up by the ratio of its moments, in a table from 0.2
  to 10 in steps of 0.001. The authors take the nearest entry; here it is interpolated between two,
  which differs by at most half a step and has a gradient.

Mittal, Moorthy and Bovik, "No-reference image quality assessment in the spatial domain", IEEE TIP
21(12), 2012, doi:10.1109/TIP.2012.2214050. Mittal, Soundararajan and Bovik, "Making a 'completely
blind' image quality analyzer", IEEE SPL 20(3), 2013, doi:10.1109/LSP.2012.2227726.

The models are in `naturalness_models`.
"""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from lle_jax import checks
from lle_jax.metrics import filters, naturalness_models
from lle_jax.metrics.conventions import select, sqrt
from lle_jax.metrics.naturalness_models import FEATURES, BrisqueModel, NiqeModel

PATCH = 96  # side of NIQE's patches, in pixels
SHARP = 0.75  # share of an image's sharpest patch that a patch of the pristine model must reach

_WINDOW = filters.gaussian(7, 7 / 6)
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
# Bicubic kernel stretched to twice its width, at the distances of half-size pixels to full ones.
_HALF = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
_SHAPES = np.arange(200, 10001) / 1000
_LOG_GAMMA = {k: scipy.special.gammaln(k / _SHAPES) for k in (1, 2, 3)}
# (E abs(x))^2 / E x^2 of a generalised Gaussian, rising with its shape.
_RATIOS = np.exp(2 * _LOG_GAMMA[2] - _LOG_GAMMA[1] - _LOG_GAMMA[3])


def brisque_features(image: jax.Array) -> jax.Array:
    """Computes the 36 features of BRISQUE, 18 at each of two scales.

    Shape and variance of the normalised luma; then, for its products with the right, lower, lower
    right and lower left neighbour, shape, mean, left and right variance. Neighbours wrap around.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3, at least 16 x 16.

    Returns:
      `[..., 36]`; NaN where the image is flat. Its gradient is that without rounding of luma.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, or a smaller image.
    """
    luma = _levels(image, 16, "BRISQUE")
    features, valid = [], jnp.ones(luma.shape[:-2], bool)
    for scale in range(2):
        luma = _half(luma) if scale else luma
        field, _ = _normalised(luma, "constant")
        neighbours, valid_products = _neighbours(field, width=False)
        features += [jnp.stack(_symmetric(field), axis=-1), neighbours]
        valid &= valid_products
    return jnp.where(valid[..., None], jnp.concatenate(features, axis=-1), jnp.nan)


def niqe_features(image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Computes the 36 features and the sharpness of each patch of 96 x 96 pixels.

    As BRISQUE's, with the widths of the generalised Gaussians instead of their variances. What
    fills no patch at the right and the bottom is cropped; neighbours wrap around in the patch.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3, at least 96 x 96.

    Returns:
      features: `[..., n, 36]` of n patches by rows; NaN where a patch is flat, such as the black
        beyond a field of view. Gradients as in `brisque_features`.
      sharpness: `[..., n]`, mean local deviation of luma in levels.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, or a smaller image.
    """
    features, valid, sharpness = _patches(image)
    return jnp.where(valid[..., None], features, jnp.nan), sharpness


def _patches(image) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Features with any number for flat patches, which patches are not flat, and sharpness."""
    luma = _levels(image, PATCH, "NIQE")
    rows, columns = (side // PATCH for side in luma.shape[-2:])
    luma = luma[..., : rows * PATCH, : columns * PATCH]
    features, valid, deviations = [], [], []
    for side in (PATCH, PATCH // 2):
        luma = luma if side == PATCH else _half(luma)
        field, deviation = (_split(plane, side) for plane in _normalised(luma, "edge"))
        deviations.append(deviation)
        (shape, _, left, right), valid_field = _asymmetric(field, width=True)
        neighbours, valid_products = _neighbours(field, width=True)
        features += [jnp.stack([shape, (left + right) / 2], axis=-1), neighbours]
        valid.append(valid_field & valid_products)
    sharpness = jnp.mean(deviations[0], axis=(-2, -1))
    return jnp.concatenate(features, axis=-1), valid[0] & valid[1], sharpness


def niqe(image: jax.Array, model: NiqeModel | None = None) -> jax.Array:
    """Computes NIQE, the distance of patches from natural ones; lower is more natural.

    Noise, blur and blocks raise it; so does anything that is unlike the images of the model.
    Flat patches are skipped. Fewer than some ten patches make it unsteady.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3, at least 96 x 96.
      model: from `niqe_model` or `load_niqe`; None is the bundled one, whose
        values are not those of the published model.

    Returns:
      `[...]`, 0 or more; NaN where all patches are flat.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, or a smaller image.
    """
    model = naturalness_models.bundled_niqe() if model is None else model
    features, valid, _ = _patches(image)
    # Natural patches have mean 0 and covariance 1 here, so that nothing is badly conditioned.
    white = jnp.einsum(
        "ij,...nj->...ni", model.whitening, features - model.mean, precision="highest"
    )
    weight = valid[..., None].astype(white.dtype)
    count = jnp.sum(weight, axis=-2)
    mean = jnp.sum(weight * white, axis=-2) / jnp.maximum(count, 1)
    centred = weight * (white - mean[..., None, :])
    scatter = jnp.einsum("...ni,...nj->...ij", centred, centred, precision="highest")
    scatter /= jnp.maximum(count - 1, 1)[..., None]
    pooled = (jnp.eye(FEATURES, dtype=white.dtype) + scatter) / 2
    square = jnp.sum(mean * jnp.linalg.solve(pooled, mean[..., None])[..., 0], axis=-1)
    return jnp.where(count[..., 0] > 0, jnp.sqrt(square), jnp.nan)


def brisque(image: jax.Array, model: BrisqueModel | None = None) -> jax.Array:
    """Computes BRISQUE, a predicted loss of quality; lower is better.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3, at least 16 x 16.
      model: from `load_brisque`; None is the bundled one, which predicts
        100 (1 - SSIM) of images degraded by `lle_jax.degrade` and has not seen opinions of people.

    Returns:
      `[...]`, about 0 to 100; NaN where the image is flat.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, or a smaller image.
    """
    model = naturalness_models.bundled_brisque() if model is None else model
    scaled = 2 * (brisque_features(image) - model.low) / (model.high - model.low) - 1
    distance = jnp.sum((scaled[..., None, :] - model.vectors) ** 2, axis=-1)
    return jnp.sum(jnp.exp(-model.gamma * distance) * model.coefficients, axis=-1) - model.rho


def _levels(image, least: int, name: str) -> jax.Array:
    """Rounded luma `[..., H, W]` in levels of 0 to 255."""
    image = checks.image(image)
    height, width = image.shape[-3:-1]
    if min(height, width) < least:
        raise ValueError(f"image is {height}x{width} pixels; {name} needs at least {least}x{least}")
    image = image.astype(checks.compute_dtype(image))
    return 255 * select(image, "rounded_luma")[..., 0]


def _half(luma: jax.Array) -> jax.Array:
    """Half the size of `[..., H, W]`, sides rounded up; as `imresize(luma, 0.5)` of MATLAB."""
    for axis in (-2, -1):
        size = luma.shape[axis]
        pad = [(0, 0)] * luma.ndim
        pad[axis] = (3, 4 + size % 2)
        padded = jnp.pad(luma, pad, mode="symmetric")
        count = (size + 1) // 2
        taps = (
            float(weight) * jax.lax.slice_in_dim(padded, k, k + 2 * count - 1, 2, axis)
            for k, weight in enumerate(_HALF)
        )
        luma = functools.reduce(operator.add, taps)
    return luma


def _normalised(luma: jax.Array, border: str) -> tuple[jax.Array, jax.Array]:
    """Mean-subtracted contrast-normalised coefficients and local deviations of `[..., H, W]`."""
    padded = jnp.pad(luma, [(0, 0)] * (luma.ndim - 2) + [(3, 3), (3, 3)], mode=border)
    # About a whole level near the mean: squares of levels stay exact, and little cancels.
    centre = jax.lax.stop_gradient(jnp.round(jnp.mean(luma, axis=(-2, -1), keepdims=True)))
    padded = padded - centre
    mean, square = filters.valid(jnp.stack([padded, padded**2])[..., None], _WINDOW)[..., 0]
    deviation = sqrt(square - mean * mean)
    difference = luma - centre - mean
    # One level in one corner of the window gives 1.6e-4. Less is rounding, which would have a sign.
    difference = jnp.where(jnp.abs(difference) > 8e-5, difference, 0)
    return difference / (deviation + 1), deviation


def _split(plane: jax.Array, side: int) -> jax.Array:
    """`[..., H, W]` -> patches `[..., n, side, side]` by rows."""
    *batch, height, width = plane.shape
    plane = plane.reshape(*batch, height // side, side, width // side, side)
    return jnp.swapaxes(plane, -3, -2).reshape(*batch, -1, side, side)


def _symmetric(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Shape and variance of a generalised Gaussian that `[..., h, w]` is drawn from."""
    variance = jnp.mean(x * x, axis=(-2, -1))
    absolute = jnp.mean(jnp.abs(x), axis=(-2, -1))
    return _shape(absolute**2 / jnp.where(variance > 0, variance, 1))[0], variance


def _asymmetric(x: jax.Array, width: bool):
    """Asymmetric generalised Gaussian of `[..., h, w]`, by its moments.

    Args:
      x: `[..., h, w]`.
      width: return the widths of the two sides instead of their deviations.

    Returns:
      (shape, mean, left, right), each `[...]`, and whether there are samples on both sides; where
      not, the numbers are finite and mean nothing.
    """
    squares = x * x

    def side(chosen):
        count = jnp.sum(chosen, axis=(-2, -1))
        return jnp.sum(jnp.where(chosen, squares, 0), axis=(-2, -1)) / jnp.maximum(count, 1)

    left, right = side(x < 0), side(x > 0)
    valid = (left > 0) & (right > 0)
    left, right = (jnp.sqrt(jnp.where(valid, square, 1)) for square in (left, right))
    square = jnp.where(valid, jnp.mean(squares, axis=(-2, -1)), 1)
    skew = left / right
    ratio = jnp.mean(jnp.abs(x), axis=(-2, -1)) ** 2 / square
    shape, ratio = _shape(ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2)
    mean = (right - left) * jnp.sqrt(ratio)
    if width:
        log_gamma = jax.scipy.special.gammaln
        factor = jnp.exp((log_gamma(1 / shape) - log_gamma(3 / shape)) / 2)
        left, right = left * factor, right * factor
    return (shape, mean, left, right), valid


def _shape(ratio: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Shape of the generalised Gaussian of this ratio of moments, and the ratio in the table."""
    ratio = jnp.clip(ratio, _RATIOS[0], _RATIOS[-1])
    table = (jnp.asarray(values, ratio.dtype) for values in (_RATIOS, _SHAPES))
    return jnp.interp(ratio, *table), ratio


def _neighbours(field: jax.Array, width: bool) -> tuple[jax.Array, jax.Array]:
    """Features `[..., 16]` of the products of `[..., h, w]` with its neighbours; whether valid."""
    moved = [jnp.roll(field, shift, axis=(-2, -1)) for shift in _SHIFTS]
    products = jnp.stack([field * other for other in moved], axis=-3)
    (shape, mean, left, right), valid = _asymmetric(products, width)
    sides = (left, right) if width else (left**2, right**2)
    features = jnp.stack([shape, mean, *sides], axis=-1)
    return features.reshape(*features.shape[:-2], 16), jnp.all(valid, axis=-1)
