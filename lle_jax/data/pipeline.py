"""Random crops of clean images, batched by grain; the iterator's position can be saved.

Degradation is not done here: it runs on the accelerator, inside the training step.
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

from lle_jax.data.sources import DataError, Images


class Batch(NamedTuple):
    """Clean crops `[B, H, W, 3]`, float32 in [0, 1], and what each is of, int32 `[B]`.

    `modality` counts in MODALITIES.
    """

    clean: np.ndarray | jax.Array
    modality: np.ndarray | jax.Array


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
        return Batch(self.images[place], self.modality_ids[place])


class _RandomCrop(grain.transforms.RandomMap):
    """A random square crop in a random one of the eight orientations of a square."""

    def __init__(self, crop: int, min_scale: float = 1.0):
        self.crop = crop
        self.min_scale = min_scale

    def random_map(self, element: Batch, rng: np.random.Generator) -> Batch:
        image = np.asarray(element.clean)
        side = self.crop
        if self.min_scale < 1:
            largest = min(*image.shape[:2], int(self.crop / self.min_scale))
            side = round(math.exp(rng.uniform(math.log(self.crop), math.log(largest))))
        top, left = (rng.integers(length - side + 1) for length in image.shape[:2])
        image = image[top : top + side, left : left + side]
        if side > self.crop:
            image = cv2.resize(image, (self.crop, self.crop), interpolation=cv2.INTER_AREA)
            image = image.reshape(self.crop, self.crop, -1)
        image = np.rot90(image, int(rng.integers(4)))
        if rng.integers(2):
            image = image[:, ::-1]
        image = np.broadcast_to(image, (self.crop, self.crop, 3)).astype(np.float32)
        return Batch(image, element.modality)


def crops(
    images: Images,
    *,
    sides: Sequence[int],
    batch_size: int,
    seed: int,
    random_resized_crop_min_scale: float = 1.0,
    balance: bool = False,
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
      balance: every modality appears equally often, the images of rarer ones repeatedly.

    Returns:
      An iterator of `Batch`, `batch_size / processes` crops each; a grey image has three equal
      channels. `get_state` and `set_state` hold its position.

    Raises:
      DataError: if no image is as large as a side.
    """
    processes = jax.process_count()
    parts = []
    for number, side in enumerate(sides):
        large = _at_least(images, side)
        if not len(large):
            raise DataError(
                f"no training image is {side} pixels high and wide; remove {side} from "
                "--config.data.context_sizes, or add larger images"
            )
        parts.append(
            grain.MapDataset.source(_Shuffled(large, balance, seed + number))
            .seed(seed + number)
            .random_map(_RandomCrop(side, random_resized_crop_min_scale))
            .batch(batch_size // processes, drop_remainder=True)
        )
    dataset = parts[0] if len(parts) == 1 else grain.MapDataset.mix(parts)
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
    return iter(dataset.to_iter_dataset(options))


def _at_least(images: Images, side: int) -> Images:
    """Returns the images at least `side` high and wide."""
    return images.subset([index for index, size in enumerate(images.sizes) if min(size) >= side])
