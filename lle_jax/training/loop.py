"""The whole training loop on one page; fork it rather than subclass it."""

import functools
import time
from pathlib import Path

import jax
import ml_collections
import numpy as np
import tqdm

from lle_jax import data, degrade, metrics, models
from lle_jax.clock import Clock
from lle_jax.training import losses, optimiser, sharding, state, step
from lle_jax.training.checkpoints import Checkpoints
from lle_jax.training.log import Log


class TrainingError(ValueError):
    """Training cannot go on; the message says what to change."""


def initialise(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh):
    """Returns `(apply, optimiser, schedule, state)` as a run of this configuration starts."""
    init_key, run_key = jax.random.split(jax.random.key(config.seed))
    apply, params = models.build(config.model, init_key)
    update, schedule = optimiser.make(config.optim, config.train.steps)
    start = state.create(params, update, run_key)
    return apply, update, schedule, jax.device_put(start, sharding.replicated(mesh))


def train(
    config: ml_collections.ConfigDict, splits: data.Splits, workdir: Path, clock: Clock
) -> tuple[models.Apply, state.TrainState]:
    """Trains to `config.train.steps`, resuming from the newest checkpoint in `workdir`.

    Returns:
      the network as a pure function, and the last state.
    """
    with clock("set-up"):
        mesh = sharding.make_mesh()
        preset = degrade.load(config.degradation.preset)
        degrade_batch = functools.partial(random_degradation, preset)
        apply, update, schedule, current = initialise(config, mesh)
        iterator = data.crops(
            splits.train, crop=config.data.crop, batch_size=config.data.batch_size, seed=config.seed
        )
        checkpoints = Checkpoints(workdir.absolute() / "checkpoints")
        if checkpoints.latest() is not None:
            current, position = checkpoints.restore(current)
            iterator.set_state(position)
        start = int(current.step)
        validate = _validation(splits.validation, config, apply, degrade_batch)
        loss = functools.partial(losses.restoration, ssim_weight=config.loss.ssim)
        decay = config.optim.ema_decay
        update_step = step.make(apply, degrade_batch, loss, update, schedule, decay, mesh)
    if start >= config.train.steps:
        checkpoints.close()
        return apply, current
    with clock("compile"):
        shape = (config.data.batch_size, config.data.crop, config.data.crop, 3)
        example = jax.ShapeDtypeStruct(shape, np.float32, sharding=sharding.split_batch(mesh))
        update_step = update_step.lower(current, example).compile()

    bar = tqdm.tqdm(total=config.train.steps, initial=start, desc="train", unit="step")
    with checkpoints, Log(workdir, start) as log, bar:
        since, at = start, time.perf_counter()
        for number in range(start + 1, config.train.steps + 1):
            with clock("data"):
                batch = next(iterator)
            with clock("train"):
                batch = sharding.to_devices(batch, mesh)
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
                bar.set_postfix_str(f"loss {values['loss']:.4f}, {speed:.0f} images/s")
                if last or number % config.train.validate_every == 0:
                    with clock("validate"):
                        values |= validate(current.ema, log, number)
                log.scalars(number, images_per_second=speed, **values)
            if last or number % config.train.checkpoint_every == 0:
                with clock("save"):
                    checkpoints.save(current, iterator.get_state(), config.to_dict())
        with clock("save"):
            checkpoints.close()
    return apply, current


def random_degradation(preset, key: jax.Array, clean: jax.Array) -> jax.Array:
    """Degrades every image of a batch with its own parameters, drawn from the preset."""
    draw, noise = jax.random.split(key)
    parameters = degrade.sample(draw, preset, clean.shape[:-3])
    return degrade.apply(noise, parameters, clean)


def _validation(images: data.Images, config, apply, degrade_batch):
    """Returns `validate(params, log, step) -> scalars` over the images' central crops."""
    crop = config.data.crop
    centres = []
    for image in images:
        top, left = ((side - crop) // 2 for side in image.shape[:2])
        image = image[top : top + crop, left : left + crop]
        centres.append(np.broadcast_to(image, (crop, crop, 3)))
    clean = np.stack(centres[:16])
    low = jax.jit(degrade_batch)(jax.random.key(config.evaluation.seed), clean)

    @jax.jit
    def measure(params, low, clean):
        enhanced = jax.numpy.clip(apply(params, low), 0, 1)
        return enhanced, metrics.psnr(enhanced, clean).mean(), metrics.ssim(enhanced, clean).mean()

    def validate(params, log: Log, step: int) -> dict[str, float]:
        enhanced, psnr, ssim = jax.device_get(measure(params, low, clean))
        log.grid(step, [np.asarray(low), enhanced, clean])
        return {"validation_psnr": float(psnr), "validation_ssim": float(ssim)}

    return validate
