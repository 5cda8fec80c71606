"""Dead and hot pixels: found, and replaced by what is around them, as cameras do before all else.

A sensor has pixels that are always black or white, and in little light more of them. Brightened,
each becomes a spot that looks like a lesion, unless a network takes it out, and the released one
leaves half of the hot ones. A defect stands alone: one pixel, or two side by side, far from all
others around it, by how far these differ. No larger structure loses anything, not the end of a line
one pixel wide either.
"""

from typing import NamedTuple

import numpy as np

# How far from its neighbours a defect's value is: a part of [0, 1], and so many times their spread.
LEAST, SPREADS = 0.08, 2.0
# Values in a million: up to the first, all are given back, as light on wet tissue and the points of
# burned-in text are single pixels, too; from the second on, none is. Of 1,696 well-lit medical
# images the one with most has 70; of fifteen photographs of rooms, reduced and sharp, one has 349,
# so that an image that needs nothing else must have `LIT` times as many. Smaller pictures count as
# of `FEWEST` values.
FEW, MANY, LIT, FEWEST = 80.0, 160.0, 6.0, 250_000
_STRIP = 64  # rows that are looked at together, in the processor's cache
_AROUND = [(row, column) for row in range(3) for column in range(3) if (row, column) != (1, 1)]


class Defects(NamedTuple):
    """What was replaced.

    Attributes:
      places: rows, columns and channels of the values.
      change: what each was more than it is now, `[N]` float64.
      density: how many they are in a million.
    """

    places: tuple[np.ndarray, np.ndarray, np.ndarray]
    change: np.ndarray
    density: float

    def share(self, corrected: float) -> float:
        """Tells how surely they are defects, from 0 for few to 1 for many.

        Args:
          corrected: the share of the whole correction that the image needs, 0 to 1.
        """
        relative = self.density / LIT ** (1 - corrected)
        return min(max((relative - FEW) / (MANY - FEW), 0.0), 1.0)


def mend(image: np.ndarray) -> Defects:
    """Replaces what may be defects by the median of their neighbours, in place.

    Each channel by itself, so that grey stays grey.

    Args:
      image: `[H, W, C]` float32 in [0, 1].
    """
    order = np.pad(np.arange(len(image)), 2, mode="reflect")
    found = []
    for top in range(0, len(image), _STRIP):
        strip = image[order[top : top + _STRIP + 4]]
        (row, *others), medians = _find(np.pad(strip, ((0, 0), (2, 2), (0, 0)), mode="reflect"))
        found.append((row + top, *others, medians))
    *places, median = map(np.concatenate, zip(*found, strict=True))
    rows, columns, channels = places
    change = image[rows, columns, channels] - median.astype(np.float64)
    image[rows, columns, channels] = median
    return Defects((rows, columns, channels), change, 1e6 * len(median) / max(image.size, FEWEST))


def mended(image: np.ndarray) -> np.ndarray:
    """Returns a copy of `[H, W, C]` in which what may be defects is replaced."""
    image = image.copy()
    mend(image)
    return image


def put_back(image: np.ndarray, found: Defects, share: float) -> None:
    """Gives back all but a share of what was replaced, in place.

    Args:
      image: that `mend` was given, or what was made of it, `[H, W, C]` in [0, 1].
      found: from `mend`.
      share: 0 (everything is given back) to 1.
    """
    values = image[found.places] + (1 - share) * found.change
    image[found.places] = np.clip(values, 0, 1)  # in float64, so that 0 restores every bit


def _find(around: np.ndarray) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Finds defects of `[H + 4, W + 4, C]`: their places in `[H, W, C]`, and the medians there."""
    middle = around[1:-1, 1:-1]
    up, down, left, right = around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]
    # What most pixels fail at comes first: the four nearest alone, of which the second and third
    # in order are these two. All eight differ by as much at least.
    one = np.minimum(np.maximum(up, down), np.maximum(left, right))
    other = np.maximum(np.minimum(up, down), np.minimum(left, right))
    high, low = np.maximum(one, other), np.minimum(one, other)
    away = SPREADS * (high - low) + LEAST
    row, column, channel = np.nonzero((middle - high > away) | (low - middle > away))
    value = middle[row, column, channel]
    neighbours = np.stack([around[row + y, column + x, channel] for y, x in _AROUND])
    ranked = np.sort(neighbours, axis=0)
    away = SPREADS * (ranked[6] - ranked[1]) + LEAST
    hot, dead = value - ranked[6] > away, ranked[1] - value > away
    # Where one neighbour is like it, that one must be like no other: then they are a pair.
    sign = np.zeros(middle.shape, np.int8)
    sign[row, column, channel] = hot.astype(np.int8) - dead
    next_to = np.where(hot, neighbours.argmax(axis=0), neighbours.argmin(axis=0))
    y, x = np.array(_AROUND)[next_to].T - 1
    height, width = (side - 1 for side in middle.shape[:2])
    pair = sign[np.clip(row + y, 0, height), np.clip(column + x, 0, width), channel]
    alone = np.where(hot, value - ranked[7] > away, ranked[0] - value > away)
    inside = (row > 0) & (row < height) & (column > 0) & (column < width)
    hit = inside & (hot | dead) & (alone | (pair == sign[row, column, channel]))
    places = row[hit] - 1, column[hit] - 1, channel[hit]
    return places, (ranked[3, hit] + ranked[4, hit]) / 2
