"""Enhances the frames of a sequence with one exposure over time, so that they do not flicker.

Fresh noise in each frame moves the enhanced brightness in two ways. It moves the network's context:
the means of the cells, from which the context is computed, are averaged over the frames before and
after. It also moves the mean of what is restored with any context, far more than it moves the
input's mean: so the gain from the input's mean to the output's is averaged likewise, and each frame
is bent to it. Both averages are over similar frames, so that fades and moving scenes are followed,
and end at cuts. Memory is that of a second of frames at most.
"""

import collections
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from lle_jax.inference import defects, exposure, tiles
from lle_jax.models import dual_path

DEFAULT_RATE = 25.0  # frames per second, where a sequence states none
RATES = (0.01, 1000.0)  # that are taken for one
_TIME_CONSTANT = 1.0  # seconds, of the weights of frames before and after
_AHEAD = 1.0  # seconds of earlier and of later frames that are averaged
# Change of regions at which the weight of a frame is 1 / e; at least three times the usual one.
_SIMILAR, _SIMILAR_RATIO = 0.05, 3.0
_HELD_BYTES = 256 * 2**20  # of enhanced frames that wait for the gain of later ones
_MIN_HELD, _MAX_AHEAD = 8, 120  # frames, at any size and at any rate
_REGIONS = 4  # along each side
# A cut: regions change by a tenth, and by four times what they change by between other frames.
_CUT_CHANGE = 0.1
_CUT_RATIO = 4.0
_MAX_LOG_CORRECTION = 0.1  # of the gain: noise moves it by a hundredth, moving scenes by more
_NUMBERS = 5  # of `exposure.Measured`, which are averaged like the cells
_DARK = 1e-3  # keeps the gain of a black frame finite


class Place(NamedTuple):
    """What decides which frames are averaged.

    Attributes:
      starts: it is the first frame of a shot.
      regions: logarithm of the brightness of `_REGIONS` x `_REGIONS` regions.
      usual: median change of the regions from frame to frame, around this one.
    """

    starts: bool
    regions: np.ndarray
    usual: float


class FrameContext(NamedTuple):
    """What is known of a frame from those around it.

    Attributes:
      context: for `exposure.correct`; None for a network that needs the image as a whole.
      measured: averaged.
      place: where the frame stands in its shot.
      strength: share of the whole change that the frame needs.
    """

    context: dual_path.Context | None
    measured: exposure.Measured
    place: Place
    strength: float


class _Item(NamedTuple):
    place: Place
    value: Any
    payload: Any


def contexts(
    net: tiles.Network,
    frames: Iterable[np.ndarray],
    rate: float = DEFAULT_RATE,
    wish: exposure.Wish = exposure.AUTO,
) -> Iterator[FrameContext]:
    """Computes the context of each frame, averaged over the frames of its shot.

    The means of the cells are averaged, not what is computed from them: they are linear in the
    frames, so that noise cancels before the logarithms.

    Args:
      net: from `tiles.network`.
      frames: `[H, W, C]` float32 in [0, 1], C 1 or 3; a second of them is read ahead.
      rate: frames per second.
      wish: the wanted brightness, and whether to correct what needs nothing.
    """
    ahead = _frames_ahead(rate)
    # what is read ahead are these, not the frames
    measured = (exposure.examine(net, defects.mended(frame), wish) for frame in frames)
    cells = ((_as_one(each), each.grey) for each in measured)
    for item in _averages(_shots(cells, ahead), rate, ahead):
        means, numbers = item.value[..., :-_NUMBERS], item.value[0, 0, 0, -_NUMBERS:].tolist()
        about = exposure.Measured(means, item.payload, *numbers)
        correction = exposure.decide(net, about, wish)
        context = exposure.context(net, means, item.payload, correction)
        yield FrameContext(context, about, item.place, correction.strength)


def _as_one(measured: exposure.Measured) -> np.ndarray:
    """The means of the cells and the numbers, to be averaged as one array."""
    _, _, *numbers, _ = measured
    shape = (*measured.cells.shape[:-1], _NUMBERS)
    repeated = np.broadcast_to(np.array(numbers, np.float32), shape)
    return np.concatenate([measured.cells, repeated], axis=-1)


def enhance_frames(
    net: tiles.Network,
    frames: Iterable[np.ndarray],
    ahead: Iterable[np.ndarray],
    rate: float = DEFAULT_RATE,
    strength: float = 1.0,
    largest: int | None = None,
    wish: exposure.Wish = exposure.AUTO,
) -> Iterator[np.ndarray]:
    """Enhances frames, each `[H, W, C]` as it comes; of one frame as `tiles.restore` does.

    Args:
      net: from `tiles.network`.
      frames: see `contexts`.
      ahead: the same frames again, read up to a second before `frames`.
      rate: frames per second.
      strength, largest: see `tiles.restore`.
      wish: see `contexts`.

    Yields:
      the frames of the same shapes, as many and in the same order.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        return

    def restored() -> Iterator[_Item]:
        around = contexts(net, ahead, rate, wish)
        for frame, each in zip(itertools.chain([first], frames), around, strict=False):
            place, needed = each.place, each.strength
            out = frame.copy()
            found = defects.mend(out)
            if needed and strength:
                exposure.correct(
                    net, out, each.measured, each.context, wish, needed, strength, largest
                )
            defects.put_back(out, found, strength * found.share(each.strength))
            gain = math.log((_mean(out) + _DARK) / (_mean(frame) + _DARK))
            yield _Item(place, gain, (out, gain))

    held = max(_MIN_HELD, min(_frames_ahead(rate), _HELD_BYTES // first.nbytes))
    for item in _averages(restored(), rate, held):
        out, gain = item.payload
        yield _with_gain(out, item.value - gain)


def _frames_ahead(rate: float) -> int:
    return min(_MAX_AHEAD, max(1, round(_AHEAD * rate)))


def _mean(image: np.ndarray) -> float:
    return float(np.mean(image, dtype=np.float64))


def _shots(cells: Iterable[tuple[np.ndarray, bool]], ahead: int) -> Iterator[_Item]:
    """Finds the first frame of each shot.

    A frame differs from the one before by the mean change of its regions. In a still scene that is
    noise, in a fade the same for each frame; a cut stands out from the median of those around it.
    """
    waiting: collections.deque[tuple[float, np.ndarray, Any]] = collections.deque()
    past: collections.deque[float] = collections.deque(maxlen=ahead)
    source = _changes(cells)
    while True:
        waiting.extend(itertools.islice(source, ahead + 1 - len(waiting)))
        if not waiting:
            return
        change, regions, (means, grey) = waiting.popleft()
        others = [*past, *(later for later, _, _ in waiting)]
        usual = float(np.median(others)) if others else 0.0
        starts = change > max(_CUT_CHANGE, _CUT_RATIO * usual)
        yield _Item(Place(starts, regions, usual), means, grey)
        if math.isfinite(change):
            past.append(change)


def _changes(
    cells: Iterable[tuple[np.ndarray, bool]],
) -> Iterator[tuple[float, np.ndarray, Any]]:
    """Yields each frame's change from the one before, infinite for the first, and its regions."""
    before = None
    for means, grey in cells:
        brightness = np.mean(means[0, ..., :3], axis=-1)
        side = len(brightness) // _REGIONS
        parts = brightness.reshape(_REGIONS, side, _REGIONS, side).mean(axis=(1, 3))
        now = np.log(parts + 0.01)
        yield math.inf if before is None else _distance(now, before), now, (means, grey)
        before = now


def _distance(regions: np.ndarray, others: np.ndarray) -> float:
    return float(np.abs(regions - others).mean())


def _averages(items: Iterable[_Item], rate: float, ahead: int) -> Iterator[_Item]:
    """Replaces each value by a weighted mean over its shot.

    Weights fall with the distance in time and with that of the regions. Dividing by their sum makes
    the mean right from the first frame on.

    Args:
      items: as many as there are frames.
      rate: frames per second.
      ahead: how many earlier and later ones are averaged.
    """
    decay = math.exp(-1 / (rate * _TIME_CONSTANT))
    past: collections.deque[_Item] = collections.deque(maxlen=ahead)
    waiting: collections.deque[_Item] = collections.deque()
    source = iter(items)
    while True:
        waiting.extend(itertools.islice(source, ahead + 1 - len(waiting)))
        if not waiting:
            return
        item = waiting.popleft()
        if item.place.starts:
            past.clear()
        later = itertools.takewhile(lambda each: not each.place.starts, waiting)
        tolerance = max(_SIMILAR, _SIMILAR_RATIO * item.place.usual)
        value, weights = item.value, 1.0
        for side in (reversed(past), later):
            for distance, each in enumerate(side, start=1):
                change = _distance(each.place.regions, item.place.regions) / tolerance
                share = decay**distance * math.exp(-(change**2))
                value, weights = value + share * each.value, weights + share
        past.append(item._replace(payload=None))  # which may hold a frame
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
