"""Small dark and bright spots that an image has and its reference lacks, and the reverse.

In a fundus photograph a small dark spot is read as a microaneurysm, a bright one as an exudate; in
skin and bowel they are read as well. A network that takes grains of noise for structure adds them,
and PSNR hardly falls.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lle_jax import checks, colour
from lle_jax.metrics import filters
from lle_jax.metrics.conventions import pair, unless_nan
from lle_jax.metrics.field import field_of_view

SIGMAS = (1.2, 1.7, 2.4, 3.4)  # pixels; a disc of radius r answers most at r / sqrt(2)
SURROUNDINGS = 3.0  # in sigmas
CONTRAST = 0.06  # of the surroundings
COUNTERPART = 0.5  # of a spot's contrast is counterpart enough
ROUND = 0.5  # least ratio of the curvatures across and along: lines are no spots
TOLERANCE = 2  # pixels
OFFSET = 0.03  # luma that surroundings get more, so that contrast to black is finite
WHITE = 0.96  # luma of specular highlights


class SpotChange(NamedTuple):
    """What `spot_change` finds; counts per megapixel of the field of view.

    Attributes:
      dark_added, dark_lost, bright_added, bright_lost: `[...]`.
      added_map, lost_map: bool `[..., H, W]`, the spots' centres, dark and bright.
    """

    dark_added: jax.Array
    dark_lost: jax.Array
    bright_added: jax.Array
    bright_lost: jax.Array
    added_map: jax.Array
    lost_map: jax.Array


def spot_change(
    image: jax.Array, reference: jax.Array, *, contrast: float = CONTRAST
) -> SpotChange:
    """Counts small round spots of an image without counterpart in the reference, and vice versa.

    A spot is a maximum, over 3 x 3 pixels and four scales (radii of about 2 to 5 pixels), of the
    contrast of luma to its surroundings: the difference of two Gaussians, sigma and 3 sigma,
    divided by the wider one, so that brightness leaves it. It has a contrast of at least 0.06
    unless `contrast` is given, and curvatures whose ratio is at least 0.5, which lines and edges
    have not (Lowe, IJCV 60(2), 2004, doi:10.1023/B:VISI.0000029664.99615.94, sections 3 and 4.1).
    It has a counterpart where within 2 pixels the other image has half its contrast at any scale.
    Only the reference's field of view counts (`field.field_of_view`); bright spots in surroundings
    or of a level above 0.96 are specular highlights and not counted. The thresholds are this
    package's own choice.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3.
      reference: the truth, same shape.
      contrast: least contrast of a spot, in [0, 1].

    Returns:
      counts per megapixel and maps; see `SpotChange`. Piecewise constant: not a loss.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, shapes that differ, or a contrast out of
        range.
    """
    checks.number("contrast", contrast, 0, 1)
    image, reference = pair(image, reference, "luma")
    ours, theirs = _contrasts(image), _contrasts(reference)
    field = field_of_view(reference)
    area = jnp.maximum(jnp.sum(field, axis=(-2, -1)), 1) / 1e6
    counts, maps = [], []
    for one, other in ((ours, theirs), (theirs, ours)):
        spots = []
        for sign in (-1.0, 1.0):
            found = _spots(one, sign, contrast) & field
            if sign > 0:
                found &= ~one.highlight & ~other.highlight
            value = jnp.max(sign * one.contrast, axis=-1)
            near = jnp.max(filters.greatest(sign * other.contrast, TOLERANCE), axis=-1)
            spots.append(found & (near < COUNTERPART * value))
        densities = [jnp.sum(each, axis=(-2, -1)) / area for each in spots]
        counts.append([unless_nan(each, image, reference) for each in densities])
        maps.append(spots[0] | spots[1])
    (dark_added, bright_added), (dark_lost, bright_lost) = counts
    return SpotChange(dark_added, dark_lost, bright_added, bright_lost, *maps)


def spots_unlike_input(output: jax.Array, low: jax.Array) -> SpotChange:
    """Compares an enhanced image with its own low-light input, where no truth is known.

    The input is brought to the output's mean luma first: as dim as it is, hardly any of it would
    count as field of view. It is not clipped as by `gt_mean`, since what turns white would lose its
    structure, which the output would then seem to have added. Grains of noise in the input count as
    structure of its own.

    Args:
      output: `[..., H, W, C]` in [0, 1], C 1 or 3.
      low: the input, same shape.

    Returns:
      as `spot_change`; lost are the input's spots, its noise among them.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, or shapes that differ.
    """
    output, low = pair(output, low)
    gain = colour.mean_luma(output) / jnp.maximum(colour.mean_luma(low), 1e-6)
    return spot_change(output, gain * low)


class _Contrasts(NamedTuple):
    """Contrast and roundness `[..., H, W, scale]`; highlight `[..., H, W]`."""

    contrast: jax.Array
    is_round: jax.Array
    highlight: jax.Array


def _contrasts(luma: jax.Array) -> _Contrasts:
    contrast, is_round = [], []
    for sigma in SIGMAS:
        centre, around = (
            filters.gaussian_derivative(luma, scale) for scale in (sigma, SURROUNDINGS * sigma)
        )
        contrast.append((centre - around) / (around + OFFSET))
        down, across, mixed = (
            filters.gaussian_derivative(luma, sigma, order) for order in ((2, 0), (0, 2), (1, 1))
        )
        # of eigenvalues a, b with ratio r: (a + b)^2 / (a b) = (r + 1)^2 / r
        determinant, trace = down * across - mixed**2, down + across
        limit = (ROUND + 1) ** 2 / ROUND
        is_round.append((determinant > 0) & (trace**2 <= limit * determinant))
    return _Contrasts(
        jnp.concatenate(contrast, axis=-1),
        jnp.concatenate(is_round, axis=-1),
        (filters.greatest(luma, TOLERANCE) > WHITE)[..., 0],
    )


def _spots(one: _Contrasts, sign: float, least: float) -> jax.Array:
    """Where a spot of a polarity has its centre, `[..., H, W]`."""
    signed = sign * one.contrast
    best = jnp.max(signed, axis=-1, keepdims=True)
    peak = (signed == best) & (signed == filters.greatest(signed, 1)) & (signed >= least)
    return jnp.any(peak & one.is_round, axis=-1)
