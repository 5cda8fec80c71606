"""The training job, top to bottom: data, model, objective, optimiser, step, loop, save, evaluate.

Copy this one file to try something else, and call its `train(config, workdir)`; nothing needs to be
registered or subclassed.
"""

import dataclasses
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from lle_jax import checks, classical, console, data, files, interrupt, jobs, models, rundir
from lle_jax.checkpoints import provenance
from lle_jax.checkpoints.run import Checkpoints
from lle_jax.evaluation import evaluate, methods, report, suite, tables
from lle_jax.experiments import base
from lle_jax.phase_timer import PhaseTimer
from lle_jax.training import (
    augment,
    degradation,
    losses,
    optimiser,
    sharding,
    start,
    validation,
)
from lle_jax.training import config as configs
from lle_jax.training import objective as objectives
from lle_jax.training.log import Log, announce, repair_scalars
from lle_jax.training.state import TrainState, create

NO_CHECKPOINT = "no checkpoint yet; train first, with --mode train"


class TrainingError(ValueError):
    """Training cannot go on; the message says what to change."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts that a config describes, before any data is read.

    Attributes:
      mesh: the devices.
      apply: the network, `(params, image) -> image`.
      objective: what a step minimises.
      degrade: `(key, batch) -> low`, of validation.
      degrade_in_training: the same without the stages of `config.degradation.drop`.
      optimiser, schedule: of the parameters, and its learning rate by step.
      state: of step 0.
      start_from: where the parameters of step 0 are from, or None if from no other model.
    """

    mesh: jax.sharding.Mesh
    apply: models.Apply
    objective: objectives.Objective
    degrade: degradation.Degrade
    degrade_in_training: degradation.Degrade
    optimiser: optax.GradientTransformation
    schedule: optax.Schedule
    state: TrainState
    start_from: provenance.Provenance | None


def train(
    config: ml_collections.ConfigDict,
    workdir: Path,
    splits: data.Splits | None = None,
    *,
    evaluate_only: bool = False,
    train_only: bool = False,
) -> None:
    """Trains and evaluates an experiment; resumes where an earlier start stopped.

    Nothing is written before the config, the data and the checkpoints are known to be sound.

    Args:
      config: the experiment, with all keys of `lle_jax/experiments/base.py`.
      workdir: the run directory, absolute.
      splits: the images; None takes those of the config.
      evaluate_only: evaluate the newest checkpoint without training.
      train_only: do not evaluate the test images.

    Raises:
      ValueError: of one line, for whatever the caller can put right.
    """
    timer = PhaseTimer()
    with timer("set-up"):
        configs.upgrade(config, base.get_config(), base.RENAMED_KEYS)
        configs.check(config)
        rundir.check(workdir, config, renamed=base.RENAMED_KEYS)
        splits = load_images(config) if splits is None else splits
        experiment = prepare(config, workdir)
        iterator = make_iterator(config, splits.train)
        record, environment = describe(config, splits, experiment)
        if evaluate_only and not (workdir / "checkpoints").is_dir():
            raise checks.CheckpointError(f"{workdir}/checkpoints: {NO_CHECKPOINT}")
        rundir.check(workdir, config, record, renamed=base.RENAMED_KEYS)
    with rundir.lock(workdir):
        with timer("set-up"):
            restored = restore(workdir / "checkpoints", experiment.state, iterator)
            if evaluate_only and restored is None:
                raise checks.CheckpointError(f"{workdir}/checkpoints: {NO_CHECKPOINT}")
            state = restored or experiment.state
            rundir.open_for(workdir, config, environment)
            repair_scalars(workdir / "scalars.csv", config.train.steps)
            files.write_text(workdir / "data.json", json.dumps(record, indent=1) + "\n")
        announce(config, workdir, splits, int(state.step))
        if not evaluate_only and int(state.step) < config.train.steps:
            state = train_loop(config, experiment, splits, state, iterator, workdir, timer)
        if not train_only:
            with timer("evaluate"):
                evaluate_test_images(config, splits, state, record, workdir)
    console.note(timer.summary())


def load_images(config: ml_collections.ConfigDict) -> data.Splits:
    """Finds the images of a config; raises DataError if they cannot be used."""
    folds = data.Folds(config.data.folds, config.data.fold)
    pairs, weight = config.data.pairs, config.data.pairs_weight
    return data.load(
        config.data.source, crop=config.data.crop, pairs=pairs, pairs_weight=weight, folds=folds
    )


def prepare(config: ml_collections.ConfigDict, workdir: Path | None = None) -> Experiment:
    """Builds the model, the objective and the optimiser of a config, in its run directory if any.

    Raises:
      ConfigError, PresetError: if a value is wrong.
      CheckpointError, ReleaseError: if the model to start from is unsound.
    """
    mesh = sharding.make_mesh()
    init_key, run_key = jax.random.split(jax.random.key(config.seed))
    apply, initial = models.build(config.model, init_key)
    initial, start_from = start.begin(config, initial, workdir)
    update, schedule = optimiser.make(config.optim, config.train.steps)
    return Experiment(
        mesh,
        apply,
        objectives.make(config, apply),
        degradation.make(config.degradation.preset),
        degradation.make(
            config.degradation.preset, config.degradation.drop, config.degradation.mixed_with
        ),
        update,
        schedule,
        jax.device_put(create(initial, update, run_key), sharding.replicated(mesh)),
        start_from,
    )


def make_step(config: ml_collections.ConfigDict, experiment: Experiment) -> jax.stages.Wrapped:
    """Returns the jitted `step(state, batch) -> (state, scalars)`: degrade, restore, update.

    A measured low-light version takes the place of a modelled one.

    The batch is split over the devices, image by image; the state is whole on each. The result does
    not depend on their number. The moving average of the parameters warms up as (1 + step) /
    (10 + step) (tf.train.ExponentialMovingAverage), so that it forgets the initial ones.
    """
    objective, update = experiment.objective, experiment.optimiser

    def step(state: TrainState, batch: data.Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        augment_key, degrade_key, clean_key, tile_key, mixup_key = jax.random.split(key, 5)
        clean = jnp.asarray(batch.clean)
        low = clean if batch.low is None else jnp.asarray(batch.low)
        if not config.data.pairs or config.data.pairs_weight < 1:  # not all were measured
            if config.data.photometric_augmentation:
                clean = augment.random(augment_key, clean, config.data.photometric_augmentation)
            low = experiment.degrade_in_training(degrade_key, batch._replace(clean=clean))
            low, clean = degradation.prefer_measured(batch, low, clean)
        if config.degradation.clean_fraction:
            low = degradation.keep_clean(clean_key, low, clean, config.degradation.clean_fraction)
        if config.data.mixup:
            low, clean = augment.mixup(mixup_key, config.data.mixup, low, clean)

        def loss_of(parameters) -> jax.Array:
            return objective.loss(*objective.forward(tile_key, parameters, low, clean))

        loss, gradients = jax.value_and_grad(loss_of)(state.params)
        updates, opt_state = update.update(gradients, state.opt_state, state.params)
        parameters = optax.apply_updates(state.params, updates)
        decay = jnp.minimum(config.optim.ema_decay, (1 + state.step) / (10 + state.step))
        ema = optax.incremental_update(parameters, state.ema, 1 - decay)
        scalars = {
            "loss": loss,
            "gradient_norm": optax.tree.norm(gradients),
            "learning_rate": experiment.schedule(state.step),
        }
        return TrainState(state.step + 1, parameters, ema, opt_state, state.key), scalars

    whole, split = sharding.replicated(experiment.mesh), sharding.split_batch(experiment.mesh)
    return jax.jit(step, in_shardings=(whole, split), out_shardings=whole, donate_argnums=0)


def train_loop(
    config: ml_collections.ConfigDict,
    experiment: Experiment,
    splits: data.Splits,
    state: TrainState,
    iterator: grain.DatasetIterator,
    workdir: Path,
    timer: PhaseTimer,
) -> TrainState:
    """Trains to `config.train.steps` and returns the last state.

    The host waits for the device only where it logs, validates or saves. SIGTERM and SIGINT raise
    `interrupt.Interrupted` after a step, which is saved.

    Args:
      config, experiment, splits: what to train, and on what.
      state, iterator: to go on from, and over the batches from there.
      workdir: the run directory.
      timer: adds up the time of each phase.
    """
    first, total = int(state.step), config.train.steps
    with timer("compile"):
        validate = validation.make(config, experiment.apply, experiment.degrade, splits.validation)
        programs = compile_steps(config, experiment, state)
    due = functools.partial(is_due, total=total)
    bar = jobs.progress("train", total, "step", initial=first)
    checkpoints = Checkpoints(workdir / "checkpoints")
    with interrupt.deferred() as signals, checkpoints, Log(workdir, first) as log, bar:
        last_logged, last_time = first, time.perf_counter()
        for number in range(first + 1, total + 1):
            with timer("data"):
                batch = next(iterator)
            with timer("train"):
                batch = sharding.to_devices(batch, experiment.mesh)
                with jax.transfer_guard_host_to_device("disallow"):
                    state, scalars = programs[batch.clean.shape[1]](state, batch)
            bar.update()
            values = {}
            if due(number, config.train.log_every):
                with timer("train"):
                    values = read_scalars(scalars, number, config)
                now = time.perf_counter()
                speed = (number - last_logged) * config.data.batch_size / (now - last_time)
                values["images_per_second"] = speed
                last_logged, last_time = number, now
                bar.set_postfix_str(f"loss {values['loss']:.4f}, {speed:.0f} images/s", False)
            if due(number, config.train.validate_every):
                with timer("validate"):
                    values |= validate(state.ema, log, number)
            if values:
                log.scalars(number, **values)
            if due(number, config.train.checkpoint_every) or signals.number:
                with timer("save"):
                    checkpoints.save(state, iterator.get_state(), config.to_dict())
                signals.check()  # leaving, `checkpoints` waits for the save
        with timer("save"):
            checkpoints.close()
    return state


def is_due(number: int, every: int, total: int) -> bool:
    """Tells whether something done at every so many steps, and at the last, is due."""
    return number == total or number % every == 0


def read_scalars(scalars: dict, number: int, config: ml_collections.ConfigDict) -> dict[str, float]:
    """Waits for a step's scalars; raises TrainingError where the loss is not finite."""
    values = {name: float(value) for name, value in scalars.items()}
    if not np.isfinite(values["loss"]):
        raise TrainingError(
            f"the loss is {values['loss']} at step {number}: set --config.optim.lr below "
            f"{config.optim.lr:g} and a new --workdir"
        )
    return values


def make_iterator(
    config: ml_collections.ConfigDict, images: data.Images
) -> grain.DatasetIterator[data.Batch]:
    """Returns the iterator over batches of training crops; raises DataError if there are none."""
    return data.crops(
        images,
        sides=tuple(config.data.context_sizes) or (config.data.crop,),
        batch_size=config.data.batch_size,
        seed=config.seed,
        random_resized_crop_min_scale=config.data.random_resized_crop_min_scale,
        whole_fraction=config.data.whole_fraction,
        balance=config.data.balance,
        pairs_weight=config.data.pairs_weight,
    )


def compile_steps(
    config: ml_collections.ConfigDict, experiment: Experiment, state: TrainState
) -> dict[int, Callable]:
    """Compiles the step for each side of the crops."""
    step, size = make_step(config, experiment), config.data.batch_size
    declare: Callable[..., Any] = functools.partial(
        jax.ShapeDtypeStruct, sharding=sharding.split_batch(experiment.mesh)
    )
    programs: dict[int, Callable] = {}
    for side in tuple(config.data.context_sizes) or (config.data.crop,):
        clean = declare((size, side, side, 3), np.float32)
        batch = data.Batch(clean, declare((size,), np.int32), clean if config.data.pairs else None)
        programs[side] = step.lower(state, batch).compile()
    return programs


def restore(
    folder: Path, template: TrainState, iterator: grain.DatasetIterator
) -> TrainState | None:
    """Restores the newest sound checkpoint, the iterator's position too; None before the first."""
    if not folder.is_dir():
        return None
    with Checkpoints(folder) as checkpoints:
        restored = checkpoints.restore(template)
    if restored is not None:
        iterator.set_state(restored[1])
    return restored and restored[0]


def describe(
    config: ml_collections.ConfigDict, splits: data.Splits, experiment: Experiment
) -> tuple[dict, dict]:
    """Returns data.json and this start's entry of environment.json.

    Raises:
      TrainingError: if the model to start from was trained on test images.
    """
    record = splits.ordered_record | {"presets": degradation.digests(config.degradation)}
    environment = rundir.environment(splits.fingerprint)
    if (begun := experiment.start_from) is not None:
        record = provenance.merge_provenance(record, begun) | start.as_record(begun)
        environment["start_from"] = begun.record
        if overlap := len(set(record["train"]) & set(record["test"])):
            raise TrainingError(
                f"train.start_from {config.train.start_from}: it was trained on {overlap} of the "
                "test images; split the images as it did, or start from other weights"
            )
    if networks := losses.files(config.loss):
        environment["loss_networks"] = networks
    return record, environment


def evaluate_test_images(
    config: ml_collections.ConfigDict,
    splits: data.Splits,
    state: TrainState,
    record: dict,
    workdir: Path,
) -> None:
    """Evaluates the moving average of the parameters on the test images, as `lle evaluate` does."""
    step, folder = int(state.step), workdir / "evaluation"
    if config.data.pairs:
        test = suite.from_pairs("test", splits.test, rejected=splits.rejected)
    else:
        test = suite.from_images(
            "test",
            splits.test,
            preset=config.degradation.preset,
            realisations=config.evaluation.realisations,
            seed=config.evaluation.seed,
            rejected=splits.rejected,
        )
    network = methods.from_network(
        f"{config.model.name} (EMA)",
        config.model,
        state.ema,
        {"kind": "run", "step": step},
        record["train"],
        record["validation"],
        not record.get("incomplete", False),
    )
    baselines = [methods.load(name) for name in classical.METHODS if config.evaluation.baselines]
    result = evaluate.evaluate(test, [network], baselines, folder)
    report.write(folder, result, [network, *baselines], curves=workdir / "scalars.csv")
    print(f"\ntest images, moving-average (EMA) weights of step {step}, the last\n")
    print(f"{tables.table(result.summary)}\n\n{tables.verdict(result)}")
    console.note(f"{len(splits.rejected)} files were skipped; page: {folder / 'index.html'}")
