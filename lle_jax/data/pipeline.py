"""Random crops of images, batched by grain; the iterator's position can be saved.

Degradation is not done here: it runs on the accelerator, inside the training step. Only low-light
images that were measured come from here, cut and turned as their clean versions are.
"""

import functools
import math
import sys
from collections.abc import Sequence
from typing import NamedTuple, overload

import cv2
import grain
import jax
import numpy as np

from lle_jax.data.manifest import DataError
from lle_jax.data.splits import Images

_MEMORY = 2**30  # bytes of decoded images that are kept, since decoding can take a third of a step


class Batch(NamedTuple):
    """Clean crops `[B, H, W, 3]`, float32 in [0, 1], and what each is of, int32 `[B]`.

    `modality` counts in MODALITIES. `low` has the measured low-light versions, `[B, H, W, 3]`, NaN
    for a crop without one; None where no image has any.
    """

    clean: np.ndarray | jax.Array
    modality: np.ndarray | jax.Array
    low: np.ndarray | jax.Array | None = None


class _Shuffled(Sequence[Batch]):
    """This process's images with their modality, without end, in a new order each epoch.

    Balanced, the images of rarer modalities come more often. NumPy makes the order: grain's shuffle
    takes 1 ms an image where there are few, since it draws from 65,536 numbers until one is below
    theirs.
    """

    def __init__(self, images: Images, balance: bool, seed: int):
        self.images = images
        self.modality_ids = images.modality_ids
        order = np.arange(len(images))
        if balance:
            ids = self.modality_ids
            groups = [np.flatnonzero(ids == one) for one in np.unique(ids)]
            size = max(map(len, groups))
            order = np.concatenate([np.resize(group, size) for group in groups])
        self.order = order[jax.process_index() :: jax.process_count()]
        self.seed = seed
        self._shuffled = functools.lru_cache(maxsize=4)(self._shuffle)
        self._decoded: dict[int, tuple[np.ndarray, np.ndarray | None] | None] = {}
        self._room = _MEMORY

    def _shuffle(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.seed, epoch)).permutation(self.order)

    def __len__(self) -> int:
        return sys.maxsize

    @overload
    def __getitem__(self, index: int) -> Batch: ...
    @overload
    def __getitem__(self, index: slice) -> list[Batch]: ...
    def __getitem__(self, index: int | slice) -> Batch | list[Batch]:
        if isinstance(index, slice):
            return [self[one] for one in range(len(self))[index]]
        epoch, position = divmod(index, len(self.order))
        place = int(self._shuffled(epoch)[position])
        clean, low = self._decode(place)
        return Batch(clean, self.modality_ids[place], low)

    def _decode(self, place: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns an image and its low-light version, kept as bytes while there is room."""
        if kept := self._decoded.get(place):
            return kept
        clean, low = self.images[place], self.images.low(place)
        size = clean.size + (0 if low is None else low.size)  # a byte for each value
        if place in self._decoded or size > self._room:
            return clean, low
        both = _as_bytes(clean), None if low is None else _as_bytes(low)
        if both[0] is None or (low is not None and both[1] is None):
            self._decoded[place] = None  # not of 8 bits, as need not be found again
            return clean, low
        self._room -= size
        self._decoded[place] = both[0], both[1]
        return both[0], both[1]


def _as_bytes(image: np.ndarray) -> np.ndarray | None:
    """Returns an image of 8 bits as uint8, a quarter of the memory; None for any other."""
    levels = np.rint(image * 255).astype(np.uint8)
    return levels if np.array_equal(levels / np.float32(255), image) else None


class _RandomCrop(grain.transforms.RandomMap):
    """A random square crop in a random one of the eight orientations of a square.

    Args:
      crop: its side.
      min_scale: below 1, it shows up to 1 / this as much along each side, reduced.
      whole_fraction: of the crops, that show the whole image, reduced, its sides made equal.
      with_low: every element gets a low-light image, NaN where none was measured.
    """

    def __init__(self, crop: int, min_scale: float, whole_fraction: float, with_low: bool):
        self.crop = crop
        self.min_scale = min_scale
        self.whole_fraction = whole_fraction
        self.with_low = with_low

    def random_map(self, element: Batch, rng: np.random.Generator) -> Batch:
        height, width = np.shape(element.clean)[:2]
        side = self.crop
        if self.min_scale < 1:
            largest = min(height, width, int(self.crop / self.min_scale))
            side = round(math.exp(rng.uniform(math.log(self.crop), math.log(largest))))
        size = side, side
        if self.whole_fraction and rng.random() < self.whole_fraction:
            size = height, width
        top, left = (
            rng.integers(length - part + 1)
            for length, part in zip((height, width), size, strict=True)
        )
        turns, mirrored = int(rng.integers(4)), rng.integers(2)

        def cut(image: np.ndarray) -> np.ndarray:
            image = image[top : top + size[0], left : left + size[1]]
            if image.dtype == np.uint8:
                image = image / np.float32(255)
            if size != (self.crop, self.crop):
                shape = (self.crop, self.crop)
                image = cv2.resize(image, shape, interpolation=cv2.INTER_AREA)
                image = image.reshape(*shape, -1)
            image = np.rot90(image, turns)
            if mirrored:
                image = image[:, ::-1]
            return np.broadcast_to(image, (self.crop, self.crop, 3)).astype(np.float32)

        clean, low = cut(np.asarray(element.clean)), None
        if element.low is not None:
            low = cut(np.asarray(element.low))
        elif self.with_low:
            low = np.full_like(clean, np.nan)
        return Batch(clean, element.modality, low)


def crops(
    images: Images,
    *,
    sides: Sequence[int],
    batch_size: int,
    seed: int,
    random_resized_crop_min_scale: float = 1.0,
    whole_fraction: float = 0.0,
    balance: bool = False,
    pairs_weight: float = 1.0,
) -> grain.DatasetIterator:
    """An endless iterator over batches of random crops.

    Every image appears once before any appears again, in a new order each time. Each of several
    processes gets its own images and its share of the batch.

    Args:
      images: the training images.
      sides: of the crops, in pixels. Those of a batch are of one side, the sides take turns; an
        image smaller than a side has no crops of it.
      batch_size: crops per batch over all processes, a multiple of their number.
      seed: of the order, the positions and the orientations.
      random_resized_crop_min_scale: below 1, a crop shows up to 1 / this as much of the image
        along each side, reduced by area averaging, so that batches hold what is global too.
      whole_fraction: fraction of crops that show the whole image, reduced, its sides made equal.
      balance: every modality appears equally often, the images of rarer ones repeatedly.
      pairs_weight: where only some images have measured low-light versions, the share of crops
        from those.

    Returns:
      An iterator of `Batch`, `batch_size / processes` crops each; a grey image has three equal
      channels. `get_state` and `set_state` hold its position.

    Raises:
      DataError: if no image is as large as a side.
    """
    kinds, weights = _kinds(images, pairs_weight)
    processes = jax.process_count()
    parts = []
    for number, side in enumerate(sides):
        cropped = []
        for kind in kinds:
            large = _at_least(kind, side)
            if not len(large):
                raise DataError(
                    f"no training image is {side} pixels high and wide; remove {side} from "
                    "--config.data.context_sizes, or add larger images"
                )
            cropped.append(
                grain.MapDataset.source(_Shuffled(large, balance, seed + number))
                .seed(seed + number)
                .random_map(
                    _RandomCrop(side, random_resized_crop_min_scale, whole_fraction, len(kinds) > 1)
                )
            )
        part = grain.MapDataset.mix(cropped, weights) if len(kinds) > 1 else cropped[0]
        parts.append(part.batch(batch_size // processes, drop_remainder=True))
    dataset = parts[0] if len(parts) == 1 else grain.MapDataset.mix(parts)
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
    return iter(dataset.to_iter_dataset(options))


def small_lines(images: Images, sides: Sequence[int]) -> list[str]:
    """Says in lines which of the `sides` of `crops` leave images out, and how many."""
    lines = []
    for side in sides:
        if small := sum(min(size) < side for size in images.sizes):
            lines.append(
                f"{small} of {len(images)} training images are less than {side} pixels high or "
                "wide: no crops of that side come from them"
            )
    return lines


def _at_least(images: Images, side: int) -> Images:
    """Returns the images at least `side` high and wide."""
    return images.subset([index for index, size in enumerate(images.sizes) if min(size) >= side])


def _kinds(images: Images, pairs_weight: float) -> tuple[list[Images], list[float]]:
    """Divides images into those with and without a measured low-light version, with weights."""
    measured = np.array([load is not None for load in images.low_loaders])
    if measured.all() or not measured.any():
        return [images], [1.0]
    kinds = [images.subset(np.flatnonzero(measured == wanted).tolist()) for wanted in (True, False)]
    return kinds, [pairs_weight, 1 - pairs_weight]
