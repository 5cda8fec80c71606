"""Trains the glare path of a two-path network: how much of an image's light is a veil.

Images are degraded with and without their veil, all else the same, and the path learns to make the
thumbnail of the one (`training.thumbnails`) that of the other. Only `DualPath.glare` is moved.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx

from lle_jax import data, degrade, models
from lle_jax.models import grid, thumbnail_paths
from lle_jax.models import veil as veils
from lle_jax.training import degradation, thumbnails

LAYER = thumbnail_paths.GLARE  # how its parameters' names begin
STAGE = "veiling_glare"
LIGHT = 0.4  # mean of the thumbnails that are compared, as images in good light have it
SMALL = 2e-4  # squared error that matters little
# A small square of a retina has nothing black either: with squares as the other paths have them,
# well-lit ones were taken to be veiled.
WHOLE, LEAST = 0.6, 0.15


class Thumbnails(NamedTuple):
    """Dark images with and without a veil, each `[N, CELLS, CELLS, C]` float32.

    Attributes:
      cells: of `grid.cell_means`, C = 6.
      without: those of the same degradation without veiling glare; the same where there is none.
    """

    cells: np.ndarray
    without: np.ndarray


def draw(images: data.Images, drawing: degradation.Draw, count: int, seed: int) -> Thumbnails:
    """Draws thumbnails, see `thumbnails.draw`; `drawing` has some veiling glare."""
    program = _program(drawing)
    return Thumbnails(*thumbnails.draw(images, program, count, seed, whole=WHOLE, least=LEAST))


@functools.lru_cache(maxsize=1)  # training and validation images follow each other
def _program(drawing: degradation.Draw) -> Callable:
    @jax.jit
    def make(key: jax.Array, batch: data.Batch) -> tuple[jax.Array, ...]:
        noise_key, parameters = drawing(key, batch)
        none = jnp.zeros_like(parameters[f"{STAGE}.active"])

        def cells(parameters: degrade.Parameters) -> jax.Array:
            low = degrade.apply(noise_key, parameters, jnp.asarray(batch.clean))
            return grid.cell_means(jnp.round(255 * low) / 255)  # as files have it

        return cells(parameters), cells(parameters | {f"{STAGE}.active": none})

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

    The loss is the mean over images of log(e + SMALL), with e the mean squared error of the
    thumbnail at a mean brightness of `LIGHT`, so that an image far off counts no more than one that
    is nearly right.

    Raises:
      ConfigError: if the network has no glare path.
    """

    def loss_of(net: Any, cells: jax.Array, without: jax.Array) -> jax.Array:
        veil = veils.measure(net.glare.veil(cells), cells)
        return jnp.mean(jnp.log(_squared_error(cells, veil, without) + SMALL))

    return thumbnails.fit(
        config, params, LAYER, loss_of, list(drawn), steps=steps, lr=lr, seed=seed
    )


class Judged(NamedTuple):
    """What became of thumbnails, `[N]` each.

    Attributes:
      before: mean squared error of the thumbnails as they are, at a mean of `LIGHT`.
      after: of what the network makes of them, by `veil.certain`.
      share: of the light that it took off, in [0, 1).
    """

    before: np.ndarray
    after: np.ndarray
    share: np.ndarray


def judge(config: ml_collections.ConfigDict, params: nnx.State, drawn: Thumbnails) -> Judged:
    """Compares thumbnails with those without a veil."""

    @jax.jit
    def compare(params: nnx.State, cells: jax.Array, without: jax.Array) -> tuple[jax.Array, ...]:
        veil = veils.certain(veils.measure(models.bind(config)(params).glare(cells), cells))
        none = jax.tree.map(jnp.zeros_like, veil)
        errors = [_squared_error(cells, each, without) for each in (none, veil)]
        return (*errors, veil.share[:, 0, 0, 0])

    size = thumbnails.BATCH
    parts = range(0, len(drawn.cells), size)
    made = [compare(params, *(a[first : first + size] for a in drawn)) for first in parts]
    return Judged(*map(np.concatenate, zip(*made, strict=True)))


def _squared_error(cells: jax.Array, veil: veils.Veil, without: jax.Array) -> jax.Array:
    result, truth = veils.lift(cells[..., :3], veil), without[..., :3]
    scale = LIGHT / jnp.maximum(jnp.mean(truth, axis=(1, 2, 3), keepdims=True), 1e-3)
    return jnp.mean((scale * (result - truth)) ** 2, axis=(1, 2, 3))
