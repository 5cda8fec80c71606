"""Estimates the JPEG quality of decoded pixels and the visibility of 8 x 8 blocks."""

import functools
import operator
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from PIL import Image, UnidentifiedImageError

from lle_jax import checks, colour
from lle_jax.degrade.jpeg import _DCT, _QUANTISERS

_BLOCK = 8
_BLOCKS = 256  # of the most variance, which tell the most
_WRONG = 0.03  # of the pixels that decode to another level, for luma computed back from RGB
_FURTHER = 0.05  # by how much rarer each level more is
_ROUNDING = 0.4  # scale of what rounding to levels adds to coefficients
_HALF = 0.505  # beyond it a decoded sample is another level
_GLANCE = 96  # blocks by which all qualities are compared
_CANDIDATES = 8  # qualities that are looked at exactly
_OUTLIERS = 0.1  # of the blocks that nothing is known of
_FLAT = 8  # uniform blocks of one level count at most this often, as they are no separate evidence
_EVIDENCE = 8.0  # logarithm of the odds above which an image is called compressed

_BASIS = scipy.fft.dct(np.eye(_BLOCK), axis=0, norm="ortho")
_BASIS = np.kron(_BASIS, _BASIS).astype(np.float32)
_STEPS = _QUANTISERS[:, 0, 0].reshape(100, _BLOCK**2)


class JpegTraces(NamedTuple):
    """Holds `quality`, 1 to 100, and `log_odds` of compressed against never compressed."""

    quality: jax.Array
    log_odds: jax.Array


def jpeg_quality(image: jax.Array) -> jax.Array:
    """Estimates the quality of the JPEG compression that the pixels went through, 1 to 100.

    Of several on the same grid, the coarsest.

    100 where there is no trace of one (`jpeg_traces` has the evidence): quality 100 itself cannot
    be told from no compression. Takes and raises what `jpeg_traces` does.
    """
    return jpeg_traces(image).quality


def jpeg_traces(image: jax.Array) -> JpegTraces:
    """Estimates the most likely JPEG quality and the log odds that there was a compression.

    A block that was decoded from JPEG is reproduced when its DCT coefficients are rounded to
    multiples of the right steps again. For each quality of libjpeg (tables of T.81 Annex K), a
    block's likelihood is that of its multiples, whose coefficients before compression follow a
    Laplace distribution, times that of the pixels which are not reproduced; it is divided by the
    likelihood of a block that was never compressed. The scale of the distribution is that of the
    frequency in the image times that of the block. A tenth of the blocks may be arbitrary. The
    likelihood of multiples is that of Neelamani, de Queiroz, Fan, Dash and Baraniuk, "JPEG
    compression history estimation for color images", IEEE TIP 15(6), 2006,
    doi:10.1109/TIP.2005.864171; comparing pixels, and blocks of one level, is this package's own.

    The grid of blocks must be that of the image: a crop off it, a change of size or tone, or noise
    after compression erases the traces. Tables of another kind give the nearest in effect.

    Args:
      image: `[..., H, W, C]` in [0, 1], at least 8 x 8, of 8-bit levels; luma is used.

    Returns:
      quality and natural logarithm of the odds, `[...]` each. The quality is 100 where the
      odds' logarithm is below 8.

    Raises:
      ValueError: if the image is malformed or smaller.
    """
    image = _at_least_a_block(image, "jpeg_traces")
    x = image.astype(checks.compute_dtype(image)).reshape(-1, *image.shape[-3:])
    scores = jax.lax.map(_scores, x).astype(x.dtype).reshape(*image.shape[:-3], 100)
    odds = jnp.max(scores, axis=-1)
    best = jnp.argmax(scores, axis=-1) + 1
    return JpegTraces(jnp.where(odds > _EVIDENCE, best, 100).astype(odds.dtype), odds)


def blockiness(image: jax.Array) -> jax.Array:
    """Computes the excess of luma steps across 8 x 8 block borders over those on either side.

    The mean over all borders of |step across| - (|step before| + |step after|) / 2.

    Args:
      image: `[..., H, W, C]` in [0, 1], at least 16 x 16.

    Returns:
      `[...]` in units of the image, about 0 without blocks.

    Raises:
      ValueError: if the image is malformed or smaller.
    """
    image = checks.image(image)
    if min(image.shape[-3:-1]) < 2 * _BLOCK:
        raise ValueError(
            f"image is {image.shape[-3]} x {image.shape[-2]} pixels; blockiness needs at least "
            "16 x 16"
        )
    luma = colour.luma(image.astype(checks.compute_dtype(image)))[..., 0]
    excesses = []
    for values in (luma, jnp.swapaxes(luma, -1, -2)):
        # the two pixels on either side of every border
        count = (values.shape[-1] - 2) // _BLOCK
        a, b, c, d = (
            values[..., first : first + count * _BLOCK : _BLOCK][..., :count]
            for first in range(_BLOCK - 2, _BLOCK + 2)
        )
        before, across, after = jnp.abs(b - a), jnp.abs(c - b), jnp.abs(d - c)
        excesses.append(jnp.mean(across - (before + after) / 2, axis=(-2, -1)))
    return (excesses[0] + excesses[1]) / 2


def quality_of_table(table: np.ndarray) -> int:
    """Finds the libjpeg quality whose luma table is nearest to that of a JPEG file's header.

    Args:
      table: 64 steps in rows (not in zigzag order), as Pillow's `Image.quantization[0]`.

    Raises:
      ValueError: unless there are 64.
    """
    steps = np.asarray(table, np.float64).reshape(-1)
    if steps.shape != (_BLOCK**2,):
        raise ValueError(f"table has {steps.size} steps; expected 64")
    return int(np.argmin(np.abs(_STEPS - steps).sum(axis=1))) + 1


def file_quality(path: str | os.PathLike) -> int | None:
    """Reads the quality from a JPEG header, which is preferred to `jpeg_quality`; else None.

    Raises:
      OSError: if the file cannot be opened.
    """
    try:
        with Image.open(path) as file:
            tables = getattr(file, "quantization", None)
            return quality_of_table(tables[0]) if tables else None
    except UnidentifiedImageError:
        return None


def _at_least_a_block(image, name: str) -> jax.Array:
    image = checks.image(image)
    height, width = image.shape[-3:-1]
    if min(height, width) < _BLOCK:
        raise ValueError(f"image is {height} x {width} pixels; {name} needs at least 8 x 8")
    return image


def _blocks(plane: jax.Array) -> jax.Array:
    rows, columns = (side // _BLOCK for side in plane.shape)
    plane = plane[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
    return plane.swapaxes(1, 2).reshape(-1, _BLOCK**2)


@jax.jit
def _scores(x: jax.Array) -> jax.Array:
    """Logarithm of each quality's odds against no compression, `[H, W, C]` -> `[100]`."""
    levels = jnp.round(jnp.clip(x, 0, 1) * 255).astype(jnp.float32)
    blocks = _blocks(jnp.round(colour.luma(levels)[..., 0]) - 128)
    low, high = jnp.min(blocks, axis=1), jnp.max(blocks, axis=1)
    inside = (low > -128) & (high < 127)
    # Where a channel was clipped, luma computed back is wrong: such blocks come last.
    clipped = (jnp.min(_blocks(jnp.min(levels, axis=-1)), axis=1) <= 0) | (
        jnp.max(_blocks(jnp.max(levels, axis=-1)), axis=1) >= 255
    )
    variance = jnp.var(blocks, axis=1)
    order = jnp.where(clipped, 1e-4 * variance - 1, variance)
    order = jnp.where(inside, order, -2)
    _, chosen = jax.lax.top_k(order, min(_BLOCKS, len(blocks)))
    varied = (inside & (high > low))[chosen]
    flat = jnp.zeros(256).at[(low + 128).astype(jnp.int32)].add(inside & (high == low))
    # one level everywhere is a uniform image
    of_flat = jnp.where(jnp.any(varied) | (jnp.sum(flat > 0) > 1), _flat_scores(flat), 0)
    few = chosen[:_GLANCE], varied[:_GLANCE]
    coarse = _varied_scores(blocks[few[0]], few[1], jnp.asarray(_STEPS), _decode) + of_flat
    _, best = jax.lax.top_k(coarse, _CANDIDATES)
    fine = _varied_scores(blocks[chosen], varied, jnp.asarray(_STEPS)[best], _decode_exactly)
    return jnp.full(100, -jnp.inf).at[best].set(fine + of_flat[best])


def _decode(coefficients: jax.Array) -> jax.Array:
    return jnp.dot(coefficients, _BASIS, precision="highest")


def _decode_exactly(coefficients: jax.Array) -> jax.Array:
    """The integer arithmetic of libjpeg, in which sums of halves round the way they do there."""
    x = coefficients.astype(jnp.int32).reshape(*coefficients.shape[:-1], _BLOCK, _BLOCK)
    matrix = jnp.asarray(_DCT)
    columns = (matrix[v, :, None] * x[..., v, None, :] for v in range(_BLOCK))
    x = functools.reduce(operator.add, columns)
    x = (x + (1 << 10)) >> 11
    rows = [x[..., :, u, None] * matrix[u] for u in range(_BLOCK)]
    x = functools.reduce(operator.add, rows)
    return ((x + (1 << 17)) >> 18).astype(jnp.float32).reshape(coefficients.shape)


def _varied_scores(blocks: jax.Array, counts: jax.Array, steps: jax.Array, decode) -> jax.Array:
    """Of blocks around 0, `[N, 64]`, where `counts` `[N]`, for quantisers `[K, 64]`: `[K]`."""
    coefficients = jnp.dot(blocks, _BASIS.T, precision="highest")
    size = jnp.abs(coefficients)
    scale = jnp.sum(size * counts[:, None], axis=0) / jnp.maximum(jnp.sum(counts), 1) + 0.05
    relative = jnp.mean(size[:, 1:] / scale[1:], axis=1, keepdims=True)
    scale = scale * jnp.maximum(relative, 1e-3) + _ROUNDING

    steps = steps[:, None]
    multiples = jnp.round(coefficients / steps)
    decoded = decode(multiples * steps)
    error = jnp.ceil(jnp.abs(jnp.clip(decoded, -128, 127) - blocks) - _HALF)
    wrong = jnp.sum(error > 0, axis=-1)
    further = jnp.sum(jnp.maximum(error - 1, 0), axis=-1)

    half = steps / 2 / scale
    decay = jnp.exp(-half)
    # mass of the multiple: 1 - exp(-h) at 0, sinh(h) exp(-|c|/scale) elsewhere
    mass = jnp.where(
        multiples == 0,
        jnp.log1p(-decay),
        half + jnp.log1p(-(decay**2)) - np.log(2) - jnp.abs(multiples * steps) / scale,
    )
    ratio = (mass + size / scale + jnp.log(2 * scale)).at[..., 0].set(jnp.log(steps[..., 0]))
    log_odds = jnp.sum(ratio, axis=-1) + wrong * np.log(_WRONG / 2) + further * np.log(_FURTHER)
    log_odds += (_BLOCK**2 - wrong) * np.log(1 - _WRONG)
    robust = jnp.logaddexp(np.log(_OUTLIERS), np.log(1 - _OUTLIERS) + log_odds)
    return jnp.sum(robust * counts, axis=-1)


def _flat_scores(counts: jax.Array) -> jax.Array:
    """Of blocks of one level, counted per level: only multiples of the first step explain them."""
    level = jnp.arange(256.0) - 128
    step = jnp.asarray(_STEPS)[:, :1]
    explained = jnp.floor(jnp.round(8 * level / step) * step / 8 + 0.5) == level
    # A uniform block's first coefficient is a multiple of 8 in any case.
    odds = _OUTLIERS + jnp.where(explained, (1 - _OUTLIERS) * jnp.maximum(step / 8, 1), 0)
    return jnp.log(odds) @ jnp.minimum(counts, _FLAT)
