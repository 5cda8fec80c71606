"""Trains a network and evaluates it on images it never saw.

    python -m lle_jax.main --config experiments/unet.py
    python -m lle_jax.main --config experiments/unet.py --config.optim.lr=1e-4 --workdir runs/slow
    python -m lle_jax.main --config experiments/unet.py --mode evaluate

The same command again resumes a run that was interrupted.
"""

import difflib
import json
import os
import re
import runpy
import sys
from pathlib import Path

import jax
import numpy as np
from absl import flags, logging
from ml_collections import config_flags

from lle_jax import checks, classical, data, degrade, files, images, rundir
from lle_jax.checkpoints import load as weights
from lle_jax.checkpoints.release import ReleaseError
from lle_jax.checkpoints.run import CheckpointError, Checkpoints
from lle_jax.evaluation import evaluate
from lle_jax.models import cost
from lle_jax.phase_timer import PhaseTimer
from lle_jax.training import losses
from lle_jax.training import train as loop
from lle_jax.training.state import TrainState

CONFIG = config_flags.DEFINE_config_file("config", help_string="The experiment: a Python file.")
WORKDIR = flags.DEFINE_string("workdir", None, "The run directory (default: runs/<config's name>).")
MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "evaluate"], "Train and evaluate, or the latter."
)


class UsageError(ValueError):
    """The command line is wrong; the message says what to change."""


# What the caller can put right; anything else is a defect of ours and shows its traceback.
USER_ERRORS = (
    UsageError,
    checks.ConfigError,
    data.DataError,
    degrade.PresetError,
    images.ImageError,
    rundir.RunError,
    CheckpointError,
    ReleaseError,
    loop.TrainingError,
)


def parse(arguments: list[str]) -> None:
    """Parses the command line; raises UsageError with one line that says what to change."""
    path = _config_path(arguments)
    if not path.is_file():
        raise UsageError(f"--config {path}: no such file; for example experiments/unet.py")
    known = _fields(path)
    try:
        rest = flags.FLAGS(arguments)
    except flags.Error as error:
        raise UsageError(" ".join(str(error).split())) from None
    except (AttributeError, KeyError) as error:
        raise UsageError(_unknown_override(arguments, known, error)) from None
    except (TypeError, ValueError) as error:
        raise UsageError(f"--config {path}: {' '.join(str(error).split())}") from None
    if rest[1:]:
        raise UsageError(f"unexpected argument {rest[1]!r}; options start with --")


def _config_path(arguments: list[str]) -> Path:
    for index, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name in ("--config", "-config"):
            value = value or "".join(arguments[index + 1 : index + 2])
            return Path(value.partition(":")[0])
    raise UsageError("--config is missing; for example --config experiments/unet.py")


def _fields(path: Path) -> list[str]:
    """The names of an experiment's fields; raises UsageError if the file is no experiment."""
    try:
        return list(rundir.flatten(runpy.run_path(str(path))["get_config"]()))
    except KeyError:
        raise UsageError(f"--config {path}: it has no get_config(); see experiments/") from None
    except Exception as error:  # whatever somebody's file can raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"--config {path}: it cannot be run ({reason})") from None


def _unknown_override(arguments: list[str], known: list[str], error: Exception) -> str:
    """Names the nearest existing field for the first override that does not exist."""
    for argument in arguments:
        name = re.match(r"--?config\.([\w.]+)", argument)
        if name and name[1] not in known:
            nearest = difflib.get_close_matches(name[1], known, n=1, cutoff=0)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            return f"--config.{name[1]}: the configuration has no such field{hint}"
    return " ".join(str(error).split())


def run() -> None:
    """The job: load, train, evaluate, report. Nothing is written before all inputs are sound."""
    timer = PhaseTimer()
    config, workdir = CONFIG.value, Path(WORKDIR.value or f"runs/{_config_path(sys.argv).stem}")
    workdir = workdir.absolute()
    with timer("set-up"):
        check(config)
        rundir.check(workdir, config)
        splits = data.load(config.data.source, crop=config.data.crop)
        setup = loop.prepare(config)
        record, environment = splits.record, rundir.environment(splits.fingerprint)
        if setup.start is not None:
            record = weights.joined(record, setup.start.seen)
            environment["start_from"] = setup.start.record
            if seen := len(set(record["train"]) & set(record["test"])):
                raise UsageError(
                    f"train.start_from {config.train.start_from}: it was trained on {seen} of the "
                    "test images; split the images as it did, or start from other weights"
                )
        if networks := losses.files(config.loss):
            environment["loss_networks"] = networks
        resume = _newest(workdir / "checkpoints", setup.state)
        rundir.open_for(workdir, config, environment)
        files.write_text(workdir / "data.json", json.dumps(record, indent=1) + "\n")
    for _, reason in splits.rejected:
        print(f"left out: {reason}", file=sys.stderr)
    sizes = ", ".join(f"{len(getattr(splits, role))} {role}" for role in data.ROLES)
    parameters, macs = cost.cost(config.model, 256, 256)
    print(
        f"run directory {workdir}\n"
        f"images: {sizes}, {len(splits.rejected)} left out\n"
        f"{config.model.name} with {parameters:,} parameters, {macs / 1e9:.2f} G multiply-"
        f"accumulates at 256x256, on {jax.device_count()} x {jax.devices()[0].device_kind}"
        + _beginning(config, resume),
        flush=True,
    )
    if MODE.value == "train":
        state = loop.train(config, setup, resume, splits, workdir, timer)
    else:
        state, _ = resume

    with timer("evaluate"):
        enhance = jax.jit(setup.apply)
        name = f"{config.model.name} (EMA)"
        summary = evaluate.evaluate(
            splits.test,
            len(splits.rejected),
            (name, lambda low: np.asarray(enhance(state.ema, low))),
            jax.jit(setup.degrade),
            draws=config.evaluation.draws,
            seed=config.evaluation.seed,
            folder=workdir / "evaluation",
            baselines=classical.METHODS if config.evaluation.get("baselines", True) else {},
        )
    print(f"\ntest images, moving-average (EMA) weights of step {int(state.step)}, the last\n")
    print(f"{evaluate.table(summary)}\n\n{evaluate.verdict(summary, name)}")
    print(f"{len(splits.rejected)} files were left out; pictures: {workdir}/evaluation/panels")
    print(timer.summary())


def _beginning(config, resume) -> str:
    if resume:
        return f"; resuming from step {int(resume[0].step)}"
    folder = config.train.get("start_from", "")
    return f"; from the weights of {folder}" if folder else ""


def _newest(folder: Path, start: TrainState) -> tuple[TrainState, dict] | None:
    """The newest checkpoint's state and data position; None before the first, if that will do."""
    if folder.exists():
        with Checkpoints(folder) as checkpoints:
            if checkpoints.latest() is not None:
                return checkpoints.restore(start)
    if MODE.value == "evaluate":
        raise CheckpointError(f"{folder}: no checkpoint yet; train first, with --mode train")
    return None


def check(config) -> None:
    """Raises UsageError for a value that no run can have."""
    counts = {"data": ("crop", "batch_size"), "evaluation": ("draws",)}
    counts["train"] = ("steps", "log_every", "validate_every", "checkpoint_every")
    for group, names in counts.items():
        for name in names:
            if (value := config[group][name]) < 1:
                raise UsageError(f"{group}.{name} is {value}; expected a whole number >= 1")
    if config.data.crop < 11:
        raise UsageError(f"data.crop is {config.data.crop}; SSIM needs at least 11 pixels")
    for side in config.data.get("views", ()):
        if side < config.data.crop:
            raise UsageError(f"data.views: {side} is less than data.crop ({config.data.crop})")
    for group, name in (("data", "augmented"), ("degradation", "untouched")):
        if not 0 <= (value := config[group].get(name, 0.0)) <= 1:
            raise UsageError(f"{group}.{name} is {value}; expected a fraction in [0, 1]")
    if not 0 <= config.optim.ema_decay < 1:
        raise UsageError(f"optim.ema_decay is {config.optim.ema_decay}; expected [0, 1)")
    if config.data.batch_size % jax.device_count():
        raise UsageError(
            f"data.batch_size is {config.data.batch_size}; expected a multiple of the "
            f"{jax.device_count()} devices"
        )


def main() -> None:
    """The command: one line and exit status 2 for whatever the caller can put right."""
    if {"--help", "-help", "-h"} & set(sys.argv[1:]):
        print(f"{__doc__.strip()}\n\n{flags.FLAGS.module_help(sys.modules[__name__])}")
        return
    logging.set_verbosity(logging.ERROR)  # Orbax reports every step of every save
    try:
        parse(sys.argv)
        run()
    except USER_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command resumes from the last checkpoint", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
