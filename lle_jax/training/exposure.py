"""Trains the exposure path of a two-path network: how bright a dark image is to become.

That is a question about the thumbnail alone (`training.thumbnails`). Only `DualPath.exposure` is
moved; what the network makes of a brightness that it is told stays the same.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx

from lle_jax import colour, data, models
from lle_jax.checks import ConfigError
from lle_jax.models import grid, thumbnail_paths
from lle_jax.models import params as parameters
from lle_jax.training import thumbnails
from lle_jax.training.degradation import Degrade

LAYER = thumbnail_paths.EXPOSURE  # how its parameters' names begin
SMALL = 0.03  # of the logarithm; below it, the loss is a square


class Thumbnails(NamedTuple):
    """Dark images as the path sees them, and what it is to say of each.

    Attributes:
      cells: of `grid.cell_means`, `[N, CELLS, CELLS, 6]` float32.
      mean: mean luma (ITU-R BT.601) of the clean images, `[N]` float32 in [0, 1].
    """

    cells: np.ndarray
    mean: np.ndarray


def draw(images: data.Images, degrade: Degrade, count: int, seed: int) -> Thumbnails:
    """Draws thumbnails of dark images, each degraded by `degrade`; see `thumbnails.draw`."""
    return Thumbnails(*thumbnails.draw(images, _program(degrade), count, seed))


@functools.lru_cache(maxsize=1)  # training and validation images follow each other
def _program(degrade: Degrade) -> Callable:
    @jax.jit
    def make(key: jax.Array, batch: data.Batch) -> tuple[jax.Array, jax.Array]:
        low = jnp.round(255 * degrade(key, batch)) / 255  # as files have it
        return grid.cell_means(low), colour.mean_luma(jnp.asarray(batch.clean))[:, 0, 0, 0]

    return make


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

    The loss is the mean of sqrt(e^2 + SMALL^2), where e is the error of the logarithm of the mean
    luma.

    Raises:
      ConfigError: if the network has no exposure path.
    """
    _check(config)
    wanted = _wanted(drawn)

    def loss_of(net: Any, cells: jax.Array, wanted: jax.Array) -> jax.Array:
        error = net.exposure.log_gain(cells)[:, 0, 0, 0] - wanted
        return jnp.mean(jnp.sqrt(error**2 + SMALL**2))

    arrays = [drawn.cells], [wanted]
    return thumbnails.fit(config, params, LAYER, loss_of, *arrays, steps=steps, lr=lr, seed=seed)


def calibrate(config: ml_collections.ConfigDict, params: nnx.State, drawn: Thumbnails) -> nnx.State:
    """Fits a line to what the path predicts, in its last layer; returns the network's parameters.

    The line is that of least squares, from the predicted logarithm of the change of the mean luma
    to the wanted one: two numbers, which a few dozen images suffice for.

    Raises:
      ConfigError: if the network has no exposure path.
    """
    _check(config)
    wanted = _wanted(drawn)
    predicted = wanted + log_error(config, params, drawn)
    alike = np.std(predicted) < 1e-3  # no line can be laid through them
    slope, shift = (1.0, np.mean(wanted - predicted)) if alike else np.polyfit(predicted, wanted, 1)
    line = {f"{LAYER}output.kernel": (slope, 0.0), f"{LAYER}output.bias": (slope, shift)}
    leaves = [
        leaf * np.float32(line[name][0]) + np.float32(line[name][1]) if name in line else leaf
        for name, leaf in parameters.named(params)
    ]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def log_error(
    config: ml_collections.ConfigDict, params: nnx.State, drawn: Thumbnails
) -> np.ndarray:
    """Computes the error of the logarithm of the predicted mean luma, `[N]`.

    Of a network without an exposure path, that of what its curves give.
    """
    finish = jax.jit(models.tiled(config).finish_context)
    errors = []
    for first in range(0, len(drawn.mean), thumbnails.BATCH):
        cells = drawn.cells[first : first + thumbnails.BATCH]
        grey = np.zeros((len(cells), 1, 1, 1), bool)
        exposure = np.asarray(finish(params, cells, grey).exposure)[:, 0, 0, 0]
        errors.append(_log(exposure) - _log(drawn.mean[first : first + thumbnails.BATCH]))
    return np.concatenate(errors)


def _check(config: ml_collections.ConfigDict) -> None:
    if not (models.is_tiled(config) and config.exposure_path):
        raise ConfigError("model.exposure_path is not set; only such a network can be trained so")


def _wanted(drawn: Thumbnails) -> np.ndarray:
    """Returns the logarithm of the wanted change of the mean luma, `[N]`."""
    own = colour.mean_luma(jnp.asarray(drawn.cells[..., :3]))
    return _log(drawn.mean) - _log(np.asarray(own)[:, 0, 0, 0])


def _log(mean: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(mean, 1e-3))
