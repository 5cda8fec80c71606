"""AdamW with warm-up, cosine decay and gradient clipping."""

import ml_collections
import optax

from lle_jax import checks


def make(
    config: ml_collections.ConfigDict, steps: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Builds the optimiser that `config.optim` describes, for a run of `steps` steps.

    Returns:
      The transformation, and its learning-rate schedule (step -> rate) for the log.

    Raises:
      checks.ConfigError: if a value is out of range; it names the field.
    """
    for name, low in (("lr", 0), ("weight_decay", 0), ("clip_norm", 0), ("warmup_steps", 0)):
        if not config[name] >= low:
            raise checks.ConfigError(f"optim.{name} is {config[name]}; expected a number >= {low}")
    if config.warmup_steps >= steps:
        raise checks.ConfigError(
            f"optim.warmup_steps is {config.warmup_steps}; expected less than train.steps ({steps})"
        )
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.lr, config.warmup_steps, steps, end_value=0.01 * config.lr
    )
    optimiser = optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(schedule, b2=0.99, weight_decay=config.weight_decay),
    )
    return optimiser, schedule
