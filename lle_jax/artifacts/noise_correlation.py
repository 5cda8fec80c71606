"""Autocorrelation, spectrum and strength of noise that need not be white, from one image.

Demosaicing, denoising, resampling and compression spread noise over neighbouring pixels, and more
so in colour than in brightness. The measures here answer for such noise, `noise_sigma` for white.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from lle_jax import checks, colour

BLOCK = 16
MAX_LAG = 7  # pixels; noise further apart is taken to be independent
MIN_SIDE = 64
_SHARE = 0.08  # of the usable blocks, those of least variance
_MIN_BLOCKS = 16  # usable ones
_MAX_OVERLAPPING = 512**2  # pixels; a larger image has enough blocks side by side
_CLEARANCE = 2  # standard deviations from 0 and 1
_STEPS = 25
_REFITS = 4
_BINS = np.arange(2, 9) / BLOCK  # cycles per pixel
# Luma, and two orthonormal colour differences, of which independent noise has the same sigma.
_PLANES = np.array(
    [colour.BT601, np.array([1, -1, 0]) / np.sqrt(2), np.array([1, 1, -2]) / np.sqrt(6)]
)


class PlaneNoise(NamedTuple):
    """Noise of luma or chroma; `[...]` each.

    Attributes:
      sigma: standard deviation before rounding to 8 bits, 0 to 1; of chroma, root mean square over
        two orthonormal colour differences.
      length_x: along rows, the lag in pixels at which the autocorrelation falls to 1/e, linear
        between whole lags: 1 - 1/e for white noise, at most `MAX_LAG`.
      length_y: the same along columns.
      slope: of the logarithm of the power over that of the frequency, 1/8 to 1/2 cycles per pixel:
        0 for white noise, negative where noise is coarse.
    """

    sigma: jax.Array
    length_x: jax.Array
    length_y: jax.Array
    slope: jax.Array


class NoiseCorrelation(NamedTuple):
    """Noise of an image: `luma`, Y of BT.601, apart from `chroma`."""

    luma: PlaneNoise
    chroma: PlaneNoise


def noise_correlation(image: jax.Array) -> NoiseCorrelation:
    """Estimates autocorrelation lengths, spectral slope and sigma of the noise in one image.

    From each block of 16 x 16 pixels a quadratic surface is subtracted. The autocovariance is the
    mean over the 8 % of the blocks with the least variance, corrected twice:

    - Subtracting the surface takes noise of low frequency, too. Its effect on the autocovariance
      at lags up to 7 pixels is a known linear map, which is inverted; further covariance is
      taken for 0.
    - Noise that is correlated varies much from block to block, so that the blocks of least variance
      have less noise of low frequency than others. To condition Gaussian noise on a small sum of
      squares is, for many blocks, to tilt its distribution exponentially: each eigenvalue p of
      the covariance becomes p / (1 + t p). The t follows from the variance that the lowest 8 %
      of a gamma distribution have with as many degrees of freedom as the autocovariance implies.

    Blocks that come within two standard deviations of 0 or 1 are left out, in red and green for
    luma, in all channels for chroma; single pixels of 0 or 1 in all channels, impulses, have no
    weight. The choice of flat blocks, and noise as a function of frequency, is as in Colom, Lebrun,
    Buades and Morel, "A non-parametric approach for the estimation of intensity-frequency dependent
    noise", ICIP 2014, doi:10.1109/ICIP.2014.7025865; the corrections are this package's own.

    Texture of the picture counts as coarse noise where the noise is no stronger.

    Args:
      image: `[..., H, W, C]` in [0, 1], at least 64 x 64.

    Returns:
      `[...]` each. NaN where fewer than 16 blocks are usable; sigma 0 and the others NaN where
      there is no more than rounding to 8 bits explains, and for the chroma of grey images.

    Raises:
      ValueError: if the image is malformed or smaller.
    """
    image = checks.image(image)
    height, width = image.shape[-3:-1]
    if min(height, width) < MIN_SIDE:
        raise ValueError(
            f"image is {height} x {width} pixels; noise_correlation needs at least 64 x 64"
        )
    batch = image.shape[:-3]
    x = image.astype(checks.compute_dtype(image)).reshape(-1, *image.shape[-3:])
    return jax.tree.map(lambda value: value.reshape(batch), jax.vmap(_image_noise)(x))


@jax.jit
def _image_noise(x: jax.Array) -> NoiseCorrelation:
    pixels = _blocks(x)
    extreme = jnp.all(pixels <= 0, axis=0) | jnp.all(pixels >= 1, axis=0)
    weight = (~extreme).astype(x.dtype)  # none for impulses
    count = jnp.sum(weight, axis=-1)
    mean = jnp.sum(weight * pixels, axis=-1) / jnp.maximum(count, 1)
    squares = jnp.sum(weight * (pixels - mean[..., None]) ** 2, axis=-1)
    clearance = _CLEARANCE * jnp.sqrt(squares / jnp.maximum(count, 1))
    clear = (mean > clearance) & (mean + clearance < 1) & (count >= BLOCK**2 / 2)
    if x.shape[-1] == 1:
        luma = PlaneNoise(*_plane_noise(_residual(pixels, weight), weight, clear[0], 1.0, 1.0))
        none = jnp.where(jnp.isnan(luma.sigma), jnp.nan, 0)
        return NoiseCorrelation(luma, PlaneNoise(none, *[jnp.full_like(none, jnp.nan)] * 3))
    projected = jnp.tensordot(jnp.asarray(_PLANES, x.dtype), pixels, 1, precision="highest")
    residual = _residual(projected, weight)
    # by one program for both, which compiles in half the time: a second plane of luma is 0
    both = jnp.stack([residual[:1].repeat(2, axis=0).at[1].set(0), residual[1:]])
    # blue carries 3 % of the noise of luma
    usable = jnp.stack([clear[0] & clear[1], jnp.all(clear, axis=0)])
    planes = jnp.array([1, 2], x.dtype)
    gain = jnp.array([np.sum(_PLANES[0] ** 2), 1], x.dtype)
    values = jax.vmap(_plane_noise, (0, None, 0, 0, 0))(both, weight, usable, planes, gain)
    return NoiseCorrelation(*(PlaneNoise(*(v[i] for v in values)) for i in range(2)))


def _blocks(x: jax.Array) -> jax.Array:
    """The blocks of `[H, W, C]`, half overlapping in small images: `[C, n, 256]`."""
    offsets = (0, BLOCK // 2) if x.shape[0] * x.shape[1] <= _MAX_OVERLAPPING else (0,)
    parts = []
    for top in offsets:
        for left in offsets:
            rows, columns = (x.shape[0] - top) // BLOCK, (x.shape[1] - left) // BLOCK
            part = x[top : top + rows * BLOCK, left : left + columns * BLOCK]
            part = part.reshape(rows, BLOCK, columns, BLOCK, -1).transpose(4, 0, 2, 1, 3)
            parts.append(part.reshape(-1, rows * columns, BLOCK**2))
    return jnp.concatenate(parts, axis=1)


def _residual(values: jax.Array, weight: jax.Array) -> jax.Array:
    """What blocks `[C, n, 256]` differ by from quadratic surfaces; 0 where the weight is 0."""
    basis = jnp.asarray(_surfaces(), values.dtype)
    count = jnp.maximum(jnp.sum(weight, axis=-1), 1)
    mean = jnp.sum(weight * values, axis=-1) / count

    def refit(_, surface):
        filled = jnp.where(weight > 0, values, surface)
        return jnp.dot(jnp.dot(filled, basis, precision="highest"), basis.T, precision="highest")

    start = jnp.broadcast_to(mean[..., None], values.shape)
    # a missing pixel is taken from the surface, which converges where most pixels are there
    return weight * (values - jax.lax.fori_loop(0, _REFITS, refit, start))


def _plane_noise(
    residual: jax.Array,
    weight: jax.Array,
    usable: jax.Array,
    planes: jax.Array | float,
    gain: jax.Array | float,
) -> PlaneNoise:
    """Measures the noise of planes that are pooled.

    Args:
      residual: of the blocks, `[C, n, 256]`.
      weight: of the pixels, `[n, 256]`.
      usable: which blocks count, `[n]`.
      planes: how many there are; others are 0.
      gain: what variance a plane has of independent samples of variance 1.
    """
    pixels = jnp.maximum(jnp.sum(weight, axis=-1), 1)
    variance = jnp.sum(residual**2, axis=(0, 2)) / (planes * pixels)
    rounding = gain / (12 * 255**2)
    # a constant block is drawn, or was clipped
    varying = usable & (variance > 1e-3 * rounding)
    chosen = jnp.ceil(_SHARE * jnp.sum(varying))
    most = math.ceil(_SHARE * len(variance))
    _, order = jax.lax.top_k(jnp.where(varying, -variance, -jnp.inf), most)
    of_rank = (jnp.arange(most) < chosen).astype(residual.dtype)
    measured = _lagged_products(residual[:, order], weight[None, order], of_rank) / planes
    covariance = jnp.dot(jnp.asarray(_unbiased(), measured.dtype), measured, precision="highest")
    power = _untilted(_power(covariance), planes)
    covariance = jnp.fft.ifft2(power).real
    noise = covariance[0, 0] - rounding
    correlated = noise > rounding / 2
    correlation = covariance / jnp.maximum(noise, 1e-12)
    correlation = correlation.at[0, 0].set(1)

    enough = jnp.sum(usable) >= _MIN_BLOCKS
    lengths = [_length(correlation[0, : MAX_LAG + 1]), _length(correlation[: MAX_LAG + 1, 0])]
    others = [*lengths, _slope(covariance, rounding)]
    return PlaneNoise(
        jnp.where(enough, jnp.sqrt(jnp.maximum(noise, 0)), jnp.nan),
        *(jnp.where(enough & correlated, value, jnp.nan) for value in others),
    )


def _lagged_products(residual: jax.Array, weight: jax.Array, of_block: jax.Array) -> jax.Array:
    """The mean product of pixels at each of `_lags`, summed over planes."""

    def products(values):
        padded = (2 * BLOCK, 2 * BLOCK)
        spectrum = jnp.fft.rfft2(values.reshape(*values.shape[:2], BLOCK, BLOCK), padded)
        power = jnp.einsum("n,cnyx->yx", of_block, spectrum.real**2 + spectrum.imag**2)
        down, across = _lags().T
        return jnp.fft.irfft2(power, padded)[down, across]

    return products(residual) / jnp.maximum(products(weight), 0.5)


def _power(covariance: jax.Array) -> jax.Array:
    """The power spectrum `[16, 16]` of covariances at `_lags`, none below 0."""
    down, across = _lags().T
    grid = jnp.zeros((BLOCK, BLOCK), covariance.dtype)
    grid = grid.at[down, across].set(covariance).at[-down, -across].set(covariance)
    return jnp.maximum(jnp.fft.fft2(grid).real, 0)


def _untilted(power: jax.Array, planes: jax.Array | float) -> jax.Array:
    """The power spectrum of all noise, given that of the blocks with the least variance.

    Args:
      power: of the chosen blocks.
      planes: how many independent planes were pooled.
    """
    peak = jnp.maximum(jnp.max(power), 1e-20)
    x = power / peak
    degrees = planes * jnp.sum(x) ** 2 / jnp.maximum(jnp.sum(x**2), 1e-20)
    table = [jnp.asarray(values, power.dtype) for values in _variance_of_chosen()]
    total = jnp.sum(x) / jnp.interp(jnp.log(degrees), *table)

    def halve(_, bounds):
        t = (bounds[0] + bounds[1]) / 2
        weak = jnp.sum(x / (1 - t * x)) < total
        return jnp.where(weak, t, bounds[0]), jnp.where(weak, bounds[1], t)

    start = (jnp.zeros_like(peak), jnp.full_like(peak, 0.999))
    low, high = jax.lax.fori_loop(0, _STEPS, halve, start)
    t = (low + high) / 2
    return peak * x / (1 - t * x)


def _length(correlation: jax.Array) -> jax.Array:
    """The lag at which a correlation at lags 0, 1, ... first falls to 1/e."""
    above, below = correlation[:-1], correlation[1:]
    lags = jnp.arange(MAX_LAG, dtype=correlation.dtype)
    crossing = lags + (above - 1 / np.e) / jnp.maximum(above - below, 1e-6)
    first = jnp.argmax(below <= 1 / np.e)
    return jnp.where(jnp.any(below <= 1 / np.e), crossing[first], MAX_LAG)


def _slope(covariance: jax.Array, rounding: jax.Array | float) -> jax.Array:
    """Slope of log power over log frequency, by the estimator of Blackman and Tukey."""
    lag = np.abs(np.fft.fftfreq(BLOCK, 1 / BLOCK))
    window = np.cos(np.pi * lag / BLOCK) ** 2
    power = jnp.fft.fft2(covariance * jnp.asarray(np.outer(window, window), covariance.dtype)).real
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(BLOCK), np.fft.fftfreq(BLOCK)))
    rings = (np.abs(frequency - _BINS[:, None, None]) < 0.5 / BLOCK).reshape(len(_BINS), -1)
    means = jnp.dot(jnp.asarray(rings / rings.sum(1, keepdims=True), power.dtype), power.ravel())
    # below the power of rounding is nothing that 8 bits could tell
    level = jnp.log(jnp.maximum(means, rounding))
    regressor = np.log(_BINS) - np.log(_BINS).mean()
    return jnp.dot(jnp.asarray(regressor / (regressor @ regressor), power.dtype), level)


@functools.cache
def _surfaces() -> np.ndarray:
    """An orthonormal basis of the quadratic surfaces over a block: `[256, 6]`."""
    y, x = np.indices((BLOCK, BLOCK)).reshape(2, -1) - (BLOCK - 1) / 2
    return np.linalg.qr(np.stack([np.ones(BLOCK**2), y, x, y * y, x * y, x * x], axis=1))[0]


@functools.cache
def _lags() -> np.ndarray:
    """Rows down and columns across of one of each two opposite lags: `[n, 2]`."""
    lags = range(-MAX_LAG, MAX_LAG + 1)
    return np.array([(y, x) for y in lags for x in lags if (y, x) >= (0, 0)])


@functools.cache
def _unbiased() -> np.ndarray:
    """From the mean product at each lag, after a surface was subtracted, to the autocovariance."""
    basis, lags = _surfaces(), _lags()
    position = np.indices((BLOCK, BLOCK)).reshape(2, -1)
    difference = position[:, None] - position[:, :, None]
    # the lag between two pixels, opposite ones alike, as an index; the last for longer ones
    index = np.full((BLOCK**2, BLOCK**2), len(lags))
    for number, (down, across) in enumerate(lags):
        for sign in (1, -1):
            index[(difference[0] == sign * down) & (difference[1] == sign * across)] = number
    pairs = np.bincount(index.ravel())[:-1]
    columns = []
    for number in range(len(lags)):
        noise = (index == number).astype(np.float64)
        fitted = noise @ basis
        left = noise - basis @ fitted.T - fitted @ basis.T + basis @ (basis.T @ fitted) @ basis.T
        columns.append(np.bincount(index.ravel(), left.ravel())[:-1] / pairs)
    return np.linalg.inv(np.stack(columns, axis=1))


@functools.cache
def _variance_of_chosen() -> tuple[np.ndarray, np.ndarray]:
    """Log degrees of freedom, and the mean of the least `_SHARE` of chi-square over that of all."""
    degrees = np.geomspace(1, 1024, 81)
    quantile = scipy.special.gammaincinv(degrees / 2, _SHARE)
    return np.log(degrees), scipy.special.gammainc(degrees / 2 + 1, quantile) / _SHARE
