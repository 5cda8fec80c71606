"""Objectives of a training step, by `config.loss.kind`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
from flax import nnx

from lle_jax import models
from lle_jax.checks import ConfigError
from lle_jax.training import context_crops, losses, uncertainty, zero_reference

KINDS = ("supervised", "zero_reference", "uncertainty")

Forward = Callable[[jax.Array, nnx.State, jax.Array, jax.Array], tuple[Any, jax.Array]]


class Objective(NamedTuple):
    """An objective of the parameters: `loss(*forward(key, params, low, clean))`.

    Attributes:
      forward: `(key, params, low, clean) -> (output, target)`, both images `[B, H, W, 3]`. `output`
        is whatever `loss` takes; `target` is `clean`, or the tile of it that `output` restores.
      loss: `(output, target) -> scalar`.
    """

    forward: Forward
    loss: Callable[[Any, jax.Array], jax.Array]


def of_displayed(loss: losses.Loss) -> losses.Loss:
    """Makes a loss of the image as it is displayed, clipped to [0, 1].

    An output darker than black is then no error where the target is black, so that noise around
    black need not be met exactly. The gradient passes the clipping as if it were the identity
    (Bengio, Leonard and Courville, arXiv:1308.3432, the straight-through estimator), so that an
    output that is clipped where it should not be still learns.
    """

    def displayed(image: jax.Array, target: jax.Array) -> jax.Array:
        return loss(image + jax.lax.stop_gradient(jnp.clip(image, 0, 1) - image), target)

    return displayed


def make(config: ml_collections.ConfigDict, apply: models.Apply) -> Objective:
    """Builds the objective that an experiment names.

    Args:
      config: the experiment.
      apply: its network, `(params, image) -> image`.

    Raises:
      ConfigError: for an unknown kind, or a loss or network that does not fit it.
    """
    tiled = models.tiled(config.model) if models.is_tiled(config.model) else None
    match config.loss.kind:
        case "supervised":
            loss = of_displayed(losses.make(config.loss))
            forward, restore = apply, tiled.restore if tiled else None
        case "zero_reference":
            forward, loss = zero_reference.make(config)
            restore = None
        case "uncertainty":
            forward, restore, loss = uncertainty.make(config)
        case kind:
            raise ConfigError(f"loss.kind is {kind!r}; expected one of {', '.join(KINDS)}")
    given = config.train.given_exposure
    if given and (tiled is None or restore is None):
        raise ConfigError(
            f"train.given_exposure is {given}, but {config.model.name} with loss.kind "
            f"{config.loss.kind} takes no exposure; only dual_path does"
        )
    if not given and set(config.data.context_sizes) <= {config.data.crop}:
        return Objective(lambda key, params, low, clean: (forward(params, low), clean), loss)
    return Objective(context_crops.make(config.data.crop, forward, tiled, restore, given), loss)
