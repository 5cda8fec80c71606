"""Objectives of a training step, by `config.loss.kind`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
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
            loss = losses.make(config.loss)
            forward, restore = apply, tiled.restore if tiled else None
        case "zero_reference":
            forward, loss = zero_reference.make(config)
            restore = None
        case "uncertainty":
            forward, restore, loss = uncertainty.make(config)
        case kind:
            raise ConfigError(f"loss.kind is {kind!r}; expected one of {', '.join(KINDS)}")
    if set(config.data.context_sizes) <= {config.data.crop}:
        return Objective(lambda key, params, low, clean: (forward(params, low), clean), loss)
    return Objective(context_crops.make(config.data.crop, forward, tiled, restore), loss)
