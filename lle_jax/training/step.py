"""One update: degrade the clean crops, enhance them, move the parameters."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from lle_jax import data
from lle_jax.training import augment, losses, sharding
from lle_jax.training import context_crops as views
from lle_jax.training.state import TrainState

Degrade = Callable[[jax.Array, data.Batch], jax.Array]
Step = Callable[[TrainState, data.Batch], tuple[TrainState, dict[str, jax.Array]]]


def make(
    apply: Callable,
    degrade: Degrade,
    loss: losses.Loss,
    optimiser: optax.GradientTransformation,
    schedule: optax.Schedule,
    ema_decay: float,
    mesh: Mesh,
    cut: views.Cut | None = None,
    augmented: float = 0.0,
) -> Step:
    """Returns the jitted `step(state, batch) -> (state, scalars)`.

    Args:
      apply: `(params, image) -> image`.
      degrade: `(key, batch) -> low`.
      loss: `(enhanced, clean) -> scalar`.
      optimiser: of the parameters.
      schedule: step -> learning rate, for the log.
      ema_decay: of the average, in [0, 1); it warms up as (1 + step) / (10 + step) (Adam et al.,
        tf.train.ExponentialMovingAverage), so that early averages forget the initialisation.
      mesh: the devices. The batch is split over them, image by image; the state is whole on
        each. The result does not depend on their number.
      cut: restores a crop of each view (see `views`); None restores all of it by `apply`.
      augmented: fraction of the clean images that are changed first, see `augment`.
    """

    def step(state: TrainState, batch: data.Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        if augmented:
            clean = augment.random(jax.random.fold_in(key, 4), batch.clean, augmented)
            batch = batch._replace(clean=clean)
        low = degrade(key, batch)

        def objective(params) -> jax.Array:
            if cut is None:
                return loss(apply(params, low), batch.clean)
            return loss(*cut(jax.random.fold_in(key, 3), params, low, batch.clean))

        value, gradients = jax.value_and_grad(objective)(state.params)
        updates, opt_state = optimiser.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
        ema = optax.incremental_update(params, state.ema, 1 - decay)
        scalars = {
            "loss": value,
            "gradient_norm": optax.tree.norm(gradients),
            "learning_rate": schedule(state.step),
        }
        return TrainState(state.step + 1, params, ema, opt_state, state.key), scalars

    whole = sharding.replicated(mesh)
    return jax.jit(
        step,
        in_shardings=(whole, sharding.split_batch(mesh)),
        out_shardings=whole,
        donate_argnums=0,
    )
