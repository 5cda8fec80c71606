"""AdamW with warm-up, cosine decay, gradient clipping and accumulation."""

import math

import ml_collections
import optax

from lle_jax import checks


def make(
    config: ml_collections.ConfigDict, steps: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Builds the optimiser that `config.optim` describes, for a run of `steps` steps.

    With `accumulate` k the parameters move at every k-th step, by the mean gradient of k batches:
    what a batch k times as large would do that memory does not hold. `warmup_steps` counts steps.

    Returns:
      The transformation, and its learning-rate schedule (step -> rate) for the log.

    Raises:
      checks.ConfigError: if a value is out of range; it names the field.
    """
    for name in ("lr", "weight_decay", "warmup_steps"):
        if not 0 <= config[name] < math.inf:
            raise checks.ConfigError(f"optim.{name} is {config[name]}; expected a number >= 0")
    if not config.clip_norm > 0:  # 0 would train nothing; infinity clips nothing
        raise checks.ConfigError(f"optim.clip_norm is {config.clip_norm}; expected a number > 0")
    if config.warmup_steps >= steps:
        raise checks.ConfigError(
            f"optim.warmup_steps is {config.warmup_steps}; expected less than train.steps ({steps})"
        )
    every = config.accumulate
    if not 1 <= every <= steps:
        raise checks.ConfigError(
            f"optim.accumulate is {every}; expected 1 to train.steps ({steps})"
        )
    if every > 1 and (steps % every or steps == every):  # the last steps would change nothing
        raise checks.ConfigError(
            f"optim.accumulate is {every}; expected a divisor of train.steps ({steps}) that leaves "
            "two updates or more"
        )
    if not 0 < config.b2 < 1:
        raise checks.ConfigError(f"optim.b2 is {config.b2}; expected a number in (0, 1)")
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.lr, config.warmup_steps, steps, end_value=0.01 * config.lr
    )
    optimiser = optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            lambda update: schedule(every * update), b2=config.b2, weight_decay=config.weight_decay
        ),
    )
    if every > 1:
        optimiser = optax.MultiSteps(optimiser, every).gradient_transformation()
    return optimiser, schedule
