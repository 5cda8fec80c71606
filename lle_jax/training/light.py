"""Trains the light path of a two-path network: what is still uneven in its result, or has a cast.

The network restores dark versions of whole images once, each at a brightness that it is told, and
the path learns by how thumbnails (`training.thumbnails`) of the results differ from the truth's.
Only `DualPath.light` is moved.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx

from lle_jax import colour, data, models
from lle_jax.models import dual_path, grid, thumbnail_paths
from lle_jax.training import context_crops, thumbnails
from lle_jax.training.degradation import Degrade

LAYER = thumbnail_paths.LIGHT  # how its parameters' names begin
TOLD = 0.5  # of the images have another amount of light as their target
SMALL = 2e-4  # squared error that matters little
WHITE = 0.98


class Thumbnails(NamedTuple):
    """Dark images and what the network makes of them, each `[N, CELLS, CELLS, C]` float32.

    Attributes:
      cells: of `grid.cell_means`, C = 6, as the path sees them.
      bright: their colours as the curves brighten them.
      restored: the colours of the network's result.
      truth: those of the clean image, with the light that the network was told.
    """

    cells: np.ndarray
    bright: np.ndarray
    restored: np.ndarray
    truth: np.ndarray


def draw(
    config: ml_collections.ConfigDict,
    params: nnx.State,
    images: data.Images,
    degrade: Degrade,
    count: int,
    seed: int,
) -> Thumbnails:
    """Draws thumbnails; see `thumbnails.draw`.

    Args:
      config: of a network whose light path has learned nothing yet.
      params: its parameters.
      images: clean ones.
      degrade: `(key, batch) -> low`, as of `training.degradation.make`.
      count: of thumbnails.
      seed: of the squares and the degradations.
    """
    return Thumbnails(*thumbnails.draw(images, _program(config, params, degrade), count, seed))


def _program(config: ml_collections.ConfigDict, params: nnx.State, degrade: Degrade) -> Callable:
    tiled, bind = models.tiled(config), models.bind(config)

    @jax.jit
    def make(params: nnx.State, key: jax.Array, batch: data.Batch) -> tuple[jax.Array, ...]:
        low = jnp.round(255 * degrade(key, batch)) / 255  # as files have it
        clean = jnp.asarray(batch.clean)
        truth, mean = context_crops.told(jax.random.fold_in(key, 1), clean, TOLD)
        mean = jnp.where(jnp.isnan(mean), colour.mean_luma(clean), mean)
        context = tiled.compute_context(params, low, mean)
        restored = jnp.clip(tiled.restore(params, low, context), 0, 1)
        cells = bind(params).see(grid.cell_means(low), colour.is_grey(low))[0]
        bright = dual_path.thumbnail(context.curves, cells[..., :3])
        return cells, bright, grid.cell_means(restored)[..., :3], grid.cell_means(truth)[..., :3]

    return lambda key, batch: make(params, key, batch)


def fit(
    config: ml_collections.ConfigDict,
    params: nnx.State,
    drawn: Thumbnails,
    *,
    steps: int,
    lr: float,
    seed: int,
) -> nnx.State:
    """Trains the path by `thumbnails.fit`; returns the network's parameters.

    The loss is the mean over images of log(e + SMALL), with e the mean squared error of the
    result's thumbnail, so that an image far off counts no more than one that is nearly right.

    Raises:
      ConfigError: if the network has no light path.
    """

    def loss_of(net: Any, cells, bright, restored, truth) -> jax.Array:
        result = dual_path.relit(restored, net.light.log_gain(cells, bright))
        result = jnp.where(truth >= WHITE, jnp.minimum(result, 1), result)  # files clip it
        return jnp.mean(jnp.log(_squared_error(result, truth) + SMALL))

    return thumbnails.fit(
        config, params, LAYER, loss_of, list(drawn), steps=steps, lr=lr, seed=seed
    )


def squared_error(
    config: ml_collections.ConfigDict, params: nnx.State, drawn: Thumbnails
) -> np.ndarray:
    """Computes the mean squared error of the result's thumbnails, `[N]`."""

    @jax.jit
    def error(params: nnx.State, cells, bright, restored, truth) -> jax.Array:
        log_gain = models.bind(config)(params).light(cells, bright)
        return _squared_error(jnp.clip(dual_path.relit(restored, log_gain), 0, 1), truth)

    size = thumbnails.BATCH
    parts = range(0, len(drawn.cells), size)
    return np.concatenate([error(params, *(a[i : i + size] for a in drawn)) for i in parts])


def _squared_error(result: jax.Array, truth: jax.Array) -> jax.Array:
    return jnp.mean((result - truth) ** 2, axis=(1, 2, 3))
