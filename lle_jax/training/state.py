"""The training state: one pytree with all that changes from step to step."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a run needs to resume.

    Attributes:
      step: number of updates done, int32 scalar.
      params: the parameters that the optimiser moves.
      ema: their exponential moving average: what is validated, evaluated and released.
      opt_state: the optimiser's state.
      key: data of the random key of the run; step k uses it folded with k.
    """

    step: jax.Array
    params: nnx.State
    ema: nnx.State
    opt_state: Any  # optax.OptState, whose recursive alias documentation tools cannot resolve
    key: jax.Array


def create(
    params: nnx.State, optimiser: optax.GradientTransformation, key: jax.Array
) -> TrainState:
    """Makes the state before the first step; the average starts at the parameters."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema=jax.tree.map(jnp.copy, params),
        opt_state=optimiser.init(params),
        key=jax.random.key_data(key),
    )
