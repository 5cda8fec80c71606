"""The whole training loop on one page; fork it rather than subclass it."""

import dataclasses
import functools
import itertools
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import tqdm

from lle_jax import data, degrade, metrics, models
from lle_jax.clock import Clock
from lle_jax.training import losses, optimiser, sharding, state, step, zero_reference
from lle_jax.training.checkpoints import Checkpoints
from lle_jax.training.log import Log

MAX_VALIDATION = 16  # central crops that are validated on, one per image


class TrainingError(ValueError):
    """Training cannot go on; the message says what to change."""


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a configuration stands for, before any data is seen.

    Attributes:
      mesh: the devices.
      apply: the network, `(params, image) -> image`.
      degrade: `(key, clean) -> low`, with parameters drawn for every image.
      optimiser, schedule: of the parameters, and its learning rate by step.
      state: as a run starts.
    """

    mesh: jax.sharding.Mesh
    apply: models.Apply
    degrade: step.Degrade
    optimiser: optax.GradientTransformation
    schedule: optax.Schedule
    state: state.TrainState


def prepare(config: ml_collections.ConfigDict) -> Setup:
    """Builds what `config` names; raises checks.ConfigError or degrade.PresetError."""
    mesh = sharding.make_mesh()
    preset = degrade.load(config.degradation.preset)
    init_key, run_key = jax.random.split(jax.random.key(config.seed))
    update, schedule = optimiser.make(config.optim, config.train.steps)
    apply, params = models.build(config.model, init_key)
    start = state.create(params, update, run_key)
    return Setup(
        mesh,
        apply,
        functools.partial(random_degradation, preset),
        update,
        schedule,
        jax.device_put(start, sharding.replicated(mesh)),
    )


def train(
    config: ml_collections.ConfigDict,
    setup: Setup,
    resume: tuple[state.TrainState, dict] | None,
    splits: data.Splits,
    workdir: Path,
    clock: Clock,
) -> state.TrainState:
    """Trains to `config.train.steps` and returns the last state.

    Args:
      config: the experiment.
      setup: from `prepare`.
      resume: the state and the data iterator's position to go on from; None starts anew.
      splits: the images.
      workdir: the run directory.
      clock: adds up the time of each phase.
    """
    with clock("set-up"):
        iterator = data.crops(
            splits.train, crop=config.data.crop, batch_size=config.data.batch_size, seed=config.seed
        )
        current = setup.state
        if resume is not None:
            current, position = resume
            iterator.set_state(position)
        start = int(current.step)
    if start >= config.train.steps:
        return current
    with clock("compile"):
        validate = _validation(splits.validation, config, setup)
        apply = setup.apply
        if config.loss.get("kind") == "zero_reference":
            apply, loss = zero_reference.make(config)
        else:
            loss = losses.make(config.loss)
        update_step = step.make(
            apply,
            setup.degrade,
            loss,
            setup.optimiser,
            setup.schedule,
            config.optim.ema_decay,
            setup.mesh,
        )
        shape = (config.data.batch_size, config.data.crop, config.data.crop, 3)
        whole = sharding.split_batch(setup.mesh)
        example = jax.ShapeDtypeStruct(shape, np.float32, sharding=whole)
        update_step = update_step.lower(current, example).compile()

    checkpoints = Checkpoints(workdir / "checkpoints")
    bar = tqdm.tqdm(total=config.train.steps, initial=start, desc="train", unit="step")
    bar.mininterval = 0.1 if sys.stderr.isatty() else 30
    with checkpoints, Log(workdir, start) as log, bar:
        since, at = start, time.perf_counter()
        for number in range(start + 1, config.train.steps + 1):
            with clock("data"):
                batch = next(iterator)
            with clock("train"):
                batch = sharding.to_devices(batch, setup.mesh)
                # Only batches may move to the device, and only as said above.
                with jax.transfer_guard_host_to_device("disallow"):
                    current, scalars = update_step(current, batch)
                jax.block_until_ready(scalars)
            bar.update()
            last = number == config.train.steps
            if last or number % config.train.log_every == 0:
                values = {name: float(value) for name, value in scalars.items()}
                if not np.isfinite(values["loss"]):
                    raise TrainingError(
                        f"the loss is {values['loss']} at step {number}: set --config.optim.lr "
                        f"below {config.optim.lr:g} and a new --workdir"
                    )
                now = time.perf_counter()
                speed = (number - since) * config.data.batch_size / (now - at)
                since, at = number, now
                bar.set_postfix_str(f"loss {values['loss']:.4f}, {speed:.0f} images/s", False)
                if last or number % config.train.validate_every == 0:
                    with clock("validate"):
                        values |= validate(current.ema, log, number)
                log.scalars(number, images_per_second=speed, **values)
            if last or number % config.train.checkpoint_every == 0:
                with clock("save"):
                    checkpoints.save(current, iterator.get_state(), config.to_dict())
        with clock("save"):
            checkpoints.close()
    return current


def random_degradation(preset, key: jax.Array, clean: jax.Array) -> jax.Array:
    """Degrades every image of a batch with its own parameters, drawn from the preset."""
    draw, noise = jax.random.split(key)
    parameters = degrade.sample(draw, preset, clean.shape[:-3])
    return degrade.apply(noise, parameters, clean)


def _validation(images: data.Images, config: ml_collections.ConfigDict, setup: Setup):
    """Returns `validate(params, log, step) -> scalars` over the images' central crops."""
    crop = config.data.crop
    centres = []
    for image in itertools.islice(images, MAX_VALIDATION):
        top, left = ((side - crop) // 2 for side in image.shape[:2])
        image = image[top : top + crop, left : left + crop]
        centres.append(np.broadcast_to(image, (crop, crop, 3)))
    clean = np.stack(centres)
    low = jax.device_get(jax.jit(setup.degrade)(jax.random.key(config.evaluation.seed), clean))

    @jax.jit
    def measure(params, low, clean):
        enhanced = jnp.clip(setup.apply(params, low), 0, 1)
        return enhanced, metrics.psnr(enhanced, clean).mean(), metrics.ssim(enhanced, clean).mean()

    def validate(params, log: Log, step: int) -> dict[str, float]:
        enhanced, psnr, ssim = jax.device_get(measure(params, low, clean))
        log.grid(step, [low, enhanced, clean])
        return {"validation_psnr": float(psnr), "validation_ssim": float(ssim)}

    return validate
