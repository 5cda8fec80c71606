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
import scipy
from flax import nnx

from lle_jax import colour, data, models
from lle_jax.models import grid, thumbnail_paths
from lle_jax.models import params as parameters
from lle_jax.training import thumbnails
from lle_jax.training.degradation import Degrade

LAYER = thumbnail_paths.EXPOSURE  # how its parameters' names begin
SMALL = 0.03  # of the logarithm; below it, the loss is a square
# Of `calibrate`, in thumbnails: with 0.3 to 3, the brightness of images from the same clinics that
# it had not seen was best.
RIDGE = 1.0


class Thumbnails(NamedTuple):
    """Dark images as the path sees them, and what it is to say of each.

    Attributes:
      cells: of `grid.cell_means`, `[N, CELLS, CELLS, 6]` float32.
      mean: mean luma (ITU-R BT.601) of the clean images, `[N]` float32 in [0, 1].
    """

    cells: np.ndarray
    mean: np.ndarray


def draw(
    config: ml_collections.ConfigDict,
    params: nnx.State,
    images: data.Images,
    degrade: Degrade,
    count: int,
    seed: int,
) -> Thumbnails:
    """Draws thumbnails of dark images, each degraded by `degrade`; see `thumbnails.draw`.

    Args:
      config: of the network.
      params: of the network, which sees the images without veil and tint.
      images: clean ones.
      degrade: `(key, batch) -> low`, as of `training.degradation.make`.
      count: of thumbnails.
      seed: of the squares and the degradations.
    """
    program = _program(ml_collections.FrozenConfigDict(config), degrade)
    make = functools.partial(program, params)
    return Thumbnails(*thumbnails.draw(images, make, count, seed))


@functools.lru_cache(maxsize=1)  # training and validation images follow each other
def _program(config: ml_collections.FrozenConfigDict, degrade: Degrade) -> Callable:
    bind = models.bind(config)

    @jax.jit
    def make(params: nnx.State, key: jax.Array, batch: data.Batch) -> tuple[jax.Array, jax.Array]:
        low = jnp.round(255 * degrade(key, batch)) / 255  # as files have it
        cells = bind(params).see(grid.cell_means(low), colour.is_grey(low))[0]
        return cells, colour.mean_luma(jnp.asarray(batch.clean))[:, 0, 0, 0]

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

    What `calibrate` fitted before is dropped. The loss is the mean of sqrt(e^2 + SMALL^2), where e
    is the error of the logarithm of the mean luma.

    Raises:
      ConfigError: if the network has no exposure path.
    """
    own = np.asarray(colour.mean_luma(jnp.asarray(drawn.cells[..., :3])))[:, 0, 0, 0]
    wanted = _log(drawn.mean) - _log(own)

    def loss_of(net: Any, cells: jax.Array, wanted: jax.Array) -> jax.Array:
        error = net.exposure.log_gain(cells)[:, 0, 0, 0] - wanted
        return jnp.mean(jnp.sqrt(error**2 + SMALL**2))

    arrays = [drawn.cells], [wanted]
    params = _with_clinic(params, 0.0, 0.0)
    return thumbnails.fit(config, params, LAYER, loss_of, *arrays, steps=steps, lr=lr, seed=seed)


def calibrate(
    config: ml_collections.ConfigDict, params: nnx.State, clinic: Thumbnails, others: Thumbnails
) -> nnx.State:
    """Fits to a clinic's images how bright its dark ones become; returns the network's parameters.

    A clinic's devices lack about the same light each time, so that its dark images can be
    brightened by what they lack, where others' cannot. What the path predicts, in the logarithm,
    gets p c more, of the features of its last layer. The probability p that an image is one of
    those is logistic regression (Cox, JRSS B 1958), penalised by half the square of the weights
    of features whose variance is 1. What then lacks, c, is ridge regression (Hoerl and Kennard,
    Technometrics 1970, equation 2.1), of features scaled to a mean square of 1 together. What is
    unlike the clinic's images, in good light above all, is predicted as before.

    Args:
      config: of the network.
      params: of the network; what an earlier call fitted is replaced.
      clinic: dark images as the clinic has them.
      others: about as many, of other light and good light.

    Raises:
      ConfigError: if the network has no exposure path.
    """
    thumbnails.check(config, LAYER)
    params = _with_clinic(params, 0.0, 0.0)
    path = models.bind(config)(params).exposure
    missing = _log(clinic.mean) - _log(_in_batches(jax.jit(path), clinic.cells)[:, 0, 0, 0])
    see = jax.jit(path.features)
    known, unknown = (_in_batches(see, part.cells).astype(np.float64) for part in (clinic, others))
    centre, scale = known.mean(axis=0), _scale(known) * np.sqrt(known.shape[1])
    x = (known - centre) / scale
    lacking = np.linalg.solve(x.T @ x + RIDGE * np.eye(len(scale)), x.T @ missing) / scale
    both = np.concatenate([known, unknown])
    middle, spread = both.mean(axis=0), _scale(both)
    weights = _logistic((both - middle) / spread, np.arange(len(both)) < len(known))
    familiar = weights[1:] / spread
    bias = np.array([weights[0] - middle @ familiar, np.mean(missing) - centre @ lacking])
    return _with_clinic(params, np.stack([familiar, lacking], axis=1), bias)


def _scale(features: np.ndarray) -> np.ndarray:
    """Standard deviations, none of those that hardly vary below a hundredth of the middle one."""
    deviation = features.std(axis=0)
    return np.maximum(deviation, 1e-2 * np.median(deviation) + 1e-6)


def _logistic(x: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The constant, which is not penalised, and the weights of logistic regression."""
    rows = np.column_stack([np.ones(len(x)), x])
    signed = np.where(label, 1.0, -1.0)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = signed * (rows @ weights)
        slope = -signed * scipy.special.expit(-margin)
        penalty = np.append(0.0, weights[1:])
        return np.logaddexp(0, -margin).sum() + penalty @ penalty / 2, rows.T @ slope + penalty

    start = np.zeros(rows.shape[1])
    found = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", tol=1e-10)
    return found.x


def _with_clinic(
    params: nnx.State, kernel: np.ndarray | float, bias: np.ndarray | float
) -> nnx.State:
    new = {f"{LAYER}clinic.kernel": kernel, f"{LAYER}clinic.bias": bias}
    leaves = [
        jnp.full(leaf.shape, new[name], leaf.dtype) if name in new else leaf
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

    def predict(cells: np.ndarray) -> jax.Array:
        grey = np.zeros((len(cells), 1, 1, 1), bool)
        return finish(params, cells, grey).exposure[:, 0, 0, 0]

    return _log(_in_batches(predict, drawn.cells)) - _log(drawn.mean)


def _in_batches(function: Callable[[np.ndarray], jax.Array], cells: np.ndarray) -> np.ndarray:
    starts = range(0, len(cells), thumbnails.BATCH)
    return np.concatenate([function(cells[first : first + thumbnails.BATCH]) for first in starts])


def _log(mean: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(mean, 1e-3))
