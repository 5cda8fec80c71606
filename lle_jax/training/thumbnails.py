"""Trains the small paths that see thumbnails alone: nothing is restored at each step.

Dark versions of whole images become thumbnails once, and each is then seen several times, in random
orientations.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from flax import nnx

from lle_jax import data, jobs, models
from lle_jax.checks import ConfigError
from lle_jax.models import params as parameters
from lle_jax.models import thumbnail_paths

SIDE = 256  # pixels of the images that thumbnails are made of
WHOLE = 0.75  # of the thumbnails show the whole image, its sides made equal; the others a square
LEAST = 0.5  # of the image's shorter side, in such a square
BATCH, DRAWN = 64, 16  # thumbnails in a step, and images that are degraded together
WARMUP, EMA = 200, 0.998
WEIGHT_DECAY, CLIP = 0.1, 1.0


def draw(
    images: data.Images,
    make: Callable[[jax.Array, data.Batch], Sequence[jax.Array]],
    count: int,
    seed: int,
    *,
    whole: float | None = None,
    least: float | None = None,
) -> list[np.ndarray]:
    """Draws about `count` thumbnails, equally many of each modality, in the order of the images.

    Args:
      images: clean ones, each decoded once.
      make: compiled; what is kept of a batch, arrays of as many rows.
      count: of thumbnails; of the images of a modality, each has equally many.
      seed: of the squares and the degradations.
      whole: share of the thumbnails that show the whole image, in place of `WHOLE`.
      least: of the image's shorter side in the squares that the others show, in place of `LEAST`.
    """
    copies = _copies(images.modality_ids, count)
    made = []
    part = functools.partial(
        _part,
        rng=np.random.default_rng(seed),
        whole=WHOLE if whole is None else whole,
        least=LEAST if least is None else least,
    )
    for number, batch in enumerate(_batches(images, copies, part)):
        key = jax.random.fold_in(jax.random.key(seed), number)
        made.append([np.asarray(part) for part in make(key, batch)])
    total = sum(copies)  # the last batch was filled up
    return [np.concatenate(parts)[:total] for parts in zip(*made, strict=True)]


def _copies(modality_ids: np.ndarray, count: int) -> list[int]:
    """Says how often each image is drawn, so that modalities have equally many."""
    share = count / len(np.unique(modality_ids))
    return [math.ceil(share / np.sum(modality_ids == one)) for one in modality_ids]


def _batches(
    images: data.Images, copies: list[int], part: Callable[[np.ndarray], np.ndarray]
) -> Iterator[data.Batch]:
    """Yields batches of `DRAWN` whole images and squares of them, as `part` gives them."""
    ids = images.modality_ids
    waiting: list[tuple[np.ndarray, int]] = []
    for place in jobs.track(range(len(images)), unit="image", description="thumbnails"):
        image = images[place]
        for number in range(copies[place]):
            waiting.append((part(image), ids[place]))
            last = place == len(images) - 1 and number == copies[place] - 1
            if len(waiting) == DRAWN or last:
                waiting += waiting[:1] * (DRAWN - len(waiting))  # one shape is compiled once
                clean, modality = zip(*waiting, strict=True)
                yield data.Batch(np.stack(clean), np.array(modality, np.int32))
                waiting = []


def _part(image: np.ndarray, rng: np.random.Generator, whole: float, least: float) -> np.ndarray:
    """Returns the whole image or a square of it, `[SIDE, SIDE, 3]`."""
    if rng.random() >= whole:
        side = max(1, round(min(image.shape[:2]) * rng.uniform(least, 1)))
        top, left = (rng.integers(length - side + 1) for length in image.shape[:2])
        image = image[top : top + side, left : left + side]
    smaller = min(image.shape[:2]) > SIDE
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    image = cv2.resize(image, (SIDE, SIDE), interpolation=method).reshape(SIDE, SIDE, -1)
    return np.broadcast_to(image, (SIDE, SIDE, 3))


def fit(
    config: ml_collections.ConfigDict,
    params: nnx.State,
    prefix: str,
    loss_of: Callable[..., jax.Array],
    squares: Sequence[np.ndarray],
    others: Sequence[np.ndarray] = (),
    *,
    steps: int,
    lr: float,
    seed: int,
) -> nnx.State:
    """Minimises `loss_of(network, *squares, *others)` over the parameters of one path.

    AdamW with clipped gradients, a warm-up and cosine decay, on thumbnails in random orientations;
    what is returned is the moving average.

    Args:
      config: of the network.
      params: of the network.
      prefix: how the names of the path's parameters begin; the others stay as they are.
      loss_of: a mean over a batch.
      squares: `[N, n, n, C]`, turned together.
      others: `[N, ...]`, not turned.
      steps: of the training.
      lr: peak of the learning rate.
      seed: of the order and the orientations.

    Raises:
      ConfigError: if the network has no such path.
    """
    check(config, prefix)
    schedule = optax.warmup_cosine_decay_schedule(0.0, lr, min(WARMUP, steps // 5), steps)
    adamw = optax.chain(
        optax.clip_by_global_norm(CLIP), optax.adamw(schedule, weight_decay=WEIGHT_DECAY)
    )
    turns = [functools.partial(_turn_all, number=one) for one in range(thumbnail_paths.TURNS)]

    bind = models.bind(config)

    def objective(path: dict[str, jax.Array], *arrays: jax.Array) -> jax.Array:
        return loss_of(bind(_replaced(params, path)), *arrays)

    @jax.jit
    def step(path, ema, state, number, orientation, squares, others):
        squares = jax.lax.switch(orientation, turns, squares)
        updates, state = adamw.update(jax.grad(objective)(path, *squares, *others), state, path)
        path = optax.apply_updates(path, updates)
        decay = jnp.minimum(EMA, (1 + number) / (10 + number))  # as that of training.train
        return path, optax.incremental_update(path, ema, 1 - decay), state

    rng = np.random.default_rng(seed)
    named = dict(parameters.named(params))
    path = {name: jnp.asarray(leaf) for name, leaf in named.items() if name.startswith(prefix)}
    ema, state = path, adamw.init(path)
    for number in jobs.track(range(steps), unit="step", description=prefix.rstrip(".")):
        chosen, orientation = rng.integers(len(squares[0]), size=BATCH), rng.integers(len(turns))
        batch = [[array[chosen] for array in arrays] for arrays in (squares, others)]
        path, ema, state = step(path, ema, state, number, orientation, *batch)
    return _replaced(params, ema)


def check(config: ml_collections.ConfigDict, prefix: str) -> None:
    """Raises ConfigError if the network has no path whose parameters' names begin so."""
    key = f"{prefix.rstrip('.')}_path"
    if not (models.is_tiled(config) and config[key]):
        raise ConfigError(f"model.{key} is not set; only such a network can be trained so")


def _turn_all(arrays: list[jax.Array], number: int) -> list[jax.Array]:
    return [thumbnail_paths.turn(array, number) for array in arrays]


def _replaced(params: nnx.State, moved: dict[str, Any]) -> nnx.State:
    leaves = [moved.get(name, leaf) for name, leaf in parameters.named(params)]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)
