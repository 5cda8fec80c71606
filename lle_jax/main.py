"""Trains a network and evaluates it on images it never saw.

    python -m lle_jax.main --config experiments/unet.py
    python -m lle_jax.main --config experiments/unet.py --config.optim.lr=1e-4 --workdir runs/slow
    python -m lle_jax.main --config experiments/unet.py --mode evaluate

The same command again resumes a run that was interrupted.
"""

import difflib
import errno
import os
import re
import runpy
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

from absl import flags, logging
from ml_collections import config_flags

from lle_jax import checks, console, data, degrade, images, interrupt, memory, rundir
from lle_jax.checkpoints.release import ReleaseError
from lle_jax.experiments.base import RENAMED_KEYS
from lle_jax.training import train

CONFIG = config_flags.DEFINE_config_file("config", help_string="The experiment: a Python file.")
WORKDIR = flags.DEFINE_string("workdir", None, "The run directory (default: runs/<config's name>).")
MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "evaluate"], "Train and evaluate, or the latter."
)
_leaving = threading.Lock()  # held from the line on a full disk to the end of the process


class UsageError(ValueError):
    """The command line is wrong; the message says what to change."""


# What the caller can put right; anything else is a defect of ours and shows its traceback.
USER_ERRORS = (
    UsageError,
    checks.CheckpointError,
    checks.ConfigError,
    data.DataError,
    degrade.PresetError,
    images.ImageError,
    rundir.RunError,
    ReleaseError,
    train.TrainingError,
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
            hint = _renamed(name[1]) or (f"; did you mean {nearest[0]}?" if nearest else "")
            return f"--config.{name[1]}: the configuration has no such field{hint}"
    return " ".join(str(error).split())


def _renamed(name: str) -> str:
    """Says what a key of an earlier version is called now, or nothing."""
    return f"; it is now called {RENAMED_KEYS[name]}" if name in RENAMED_KEYS else ""


def _full_disk(error: BaseException | None) -> OSError | None:
    """Finds a full disk behind an error: every writer reports it in its own way."""
    reason = os.strerror(errno.ENOSPC)
    while error is not None:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return error
        if reason in str(error):
            return OSError(errno.ENOSPC, reason)
        error = error.__cause__ or error.__context__
    return None


def _leave(full: OSError) -> NoReturn:
    """Ends the process for want of room on the disk, from whichever thread finds it first."""
    _leaving.acquire()
    where = full.filename or "the run directory"
    remedy = "free some space, and the same command resumes from the last checkpoint"
    print(f"error: {where}: {full.strerror}; {remedy}", file=sys.stderr, flush=True)
    os._exit(74)  # EX_IOERR; at another exit each writer that holds data prints a traceback


def _uncaught(ended: Any) -> None:
    """Ends the process where a thread finds the disk full; else prints the thread's traceback.

    Without its thread of event files the loop would wait for ever.
    """
    if (full := _full_disk(ended.exc_value)) is not None:
        _leave(full)
    threading.__excepthook__(ended)


def _unraisable(ignored: Any) -> None:
    """Prints what no one can catch, but not that Orbax's threads have lost their event loop.

    After a failed save each of them would print a traceback beside the one line.
    """
    if str(ignored.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(ignored)


def main(arguments: list[str] | None = None) -> int:
    """The command: one line and exit status 2 for whatever the caller can put right.

    Args:
      arguments: the command line after the program's name; None takes that of the process.

    Returns:
      the exit status: 0, 2, or 75 and 130 after SIGTERM and SIGINT. Where the disk is full, the
      process ends with 74.
    """
    if arguments is not None:
        sys.argv = [sys.argv[0], *arguments]  # where config_flags looks for --config.KEY=VALUE
    arguments = sys.argv
    if {"--help", "-help", "-h"} & set(arguments):
        print(f"{__doc__.strip()}\n\n{flags.FLAGS.module_help(sys.modules[__name__])}")
        return 0
    memory.keep_freed_memory()
    threading.excepthook, sys.unraisablehook = _uncaught, _unraisable
    logging.set_verbosity(logging.FATAL)  # Orbax reports each step; its errors come as exceptions
    try:
        with interrupt.raised():
            parse(arguments)
            workdir = Path(WORKDIR.value or f"runs/{_config_path(arguments).stem}").absolute()
            train.train(CONFIG.value, workdir, evaluate_only=MODE.value == "evaluate")
    except Exception as error:
        if (full := _full_disk(error)) is not None:
            _leave(full)
        if not isinstance(error, USER_ERRORS):
            raise
        console.LOGGER.debug("this is where it failed", exc_info=True)
        print(f"error: {error}", file=sys.stderr)
        return 2
    except interrupt.Interrupted as stop:
        print(f"{stop}: the same command resumes from the last checkpoint", file=sys.stderr)
        return stop.status
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(main())
