"""An image of any size through a network in tiles of few shapes, with no seams.

The network needs some statistics of the whole image (`models.Tiled`); here they are gathered in
strips, so that nothing the size of the image is made. Tiles overlap by the network's reach. An
image smaller than its tile is followed by zeros, which the network takes for none of it, so that
its borders are restored as a whole.
"""

import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
from flax import nnx

from lle_jax import models
from lle_jax.models import dual_path, grid

# Heights and widths of tiles: squares, and 4:3 lying and standing. XLA compiles for a second for
# each, so they are few; what a tile has too much costs as well, so they are not too few. These take
# a tenth more than the best tile of each size would, on sizes that cameras give.
_SIDES = (128, 192, 256, 320, 384, 448, 512, 640, 768, 896, 1024)
_WIDER = [(side, min(round(side / 48) * 64, _SIDES[-1])) for side in _SIDES if side < 896]
SHAPES = [(side, side) for side in _SIDES] + _WIDER + [(width, height) for height, width in _WIDER]
_STRIP = 256
_BYTES_PER_PIXEL = 400  # twice what XLA takes for experiments/dual_path.py
_EXECUTABLES = 16  # kept in memory


class Network(NamedTuple):
    """A network that works in tiles, with its parameters and compiled programs.

    Attributes:
      multiple, reach: see `models.Tiled`.
      finish_context: `(means of the cells [1, CELLS, CELLS, 6], grey, exposure) -> Context`; None
        for a network that needs the image as a whole.
      restore: `(tile [1, h, w, 3], context, corner, size) -> [1, h, w, 3]`, compiled once for each
        shape of a tile.
      uncertainty: the same, `-> [1, h, w, 1]`, the half-width of the prediction interval of each
        restored value; None for a network that does not predict it.
    """

    multiple: int
    reach: int
    finish_context: Callable | None
    restore: Callable
    uncertainty: Callable | None = None


def network(config: ml_collections.ConfigDict, params: nnx.State) -> Network:
    """Prepares a network; raises checks.ConfigError if there is no such network."""
    params = jax.device_put(params)

    def compiled(step: Callable) -> Callable:
        # a bounded number of programs is kept, unlike by jax.jit; jax frees what goes with a
        # function
        @functools.lru_cache(maxsize=_EXECUTABLES)
        def program(shape: tuple[int, ...]):
            return jax.jit(lambda *arguments: step(*arguments))

        return lambda tile, *arguments: program(tile.shape)(params, tile, *arguments)

    if not models.is_tiled(config):
        return Network(1, 0, None, compiled(models.forward(config)))
    steps = models.tiled(config)
    with_scale = steps.restore_with_scale
    return Network(
        steps.multiple,
        steps.reach,
        functools.partial(jax.jit(steps.finish_context), params),
        compiled(steps.restore),
        with_scale and compiled(lambda *arguments: with_scale(*arguments)[1]),
    )


def cell_means(image: np.ndarray) -> np.ndarray:
    """Computes `grid.cell_means` of `[H, W, C]` strip by strip, `[1, CELLS, CELLS, 6]`."""
    height, width, channels = image.shape
    image = image if channels == 3 else np.broadcast_to(image, (height, width, 3))
    columns = grid.cell_weights(width, 0, width)
    total = 0.0
    for top in range(0, height, _STRIP):
        bottom = min(top + _STRIP, height)
        rows = grid.cell_weights(height, top, bottom - top)
        total += grid.strip_means(image[top : bottom + 1], bottom == height, rows, columns)
    return np.asarray(total, np.float32)[None]


def is_grey(image: np.ndarray) -> bool:
    """Tells whether all channels of `[H, W, C]` are equal, strip by strip."""
    strips = (image[top : top + _STRIP] for top in range(0, len(image), _STRIP))
    return all((strip == strip[..., :1]).all() for strip in strips)


def restore(
    net: Network,
    image: np.ndarray,
    out: np.ndarray,
    strength: float = 1.0,
    largest: int | None = None,
    context: dual_path.Context | None = None,
) -> None:
    """Restores an image into `out`, which may be the image itself.

    Args:
      net: from `network`.
      image: `[H, W, C]` float32 in [0, 1], C 1 or 3.
      out: of the same shape; gets values in [0, 1].
      strength: 0 to 1, how much of the change is made.
      largest: side of the largest tile in pixels; None goes by the memory there is.
      context: of `exposure.context`, or of the frames around it (`frames.contexts`); None computes
        the image's own.
    """
    channels = image.shape[-1]
    if net.finish_context is None:
        restored = np.asarray(net.restore(image[None]))[0]
        out[...] = np.clip(image + np.float32(strength) * (np.clip(restored, 0, 1) - image), 0, 1)
        return
    context, rows, columns = _plan(net, image, largest, context)
    waiting = []  # results that reach into what the next tiles still need of the image
    for row, after in itertools.zip_longest(rows, rows[1:]):
        result = np.empty((row.last - row.first, *image.shape[1:]), np.float32)
        for column, inner, before in _row(net, net.restore, image, context, row, columns):
            before = before[..., :channels]
            change = np.clip(inner[..., :channels], 0, 1) - before
            blended = before + np.float32(strength) * change
            np.clip(blended, 0, 1, out=result[:, column.first : column.last])  # of rounding
        waiting.append((row, result))
        while waiting and (after is None or waiting[0][0].last <= after.start):
            done_row, done = waiting.pop(0)
            out[done_row.first : done_row.last] = done


def central_tile(
    net: Network, image: np.ndarray, context: dual_path.Context | None, largest: int
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Returns the pixels of the tile in the middle, and what restores them, or others in place.

    Args:
      net: from `network`, of a network that works in tiles.
      image, context, largest: as in `restore`.
    """
    context, rows, columns = _plan(net, image, largest, context)
    row, column = (parts[len(parts) // 2] for parts in (rows, columns))
    pixels = image[row.start : row.stop, column.start : column.stop]
    shape = (row.stop - row.start, column.stop - column.start)
    height, width, channels = pixels.shape

    def restored(pixels: np.ndarray) -> np.ndarray:
        tile = _padded(pixels, (row.start, len(image)), shape, net.multiple)
        corner = (row.start, column.start)
        result = np.asarray(net.restore(tile[None], context, corner, image.shape[:2]))[0]
        return np.clip(result[:height, :width, :channels], 0, 1)

    return pixels, restored


def half_width(
    net: Network,
    image: np.ndarray,
    largest: int | None = None,
    context: dual_path.Context | None = None,
) -> np.ndarray:
    """Predicts the half-width of the prediction interval of each restored value, at full strength.

    Args:
      net: from `network`, of a network that predicts its uncertainty.
      image, largest, context: as in `restore`.

    Returns:
      `[H, W, 1]` float32, in units of the image.
    """
    assert net.uncertainty is not None
    context, rows, columns = _plan(net, image, largest, context)
    out = np.empty((*image.shape[:2], 1), np.float32)
    for row in rows:
        for column, inner, _ in _row(net, net.uncertainty, image, context, row, columns):
            out[row.first : row.last, column.first : column.last] = inner
    return out


def _plan(net: Network, image: np.ndarray, largest: int | None, context):
    """Computes the context of the whole image if it is None, and the tiles' rows and columns."""
    height, width = image.shape[:2]
    largest = tile_side() if largest is None else largest
    if context is None:
        context = finish_context(net, cell_means(image), is_grey(image))
    shape = choose_shape(height, width, net.multiple, net.reach, largest)
    rows, columns = (
        list(cover(size, side, net.multiple, net.reach))
        for size, side in zip((height, width), shape, strict=True)
    )
    return context, rows, columns


def finish_context(
    net: Network, cells: np.ndarray, grey: bool, exposure: float = math.nan
) -> dual_path.Context:
    """Computes the context from the means of cells, of one frame or several, and `is_grey`.

    Args:
      net: from `network`.
      cells: of `cell_means`.
      grey: of `is_grey`.
      exposure: the wanted mean luma in (0, 1); NaN where the network is to predict it.
    """
    assert net.finish_context is not None
    return net.finish_context(cells, np.full((1, 1, 1, 1), grey), np.float32(exposure))


def _row(net: Network, step: Callable, image: np.ndarray, context, row: "Part", columns):
    """Yields for each tile of a row its column, the result of `step`, and the pixels before."""
    height, width = image.shape[:2]
    shape = (row.stop - row.start, columns[-1].stop)
    source = _padded(image[row.start : row.stop], (row.start, height), shape, net.multiple)
    inside = slice(row.first - row.start, row.last - row.start)
    for column in columns:
        tile = source[None, :, column.start : column.stop]
        result = np.asarray(step(tile, context, (row.start, column.start), (height, width)))[0]
        inner = result[inside, column.first - column.start : column.last - column.start]
        yield column, inner, source[inside, column.first : column.last]


class Part(NamedTuple):
    """A tile along one axis: `start` to `stop`, of which `first` to `last` are kept."""

    start: int
    stop: int
    first: int
    last: int


def choose_shape(
    height: int, width: int, multiple: int, reach: int, largest: int
) -> tuple[int, int]:
    """Chooses of `SHAPES` the tile with the least to compute for an image.

    Of those no higher or wider than `largest`, and along each axis as large as the image or at
    least twice what is not kept.
    """
    margin = -(-reach // multiple) * multiple
    smallest = 4 * margin

    def pixels(shape: tuple[int, int]) -> int:
        rows, columns = shape
        return _count(height, rows, margin) * _count(width, columns, margin) * rows * columns

    usable = [
        (rows, columns)
        for rows, columns in SHAPES
        if rows >= min(height, smallest) and columns >= min(width, smallest)
    ]
    small = [shape for shape in usable if max(shape) <= largest]
    least = min(usable, key=max, default=(smallest, smallest))
    return min(small or [least], key=lambda shape: (pixels(shape), -max(shape)))


def cover(size: int, side: int, multiple: int, reach: int) -> Iterator[Part]:
    """Divides an axis into tiles of one side, the last ending where the image (padded) ends.

    One tile suffices for an axis that is no longer; it may reach beyond the end.
    """
    if size <= side:
        yield Part(0, side, 0, size)
        return
    padded = -(-size // multiple) * multiple
    count = _count(padded, side, -(-reach // multiple) * multiple)
    between = (padded - side) / (count - 1)
    starts = [int(i * between) // multiple * multiple for i in range(count - 1)] + [padded - side]
    # cut in the middle of what two neighbours share
    cuts = [0, *((b + a + side) // 2 for a, b in itertools.pairwise(starts)), size]
    for start, (first, last) in zip(starts, itertools.pairwise(cuts), strict=True):
        yield Part(start, start + side, first, last)


def _count(size: int, tile: int, margin: int) -> int:
    return 1 if tile >= size else math.ceil((size - 2 * margin) / (tile - 2 * margin))


def _padded(
    band: np.ndarray, rows: tuple[int, int], shape: tuple[int, int], multiple: int
) -> np.ndarray:
    """Continues `[H, W, C]` to `shape`: by its edge to a multiple of the image, then by zeros.

    Args:
      band: rows of the image, from `rows[0]` of `rows[1]`.
      rows: see above.
      shape: height and width of the result.
      multiple: see `Network`.

    Returns:
      `[h, w, 3]`, a copy.
    """
    start, height = rows
    count, width, channels = band.shape
    below = -height % multiple if start + count == height else 0
    right = -width % multiple
    out = np.zeros((*shape, channels), np.float32)
    out[:count, :width] = band
    out[:count, width : width + right] = band[:, -1:]
    out[count : count + below] = out[count - 1]
    return np.repeat(out, 3, axis=-1) if channels == 1 else out


def tile_side() -> int:
    """Chooses the side of the largest tile, 256 to 1024, for a quarter of the free memory."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on Windows or macOS
        return _SIDES[-1] // 2
    side = math.isqrt(free // 4 // _BYTES_PER_PIXEL)
    return max(256, min(_SIDES[-1], side))
