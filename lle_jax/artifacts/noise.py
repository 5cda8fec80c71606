"""Standard deviation of the noise, aware of the clipping at zero that dark images suffer."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from lle_jax import checks

BLOCK = 8
_COUNT = 28  # DCT coefficients with u + v >= 8, where pictures have the least
_CUT = 1.1  # blocks above this many times the variance hold structure
_FALL = 3  # of a picture's power, as frequency to the minus this
_BLOCKS = 16384  # at most, and more only where they do not overlap
_STEPS = 15

# Mean variance of those below the cut, of noise alone: chi-square with _COUNT degrees of freedom.
_KEPT = float(
    scipy.special.chdtr(_COUNT + 2, _CUT * _COUNT) / scipy.special.chdtr(_COUNT, _CUT * _COUNT)
)


def _basis() -> np.ndarray:
    """The high-frequency functions of the orthonormal 8 x 8 DCT: `[8, 8, _COUNT]`."""
    rows = scipy.fft.dct(np.eye(BLOCK), axis=0, norm="ortho")
    return np.einsum("ky,kx->yxk", *(rows[index] for index in _frequencies()))


def _frequencies() -> tuple[np.ndarray, np.ndarray]:
    """Those down and those across, u and v."""
    down, across = np.nonzero(np.add.outer(np.arange(BLOCK), np.arange(BLOCK)) >= BLOCK)
    return down, across


def _falling() -> np.ndarray:
    """The power of a picture without noise at each frequency, less its mean: `[_COUNT]`."""
    power = np.hypot(*_frequencies()) ** -float(_FALL)
    return power / power.mean() - 1


def _shrinkage() -> np.ndarray:
    """Variance of max(0, X), X normal with deviation 1, at equally spaced means of max(0, X)."""
    mean = np.linspace(-3, 8, 4001)
    above = scipy.special.ndtr(mean)
    density = np.exp(-(mean**2) / 2) / np.sqrt(2 * np.pi)
    clipped_mean = mean * above + density
    variance = (mean**2 + 1) * above + mean * density - clipped_mean**2
    return np.interp(np.arange(0.1, 4, _GRID), clipped_mean, variance)


_GRID = 0.01
_BASIS = _basis()
_SHRINKAGE = _shrinkage()
_FALLING = _falling()


def noise_sigma(image: jax.Array) -> jax.Array:
    """Estimates the sigma of noise before clipping at 0 and rounding to 8 bits.

    Per block of 8 x 8 samples of a channel, the variance is that of the 28 DCT coefficients with
    u + v >= 8. In the dark part of the noise is cut off at 0: the mean of a block over the noise's
    deviation tells how much (the moments of the rectified normal distribution), and the variance
    is raised accordingly. Blocks with structure are left out: from the median on, the variance is
    the mean over the blocks below 1.1 times itself, divided by what that mean would be for noise
    alone, repeated. What structure remains in them falls with the frequency f, as 1 / f^3, while
    noise is white: the two are told apart by least squares over the 28 frequencies, neither below
    0. The idea of choosing blocks is Liu, Tanaka and Okutomi's, "Single-image noise level
    estimation for blind denoising", IEEE TIP 22(12), 2013, doi:10.1109/TIP.2013.2283400; the rest
    is this package's own.

    It answers for noise that is white and of one strength. Grain of the picture counts as noise;
    noise that was blurred, compressed or enlarged is under-estimated: see `noise_correlation`.

    Args:
      image: `[..., H, W, C]` in [0, 1], at least 8 x 8; channels are pooled.

    Returns:
      `[...]` in units of the image; NaN where every block is black or touches saturation.

    Raises:
      ValueError: if the image is malformed or smaller.
    """
    image = checks.image(image)
    height, width = image.shape[-3:-1]
    if min(height, width) < BLOCK:
        raise ValueError(f"image is {height} x {width} pixels; noise_sigma needs at least 8 x 8")
    batch = image.shape[:-3]
    x = image.astype(checks.compute_dtype(image)).reshape(-1, *image.shape[-3:])
    return jax.vmap(_sigma)(x).reshape(batch)


@jax.jit
def _sigma(x: jax.Array) -> jax.Array:
    blocks, power = block_powers(x)
    brightest = jnp.max(blocks, axis=1)
    usable = (brightest > 0) & (brightest < 254 / 255)
    variance, _ = white_variance(jnp.mean(blocks, axis=1), power, usable)
    rounding = 1 / (12 * 255**2)
    return jnp.where(jnp.any(usable), jnp.sqrt(jnp.maximum(variance - rounding, 0)), jnp.nan)


def block_powers(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Computes the blocks of an image `[H, W, C]` and the squares of their high frequencies.

    Returns:
      `[n, 64]` and `[n, 28]`.
    """
    # Of small images overlapping blocks, so that enough of them are without structure.
    stride = next(s for s in (2, 4, BLOCK) if s == BLOCK or x.size <= _BLOCKS * s**2)
    starts = [(y, x) for y in range(0, BLOCK, stride) for x in range(0, BLOCK, stride)]
    blocks = jnp.concatenate([_blocks(x[top:, left:]) for top, left in starts])
    basis = jnp.asarray(_BASIS.reshape(BLOCK**2, _COUNT), x.dtype)
    return blocks, jnp.dot(blocks, basis, precision="highest") ** 2


def _blocks(x: jax.Array) -> jax.Array:
    rows, columns, channels = (*(side // BLOCK for side in x.shape[:2]), x.shape[2])
    x = x[: rows * BLOCK, : columns * BLOCK]
    x = x.reshape(rows, BLOCK, columns, BLOCK, channels).transpose(0, 2, 4, 1, 3)
    return x.reshape(rows * columns * channels, BLOCK**2)


def white_variance(
    mean: jax.Array, power: jax.Array, usable: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Estimates the variance of white noise before clipping at 0, and counts its blocks.

    Args:
      mean: of the blocks, `[n]`.
      power: squares of their high frequencies, `[n, 28]`.
      usable: which blocks count, `[n]`.
    """
    variance = jnp.mean(power, axis=1)

    def refine(_, level):
        unclipped = variance / _shrunk(mean, level)
        chosen = usable & (unclipped <= _CUT * level)
        count = jnp.sum(chosen)
        estimate = jnp.sum(jnp.where(chosen, unclipped, 0)) / jnp.maximum(count, 1) / _KEPT
        return jnp.where(count >= jnp.maximum(10, 0.02 * jnp.sum(usable)), estimate, level)

    start = jnp.nanmedian(jnp.where(usable, variance, jnp.nan))
    level = jax.lax.fori_loop(0, _STEPS, refine, jnp.maximum(start, 1e-12))
    shrunk = _shrunk(mean, level)
    chosen = usable & (variance / shrunk <= _CUT * level)
    count = jnp.maximum(jnp.sum(chosen), 1)
    by_frequency = jnp.where(chosen, 1 / shrunk, 0) @ power / count / _KEPT
    # of white noise, by_frequency = variance; of a picture, = variance * (1 + falling)
    falling = jnp.asarray(_FALLING, power.dtype)
    picture = jnp.maximum(by_frequency @ falling / (falling @ falling), 0)
    return jnp.maximum(jnp.mean(by_frequency) - picture, 0), count


def _shrunk(mean: jax.Array, variance: jax.Array) -> jax.Array:
    """What clipping at 0 leaves of a variance in blocks of these means, a share up to 1."""
    table = jnp.asarray(_SHRINKAGE, mean.dtype)
    place = jnp.clip((mean / jnp.sqrt(variance) - 0.1) / _GRID, 0, len(_SHRINKAGE) - 1.001)
    whole = jnp.floor(place).astype(jnp.int32)
    return table[whole] + (place - whole) * (table[whole + 1] - table[whole])
