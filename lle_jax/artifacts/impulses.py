"""Estimates the density of salt and pepper without counting legitimate black or white."""

import functools
import operator

import jax
import jax.numpy as jnp

from lle_jax import checks
from lle_jax.xla import force_materialize

_WINDOW = 5
_DEVIATIONS = 3
_MARGIN = 1.5 / 255  # between levels


def impulse_density(image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Estimates the impulse density: the fractions of pixels set to 1 (salt) and to 0 (pepper).

    An impulse is a pixel all of whose channels are exactly 0 (or all 1) and that is not part of
    2 x 2 such pixels, as those of a black area are. It can be told from a black pixel only where
    the surroundings are not black: where, among the other pixels of the 5 x 5 window, the mean less
    three deviations is at least 1.5/255 above 0 in some channel. The density is the share of
    impulses among the pixels where one could be told, which is the share in the whole image if
    impulses fall evenly. Without such a pixel the density is NaN.

    Noise added, or compression applied, after the impulses moves them off 0 and 1 and hides them.

    Args:
      image: `[..., H, W, C]` in [0, 1], C = 1 or 3.

    Returns:
      salt and pepper, `[...]` each, in [0, 1].

    Raises:
      ValueError: if the image is malformed.
    """
    image = checks.image(image)
    x = image.astype(checks.compute_dtype(image))
    white, black = jnp.min(x, axis=-1) >= 1, jnp.max(x, axis=-1) <= 0
    other = ~(white | black)
    weight = other.astype(x.dtype)[..., None]
    # from the middle of the range, for the precision of the variance
    centred = weight * (x - 0.5)
    count, total, squares = (_window_mean(v) for v in (weight, centred, centred**2))
    safe = jnp.maximum(count, 1e-6)
    mean = total / safe
    deviation = jnp.sqrt(jnp.maximum(squares / safe - mean**2, 0))
    # more than two of the five rows: the edge of a black area is no impulse
    covered = count[..., 0] > 10.5 / _WINDOW**2
    reach = 0.5 - _MARGIN - _DEVIATIONS * deviation
    white, black = white & ~_opened(white), black & ~_opened(black)
    return (
        _share(white, covered & jnp.any(-mean + reach >= 0, axis=-1), x.dtype),
        _share(black, covered & jnp.any(mean + reach >= 0, axis=-1), x.dtype),
    )


def _opened(mask: jax.Array) -> jax.Array:
    """The pixels of a mask `[..., H, W]` that belong to 2 x 2 of its pixels."""
    sides = [(0, 0)] * (mask.ndim - 2) + [(1, 1), (1, 1)]
    padded = jnp.pad(mask, sides)
    across = padded[..., 1:] & padded[..., :-1]
    full = across[..., 1:, :] & across[..., :-1, :]
    down = full[..., 1:, :] | full[..., :-1, :]
    return down[..., 1:] | down[..., :-1]


def _share(hit: jax.Array, telling: jax.Array, dtype) -> jax.Array:
    hits, total = (
        jnp.sum(mask, axis=(-2, -1), dtype=jnp.int32).astype(dtype)
        for mask in (hit & telling, telling)
    )
    return jnp.where(total > 0, hits / jnp.maximum(total, 1), jnp.nan)


def _window_mean(values: jax.Array) -> jax.Array:
    """Mean over 5 x 5 pixels, `[..., H, W, C]`, edges extended by half-sample symmetry."""
    reach = _WINDOW // 2
    *batch, height, width, channels = values.shape
    padding = [(0, 0)] * len(batch) + [(reach, reach), (reach, reach), (0, 0)]
    padded = jnp.pad(values, padding, mode="symmetric")
    # pixels and channels in one axis: XLA on CPU does not vectorise loops over three channels
    padded = padded.reshape(*batch, height + 2 * reach, -1)
    shifted = (padded[..., y : y + height, :] for y in range(_WINDOW))
    rows = force_materialize(functools.reduce(operator.add, shifted))
    starts = range(0, _WINDOW * channels, channels)
    shifted = (rows[..., start : start + width * channels] for start in starts)
    means = functools.reduce(operator.add, shifted) / _WINDOW**2
    return force_materialize(means).reshape(values.shape)
