"""Trains the exposure path of a two-path network: how bright a dark image is to become.

That is a question about the thumbnail alone, so nothing is restored: dark versions of whole images
become thumbnails once, and each is then seen several times, in random orientations. Only
`DualPath.exposure` is moved; what the network makes of a brightness that it is told stays the same.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import cv2
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from flax import nnx

from lle_jax import colour, data, jobs, models
from lle_jax.checks import ConfigError
from lle_jax.models import dual_path, grid
from lle_jax.models import params as parameters
from lle_jax.training.degradation import Degrade

LAYER = "exposure."  # how its parameters' names begin
SIDE = 256  # pixels of the images that thumbnails are made of
WHOLE = 0.75  # of the thumbnails show the whole image, its sides made equal; the others a square
LEAST = 0.5  # of the image's shorter side, in such a square
SMALL = 0.03  # of the logarithm; below it, the loss is a square
BATCH, DRAWN = 64, 16  # thumbnails in a step, and images that are degraded together
WARMUP, EMA = 200, 0.998
WEIGHT_DECAY = 0.1


class Thumbnails(NamedTuple):
    """Dark images as the path sees them, and what it is to say of each.

    Attributes:
      cells: of `grid.cell_means`, `[N, CELLS, CELLS, 6]` float32.
      mean: mean luma (ITU-R BT.601) of the clean images, `[N]` float32 in [0, 1].
    """

    cells: np.ndarray
    mean: np.ndarray


def draw(images: data.Images, degrade: Degrade, count: int, seed: int) -> Thumbnails:
    """Draws about `count` thumbnails, equally many of each modality, in the order of the images.

    Args:
      images: clean ones, each decoded once.
      degrade: `(key, batch) -> low`, as of `training.degradation.make`.
      count: of thumbnails; of the images of a modality, each has equally many.
      seed: of the squares and the degradations.
    """
    thumbnails = _program(degrade)
    copies = _copies(images.modality_ids, count)
    cells, means = [], []
    for number, batch in enumerate(_batches(images, copies, np.random.default_rng(seed))):
        made = thumbnails(jax.random.fold_in(jax.random.key(seed), number), batch)
        cells.append(np.asarray(made[0]))
        means.append(np.asarray(made[1]))
    total = sum(copies)  # the last batch was filled up
    return Thumbnails(np.concatenate(cells)[:total], np.concatenate(means)[:total])


@functools.lru_cache(maxsize=1)  # training and validation images follow each other
def _program(degrade: Degrade) -> Callable[[jax.Array, data.Batch], tuple[jax.Array, jax.Array]]:
    @jax.jit
    def thumbnails(key: jax.Array, batch: data.Batch):
        low = jnp.round(255 * degrade(key, batch)) / 255  # as files have it
        return grid.cell_means(low), colour.mean_luma(jnp.asarray(batch.clean))[:, 0, 0, 0]

    return thumbnails


def _copies(modality_ids: np.ndarray, count: int) -> list[int]:
    """Says how often each image is drawn, so that modalities have equally many."""
    share = count / len(np.unique(modality_ids))
    return [math.ceil(share / np.sum(modality_ids == one)) for one in modality_ids]


def _batches(
    images: data.Images, copies: list[int], rng: np.random.Generator
) -> Iterator[data.Batch]:
    """Yields batches of `DRAWN` whole images and squares of them."""
    ids = images.modality_ids
    waiting: list[tuple[np.ndarray, int]] = []
    for place in jobs.track(range(len(images)), unit="image", description="thumbnails"):
        image = images[place]
        for number in range(copies[place]):
            waiting.append((_part(image, rng), ids[place]))
            last = place == len(images) - 1 and number == copies[place] - 1
            if len(waiting) == DRAWN or last:
                waiting += waiting[:1] * (DRAWN - len(waiting))  # one shape is compiled once
                clean, modality = zip(*waiting, strict=True)
                yield data.Batch(np.stack(clean), np.array(modality, np.int32))
                waiting = []


def _part(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the whole image or a square of it, `[SIDE, SIDE, 3]`."""
    if rng.random() >= WHOLE:
        side = max(1, round(min(image.shape[:2]) * rng.uniform(LEAST, 1)))
        top, left = (rng.integers(length - side + 1) for length in image.shape[:2])
        image = image[top : top + side, left : left + side]
    smaller = min(image.shape[:2]) > SIDE
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    image = cv2.resize(image, (SIDE, SIDE), interpolation=method).reshape(SIDE, SIDE, -1)
    return np.broadcast_to(image, (SIDE, SIDE, 3))


def fit(
    config: ml_collections.ConfigDict,
    params: nnx.State,
    thumbnails: Thumbnails,
    *,
    steps: int,
    lr: float,
    seed: int,
) -> nnx.State:
    """Trains the path on thumbnails in random orientations; returns the network's parameters.

    AdamW with a warm-up and cosine decay minimises the mean of sqrt(e^2 + SMALL^2), where e is the
    error of the logarithm of the mean luma; what is returned is the moving average.

    Args:
      config: of the network.
      params: its parameters, to start from.
      thumbnails: from `draw`.
      steps: of the training.
      lr: peak of the learning rate.
      seed: of the order and the orientations.

    Raises:
      ConfigError: if the network has no exposure path.
    """
    graph, path = nnx.split(_path(config, params))
    own = np.asarray(colour.mean_luma(jnp.asarray(thumbnails.cells[..., :3])))
    wanted = np.log(np.maximum(thumbnails.mean, 1e-3)) - np.log(np.maximum(own[:, 0, 0, 0], 1e-3))
    schedule = optax.warmup_cosine_decay_schedule(0.0, lr, min(WARMUP, steps // 5), steps)
    adamw = optax.adamw(schedule, weight_decay=WEIGHT_DECAY)

    def loss_of(path: nnx.State, cells: jax.Array, wanted: jax.Array) -> jax.Array:
        error = nnx.merge(graph, path).log_gain(cells)[:, 0, 0, 0] - wanted
        return jnp.mean(jnp.sqrt(error**2 + SMALL**2))

    @jax.jit
    def step(path, ema, state, number, cells, wanted, orientation):
        turns = [functools.partial(dual_path.turn, number=one) for one in range(8)]
        cells = jax.lax.switch(orientation, turns, cells)
        updates, state = adamw.update(jax.grad(loss_of)(path, cells, wanted), state, path)
        path = optax.apply_updates(path, updates)
        decay = jnp.minimum(EMA, (1 + number) / (10 + number))  # as that of training.train
        return path, optax.incremental_update(path, ema, 1 - decay), state

    rng = np.random.default_rng(seed)
    ema, state = path, adamw.init(path)
    for number in jobs.track(range(steps), unit="step", description="exposure"):
        chosen, orientation = rng.integers(len(wanted), size=BATCH), rng.integers(8)
        batch = thumbnails.cells[chosen], wanted[chosen], orientation
        path, ema, state = step(path, ema, state, number, *batch)
    moved = {f"{LAYER}{name}": leaf for name, leaf in parameters.named(ema)}
    leaves = [moved.get(name, leaf) for name, leaf in parameters.named(params)]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def log_error(
    config: ml_collections.ConfigDict, params: nnx.State, thumbnails: Thumbnails
) -> np.ndarray:
    """Computes the error of the logarithm of the predicted mean luma, `[N]`.

    Of a network without an exposure path, that of what its curves give.
    """
    finish = jax.jit(models.tiled(config).finish_context)
    errors = []
    for first in range(0, len(thumbnails.mean), BATCH):
        cells = thumbnails.cells[first : first + BATCH]
        grey = np.zeros((len(cells), 1, 1, 1), bool)
        exposure = np.asarray(finish(params, cells, grey).exposure)[:, 0, 0, 0]
        truth = np.maximum(thumbnails.mean[first : first + BATCH], 1e-3)
        errors.append(np.log(np.maximum(exposure, 1e-3)) - np.log(truth))
    return np.concatenate(errors)


def _path(config: ml_collections.ConfigDict, params: nnx.State) -> dual_path.ExposurePath:
    path = models.bind(config)(params).exposure if models.is_tiled(config) else None
    if path is None:
        raise ConfigError("model.exposure_path is not set; only such a network can be trained so")
    return path
