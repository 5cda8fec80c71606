"""Enhances the frames of a sequence with one exposure over time, so that they do not flicker.

Fresh noise in each frame moves the enhanced brightness in two ways. It moves the network's context:
the means of the cells, from which the context is computed, are averaged over the frames before and
after. It also moves the mean of what is restored with any context, far more than it moves the
input's mean: so the gain from the input's mean to the output's is averaged likewise, and each frame
is bent to it. Both averages end at cuts. Memory is that of a second of frames at most.
"""

import collections
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from lle_jax.inference import tiles
from lle_jax.models import dual_path

DEFAULT_RATE = 25.0  # frames per second, where a sequence states none
RATES = (0.01, 1000.0)  # that are taken for one
_TIME_CONSTANT = 1.0  # seconds, of the weights of frames before and after
_AHEAD = 1.0  # seconds of later frames that are averaged
_HELD_BYTES = 256 * 2**20  # of enhanced frames that wait for the gain of later ones
_MIN_HELD, _MAX_AHEAD = 8, 120  # frames, at any size and at any rate
# A cut: regions change by a tenth, and by four times what they change by between other frames.
_CUT_REGIONS = 4  # along each side
_CUT_CHANGE = 0.1
_CUT_RATIO = 4.0
_MAX_LOG_CORRECTION = 0.1  # of the gain: noise moves it by a hundredth, moving scenes by more
_DARK = 1e-3  # keeps the gain of a black frame finite


class FrameContext(NamedTuple):
    """What is known of a frame from those around it.

    Attributes:
      starts: it is the first frame of a shot.
      context: for `tiles.restore`; None for a network that needs the image as a whole.
    """

    starts: bool
    context: dual_path.Context | None


class _Item(NamedTuple):
    starts: bool
    value: Any
    payload: Any


def contexts(
    net: tiles.Network, frames: Iterable[np.ndarray], rate: float = DEFAULT_RATE
) -> Iterator[FrameContext]:
    """Computes the context of each frame, averaged over the frames of its shot.

    The means of the cells are averaged, not what is computed from them: they are linear in the
    frames, so that noise cancels before the logarithms.

    Args:
      net: from `tiles.network`.
      frames: `[H, W, C]` float32 in [0, 1], C 1 or 3; a second of them is read ahead.
      rate: frames per second.
    """
    ahead = _frames_ahead(rate)
    # what is read ahead are these, not the frames
    cells = ((tiles.cell_means(frame), tiles.is_grey(frame)) for frame in frames)
    for item in _averages(_shots(cells, ahead), rate, ahead):
        context = None
        if net.finish_context is not None:
            context = net.finish_context(item.value, np.full((1, 1, 1, 1), item.payload))
        yield FrameContext(item.starts, context)


def enhance_frames(
    net: tiles.Network,
    frames: Iterable[np.ndarray],
    ahead: Iterable[np.ndarray],
    rate: float = DEFAULT_RATE,
    strength: float = 1.0,
    largest: int | None = None,
) -> Iterator[np.ndarray]:
    """Enhances frames, each `[H, W, C]` as it comes; of one frame as `tiles.restore` does.

    Args:
      net: from `tiles.network`.
      frames: see `contexts`.
      ahead: the same frames again, read up to a second before `frames`.
      rate: frames per second.
      strength, largest: see `tiles.restore`.

    Yields:
      the frames of the same shapes, as many and in the same order.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        return

    def restored() -> Iterator[_Item]:
        both = zip(itertools.chain([first], frames), contexts(net, ahead, rate), strict=False)
        for frame, (starts, context) in both:
            out = np.empty_like(frame)
            tiles.restore(net, frame, out, strength, largest, context)
            gain = math.log((_mean(out) + _DARK) / (_mean(frame) + _DARK))
            yield _Item(starts, gain, (out, gain))

    held = max(_MIN_HELD, min(_frames_ahead(rate), _HELD_BYTES // first.nbytes))
    for item in _averages(restored(), rate, held):
        out, gain = item.payload
        yield _with_gain(out, item.value - gain)


def _frames_ahead(rate: float) -> int:
    return min(_MAX_AHEAD, max(1, round(_AHEAD * rate)))


def _mean(image: np.ndarray) -> float:
    return float(np.mean(image, dtype=np.float64))


def _shots(cells: Iterable[tuple[np.ndarray, bool]], ahead: int) -> Iterator[_Item]:
    """Marks the first frame of each shot.

    A frame differs from the one before by the mean change of the logarithm of brightness in
    `_CUT_REGIONS` x `_CUT_REGIONS` regions. In a still scene that is noise, in a fade the same for
    each frame; a cut stands out from the median of the frames around it.
    """
    waiting: collections.deque[tuple[float, Any]] = collections.deque()
    past: collections.deque[float] = collections.deque(maxlen=ahead)
    source = _changes(cells)
    while True:
        waiting.extend(itertools.islice(source, ahead + 1 - len(waiting)))
        if not waiting:
            return
        change, (means, grey) = waiting.popleft()
        others = [*past, *(later for later, _ in waiting)]
        usual = float(np.median(others)) if others else 0.0
        yield _Item(change > max(_CUT_CHANGE, _CUT_RATIO * usual), means, grey)
        if math.isfinite(change):
            past.append(change)


def _changes(cells: Iterable[tuple[np.ndarray, bool]]) -> Iterator[tuple[float, Any]]:
    """Yields each frame's change from the one before; infinite for the first."""
    before = None
    for means, grey in cells:
        brightness = np.mean(means[0, ..., :3], axis=-1)
        side = len(brightness) // _CUT_REGIONS
        regions = brightness.reshape(_CUT_REGIONS, side, _CUT_REGIONS, side).mean(axis=(1, 3))
        now = np.log(regions + 0.01)
        yield math.inf if before is None else float(np.abs(now - before).mean()), (means, grey)
        before = now


def _averages(items: Iterable[_Item], rate: float, ahead: int) -> Iterator[_Item]:
    """Replaces each value by the mean of its shot's, weighted by exp(-distance in time).

    Of earlier values a running sum is kept, of later ones `ahead` are read. Dividing by the sum of
    the weights makes the mean right from the first frame on.
    """
    decay = math.exp(-1 / (rate * _TIME_CONSTANT))
    waiting: collections.deque[_Item] = collections.deque()
    source = iter(items)
    total: Any = 0.0
    weight = 0.0
    while True:
        waiting.extend(itertools.islice(source, ahead + 1 - len(waiting)))
        if not waiting:
            return
        item = waiting.popleft()
        if item.starts:
            total, weight = 0.0, 0.0
        total, weight = item.value + decay * total, 1 + decay * weight
        value, weights, share = total, weight, 1.0
        for later in itertools.takewhile(lambda each: not each.starts, waiting):
            share *= decay
            value, weights = value + share * later.value, weights + share
        yield item._replace(value=value / weights)


def _with_gain(image: np.ndarray, log_factor: float) -> np.ndarray:
    """Changes the mean of `[H, W, C]` by a factor, in place, as v + a v (1 - v): 0 and 1 stay."""
    factor = math.exp(min(max(log_factor, -_MAX_LOG_CORRECTION), _MAX_LOG_CORRECTION))
    if factor == 1:  # exactly, as with a single frame
        return image
    room = image * (1 - image)
    bend = _mean(image) * (factor - 1) / max(_mean(room), 1e-6)
    image += np.float32(min(max(bend, -1.0), 1.0)) * room
    return np.clip(image, 0, 1, out=image)  # of rounding
