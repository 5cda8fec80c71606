"""The whole training loop on one page; fork it rather than subclass it."""

import dataclasses
import functools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import tqdm

from lle_jax import data, degrade, metrics, models
from lle_jax.checkpoints import load as weights
from lle_jax.checkpoints.run import Checkpoints
from lle_jax.phase_timer import PhaseTimer
from lle_jax.training import context_crops as views
from lle_jax.training import (
    losses,
    optimiser,
    sharding,
    state,
    step,
    zero_reference,
)
from lle_jax.training import uncertainty as spread
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
      apply_in_training: the same, or what else of it `config.loss.kind` looks at.
      loss: `(output, clean) -> scalar`.
      degrade: `(key, batch) -> low`, with parameters drawn for every image; what is validated and
        evaluated on.
      degrade_in_training: the same without the stages that `config.degradation.drop` names; the
        fraction `config.degradation.untouched` of the images is left as it is.
      optimiser, schedule: of the parameters, and its learning rate by step.
      state: as a run starts.
      start: the weights that it starts from, None if they are drawn.
    """

    mesh: jax.sharding.Mesh
    apply: models.Apply
    apply_in_training: models.Apply
    loss: losses.Loss
    degrade: step.Degrade
    degrade_in_training: step.Degrade
    optimiser: optax.GradientTransformation
    schedule: optax.Schedule
    state: state.TrainState
    start: weights.Weights | None


def prepare(config: ml_collections.ConfigDict) -> Setup:
    """Builds what `config` names.

    Raises:
      checks.ConfigError, degrade.PresetError: if a value is wrong.
      CheckpointError, ReleaseError: if the weights to start from are unsound.
    """
    mesh = sharding.make_mesh()
    presets = _presets(config.degradation.preset)
    fewer = _without(presets, config.degradation.get("drop", ()))
    init_key, run_key = jax.random.split(jax.random.key(config.seed))
    update, schedule = optimiser.make(config.optim, config.train.steps)
    apply, params = models.build(config.model, init_key)
    kind = config.loss.get("kind")
    if kind == "zero_reference":
        apply_in_training, loss = zero_reference.make(config)
    elif kind == spread.KIND:
        apply_in_training, loss = spread.make(config)
    else:
        apply_in_training, loss = apply, losses.make(config.loss)
    start = None
    if folder := config.train.get("start_from", ""):
        start = weights.load(Path(folder))
        new = (spread.LAYER,) if kind == spread.KIND else ()
        where = f"train.start_from {folder}"
        params = weights.fitted(start.params, config.model, where, params, new)
    return Setup(
        mesh,
        apply,
        apply_in_training,
        loss,
        functools.partial(random_degradation, presets),
        functools.partial(
            spare,
            functools.partial(random_degradation, fewer),
            config.degradation.get("untouched", 0.0),
        ),
        update,
        schedule,
        jax.device_put(state.create(params, update, run_key), sharding.replicated(mesh)),
        start,
    )


def train(
    config: ml_collections.ConfigDict,
    setup: Setup,
    resume: tuple[state.TrainState, dict] | None,
    splits: data.Splits,
    workdir: Path,
    timer: PhaseTimer,
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
    sides = tuple(config.data.get("views", ())) or (config.data.crop,)
    with timer("set-up"):
        iterator = data.crops(
            splits.train,
            sides=sides,
            batch_size=config.data.batch_size,
            seed=config.seed,
            random_resized_crop_min_scale=config.data.get("min_scale", 1.0),
            balance=config.data.get("balance", False),
        )
        current = setup.state
        if resume is not None:
            current, position = resume
            iterator.set_state(position)
        start = int(current.step)
    if start >= config.train.steps:
        return current
    with timer("compile"):
        validate = _validation(splits.validation, config, setup)
        update_step = step.make(
            setup.apply_in_training,
            setup.degrade_in_training,
            setup.loss,
            setup.optimiser,
            setup.schedule,
            config.optim.ema_decay,
            setup.mesh,
            views.make(
                config.model,
                setup.apply_in_training,
                config.data.crop,
                config.loss.get("kind") == spread.KIND,
            )
            if sides != (config.data.crop,)
            else None,
        )
        size = config.data.batch_size
        declare = functools.partial(jax.ShapeDtypeStruct, sharding=sharding.split_batch(setup.mesh))
        programs = {}
        for side in sides:
            shape = (size, side, side, 3)
            example = data.Batch(declare(shape, np.float32), declare((size,), np.int32))
            programs[side] = update_step.lower(current, example).compile()

    checkpoints = Checkpoints(workdir / "checkpoints")
    bar = tqdm.tqdm(total=config.train.steps, initial=start, desc="train", unit="step")
    bar.mininterval = 0.1 if sys.stderr.isatty() else 30
    with checkpoints, Log(workdir, start) as log, bar:
        since, at = start, time.perf_counter()
        for number in range(start + 1, config.train.steps + 1):
            with timer("data"):
                batch = next(iterator)
            with timer("train"):
                update_step = programs[batch.clean.shape[1]]
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
                    with timer("validate"):
                        values |= validate(current.ema, log, number)
                log.scalars(number, images_per_second=speed, **values)
            if last or number % config.train.checkpoint_every == 0:
                with timer("save"):
                    checkpoints.save(current, iterator.get_state(), config.to_dict())
        with timer("save"):
            checkpoints.close()
    return current


def _presets(name: str) -> tuple[degrade.Preset, ...]:
    """One preset for all images, or one for each of data.MODALITIES.

    Raises:
      degrade.PresetError: if there is no such preset.
    """
    modalities = data.MODALITIES if name == degrade.BY_MODALITY else ("",)
    return tuple(degrade.load(degrade.name_for(name, modality)) for modality in modalities)


def _without(
    presets: tuple[degrade.Preset, ...], dropped: Sequence[str]
) -> tuple[degrade.Preset, ...]:
    """The presets less some stages; raises degrade.PresetError for one that none of them has."""
    there = {stage.name for preset in presets for stage in preset.stages}
    for name in dropped:
        if name not in there:
            raise degrade.PresetError(
                f"degradation.drop: no stage {name!r}; expected some of {', '.join(sorted(there))}"
            )
    return tuple(
        dataclasses.replace(p, stages=tuple(s for s in p.stages if s.name not in dropped))
        for p in presets
    )


def random_degradation(presets, key: jax.Array, batch: data.Batch) -> jax.Array:
    """Degrades every image of a batch with its own parameters, drawn from its preset."""
    if len(presets) == 1:
        return degrade.sample_and_apply(key, presets[0], batch.clean)[0]
    draw, noise = jax.random.split(key)
    parameters = degrade.sample_mixture(draw, presets, jnp.asarray(batch.modality))
    return degrade.apply(noise, parameters, batch.clean)


def spare(
    degradation: step.Degrade, fraction: float, key: jax.Array, batch: data.Batch
) -> jax.Array:
    """Leaves a fraction of the images as they are, so that the network learns to leave them too."""
    low = degradation(key, batch)
    if not fraction:
        return low
    left = jax.random.bernoulli(jax.random.fold_in(key, 2), fraction, batch.modality.shape)
    return jnp.where(left[..., None, None, None], batch.clean, low)


def _validation(images: data.Images, config: ml_collections.ConfigDict, setup: Setup):
    """Returns `validate(params, log, step) -> scalars` over the images' central crops."""
    crop = config.data.crop
    centres = []
    chosen = np.linspace(0, len(images) - 1, min(len(images), MAX_VALIDATION)).astype(int)
    for image in map(images.__getitem__, chosen):
        top, left = ((side - crop) // 2 for side in image.shape[:2])
        image = image[top : top + crop, left : left + crop]
        centres.append(np.broadcast_to(image, (crop, crop, 3)))
    clean = np.stack(centres)
    batch = data.Batch(clean, images.modality_ids[chosen])
    low = jax.device_get(jax.jit(setup.degrade)(jax.random.key(config.evaluation.seed), batch))

    @jax.jit
    def measure(params, low, clean):
        enhanced = jnp.clip(setup.apply(params, low), 0, 1)
        return enhanced, metrics.psnr(enhanced, clean).mean(), metrics.ssim(enhanced, clean).mean()

    def validate(params, log: Log, step: int) -> dict[str, float]:
        enhanced, psnr, ssim = jax.device_get(measure(params, low, clean))
        log.grid(step, [low, enhanced, clean])
        return {"validation_psnr": float(psnr), "validation_ssim": float(ssim)}

    return validate
