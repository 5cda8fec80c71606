"""Thin lines that an image has and its reference lacks, and the reverse.

A thin dark line is read as a vessel, a hair or a fold, a bright one as a scar or a catheter. A
network that joins grains of noise to a vessel, or smooths one away, hardly changes PSNR.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lle_jax import checks
from lle_jax.metrics import filters
from lle_jax.metrics.conventions import pair, unless_nan
from lle_jax.metrics.field import field_of_view
from lle_jax.metrics.spots import COUNTERPART, OFFSET, WHITE
from lle_jax.xla import force_materialize

SIGMAS = (1.0, 1.6, 2.5)  # pixels; a line of width w answers most at w / 2
SURROUNDINGS = 7.5  # sigma in pixels
CONTRAST = 0.05  # of the surroundings
ORIENTATIONS = 12
PARTS = ((-6, -4), (-2, 0, 2), (4, 6))  # of the supporting segment, in pixels along the line
EXTENT = (-4, -2, 0, 2, 4)  # a segment's support reaches its ends
END = 0.5  # of the support's contrast, which a line has up to its end
SIDE = 2  # pixels across the line, where both sides must slope ...
EVEN = 0.25  # ... the lesser at least so much of the greater: an edge has one side only
TOLERANCE = 2  # pixels
FLANK = 6  # pixels from a stronger line of the other polarity, whose flanks are no lines
# The second derivative, times sigma squared, at the centre of a line of contrast 1 and width
# 2 sigma is 2 phi(1) of the normal density.
GAIN = 2 * float(np.exp(-0.5) / np.sqrt(2 * np.pi))


class LineChange(NamedTuple):
    """What `line_change` finds; pixels of centreline per megapixel of the field of view.

    Attributes:
      dark_added, dark_lost, bright_added, bright_lost: `[...]`.
      added_map, lost_map: bool `[..., H, W]`, the centrelines, dark and bright.
    """

    dark_added: jax.Array
    dark_lost: jax.Array
    bright_added: jax.Array
    bright_lost: jax.Array
    added_map: jax.Array
    lost_map: jax.Array


def line_change(
    image: jax.Array, reference: jax.Array, *, contrast: float = CONTRAST
) -> LineChange:
    """Measures the length of an image's thin lines without counterpart in the reference, and back.

    A line is a ridge or valley of luma about 2 to 6 pixels wide, about 10 long at least and hardly
    curved over that length, of a contrast to its surroundings of at least 0.05 unless `contrast` is
    given. The contrast is the second derivative across, at three scales and in twelve directions,
    less the one along, so that dots have none, divided by luma around, so that brightness leaves
    it; of the three thirds of a segment of 13 pixels the least counts, and the segment's pixels get
    it back (a directional opening: Soille and Talbot, IEEE TPAMI 23(11), 2001,
    doi:10.1109/34.969120). The centreline is where the first derivative across vanishes within half
    a pixel (Steger, IEEE TPAMI 20(2), 1998, doi:10.1109/34.659930), and luma slopes on both sides,
    which it does not at step edges such as those of JPEG's blocks. Within 6 pixels of a stronger
    line of the other polarity there is none: those are its flanks.

    A line has a counterpart where within 2 pixels the other image has half its contrast. Only the
    reference's field of view counts (`field.field_of_view`); bright lines at a level above 0.96 are
    specular highlights and not counted. The thresholds are this package's own choice.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3.
      reference: the truth, same shape.
      contrast: least contrast of a line, in [0, 1].

    Returns:
      lengths per megapixel and maps; see `LineChange`. Piecewise constant: not a loss.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, shapes that differ, or a contrast out of
        range.
    """
    checks.number("contrast", contrast, 0, 1)
    image, reference = pair(image, reference, "luma")
    luma = jnp.stack([image, reference])
    around = filters.gaussian_derivative(luma, SURROUNDINGS)
    strength, centred = _lines(luma, around + OFFSET)
    field = field_of_view(reference)
    shiny = jnp.any(filters.greatest(luma, TOLERANCE) > WHITE, axis=0)[..., 0]
    area = jnp.maximum(jnp.sum(field, axis=(-2, -1)), 1) / 1e6
    # [polarity, image or reference, ..., H, W]
    near = filters.greatest(strength[..., None], TOLERANCE)[..., 0]
    beside = filters.greatest(strength[::-1, ..., None], FLANK)[..., 0] > strength
    found = centred & (strength >= contrast) & ~beside & field
    unmatched = found & (near[:, ::-1] < COUNTERPART * strength)
    dark, bright = unmatched[0], unmatched[1] & ~shiny
    (dark_added, dark_lost), (bright_added, bright_lost) = (
        unless_nan(jnp.sum(each, axis=(-2, -1)) / area, image, reference) for each in (dark, bright)
    )
    return LineChange(dark_added, dark_lost, bright_added, bright_lost, *(dark | bright))


def _lines(luma: jax.Array, level: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Contrast of lines, and whether a pixel is on a centreline, `[polarity, ..., H, W]`."""
    derivatives = _derivatives(luma, level)
    angles = np.pi * np.arange(ORIENTATIONS) / ORIENTATIONS
    along = np.stack([np.sin(angles), np.cos(angles)], axis=1)  # down, right
    shape = (2, *luma.shape[:-1])
    start = jnp.zeros(shape, luma.dtype), jnp.zeros(shape, bool)

    # A scan, not twelve copies of the program, so that it compiles fast.
    def step(best, direction):
        strength, centred = best
        for scale in range(len(SIGMAS)):
            value, near = _directed([each[scale] for each in derivatives], direction)
            better = value > strength
            strength = jnp.where(better, value, strength)
            centred = jnp.where(better, near, centred)
        return (strength, centred), None

    return jax.lax.scan(step, start, jnp.asarray(along, luma.dtype))[0]


def _derivatives(luma: jax.Array, level: jax.Array) -> list[jax.Array]:
    """Relative derivatives `[scale, ..., H, W]`: d, r, dd, rr, dr, for down and right."""
    derivatives = []
    for order in ((1, 0), (0, 1), (2, 0), (0, 2), (1, 1)):
        scales = [
            sigma**2 / GAIN * filters.gaussian_derivative(luma, sigma, order) / level
            for sigma in SIGMAS
        ]
        derivatives.append(jnp.stack(scales)[..., 0])
    return derivatives


def _directed(derivatives: list[jax.Array], direction: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Contrast of lines in a direction, and whether a pixel is on a centreline, at one scale."""
    d, r, dd, rr, dr = derivatives
    sin, cos = direction
    slope = force_materialize(cos * d - sin * r)
    across = force_materialize(cos**2 * dd + sin**2 * rr - 2 * sin * cos * dr)
    along = jnp.abs(sin**2 * dd + cos**2 * rr + 2 * sin * cos * dr)
    shifts = _shifts(slope, jnp.stack([cos, -sin]), SIDE)
    first, second = shifts(SIDE), -shifts(-SIDE)
    strengths, centred = [], []
    for sign in (1, -1):  # polarities one by one: XLA on CPU is slow at a stack of them
        signed = sign * across
        shifts = _shifts(force_materialize(signed - along), direction, max(PARTS[-1]))
        parts = [jnp.asarray(sum(map(shifts, part))) / len(part) for part in PARTS]
        support = force_materialize(functools.reduce(jnp.minimum, parts))
        shifts = _shifts(support, direction, EXTENT[-1])
        opened = functools.reduce(jnp.maximum, map(shifts, EXTENT))
        strengths.append(jnp.where(signed >= END * opened, opened, 0))
        sides = sign * first, sign * second
        two_sided = jnp.minimum(*sides) >= EVEN * jnp.maximum(*sides)
        centred.append(two_sided & (jnp.abs(slope) <= 0.5 * signed))
    return jnp.stack(strengths), jnp.stack(centred)


def _shifts(x: jax.Array, direction: jax.Array, reach: int) -> Callable[[int], jax.Array]:
    """A function offset -> x at that offset along the direction; 0 beyond the borders."""
    padding = [(0, 0)] * (x.ndim - 2) + [(reach, reach)] * 2
    padded = jnp.pad(x, padding)

    def shifted(offset: int) -> jax.Array:
        down, right = (jnp.round(offset * part).astype(jnp.int32) + reach for part in direction)
        start = (0,) * (x.ndim - 2) + (down, right)
        return jax.lax.dynamic_slice(padded, start, x.shape)

    return shifted
