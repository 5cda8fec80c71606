"""Random crops of clean images, batched by grain; the iterator's position can be saved.

Degradation is not done here: it runs on the accelerator, inside the training step.
"""

import grain
import jax
import numpy as np

from lle_jax.data.sources import Images


class _RandomCrop(grain.transforms.RandomMap):
    """A random square crop in a random one of the eight orientations of a square."""

    def __init__(self, crop: int):
        self.crop = crop

    def random_map(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        top, left = (rng.integers(side - self.crop + 1) for side in image.shape[:2])
        image = image[top : top + self.crop, left : left + self.crop]
        image = np.rot90(image, rng.integers(4))
        if rng.integers(2):
            image = image[:, ::-1]
        return np.broadcast_to(image, (self.crop, self.crop, 3)).astype(np.float32)


def crops(images: Images, *, crop: int, batch_size: int, seed: int) -> grain.DatasetIterator:
    """An endless iterator over batches of random crops.

    Every image appears once before any appears again, in a new order each time. Each of several
    processes gets its own images and its share of the batch.

    Args:
      images: the training images, each at least `crop` high and wide.
      crop: side in pixels.
      batch_size: crops per batch over all processes, a multiple of their number.
      seed: of the order, the positions and the orientations.

    Returns:
      An iterator of float32 `[batch_size / processes, crop, crop, 3]` in [0, 1]; a grey image has
      three equal channels. `get_state` and `set_state` hold its position.
    """
    processes = jax.process_count()
    dataset = (
        grain.MapDataset.source(images)
        .slice(slice(jax.process_index(), None, processes))
        .seed(seed)
        .shuffle()
        .repeat()
        .random_map(_RandomCrop(crop))
        .batch(batch_size // processes, drop_remainder=True)
    )
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
    return iter(dataset.to_iter_dataset(options))
