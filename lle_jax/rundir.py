"""The run directory is the record: what was asked, on what, with which versions, and what came out.

config.json        the resolved configuration
environment.json   one entry per start: versions, devices, commit, data fingerprint, command
data.json          SHA-256 of every image by role, of their order, and of the degradation's presets;
                   what other model the parameters of step 0 are from
checkpoints/       Orbax
scalars.csv        one row per logged step; events* has the same for TensorBoard
pictures/          validation grids (low, enhanced, clean)
evaluation/        per_image.csv, summary.csv, comparisons.csv, index.html
"""

import collections
import contextlib
import datetime
import fcntl
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import ml_collections

import lle_jax
from lle_jax import files

PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "scipy",
    "opencv-python-headless", "scikit-image", "pydicom", "pillow", "ml_collections",
)  # fmt: skip


ROLES = ("train", "validation", "test")


class RunError(ValueError):
    """The run directory cannot be used as asked; the message says what to change."""


def flatten(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """`{"optim.lr": 0.001, ...}`, with values as JSON would give them back."""
    flat: dict[str, Any] = {}
    for name, value in json.loads(config.to_json_best_effort()).items():
        if isinstance(value, dict):
            inner = flatten(ml_collections.ConfigDict(value))
            flat |= {f"{name}.{key}": leaf for key, leaf in inner.items()}
        else:
            flat[name] = value
    return flat


def check(
    workdir: Path,
    config: ml_collections.ConfigDict,
    data: Mapping[str, Any] | None = None,
    renamed: Mapping[str, str] | None = None,
) -> None:
    """Refuses a directory that holds a run of another configuration, or of other data.

    Args:
      workdir: the run directory.
      config: the configuration that is asked for.
      data: as in data.json; None does not compare it. What a record of an earlier version lacks
        is not compared.
      renamed: keys of earlier versions, and what they are called now.

    Raises:
      RunError: naming what differs.
    """
    if (before := _read_json(workdir / "config.json")) is not None:
        _check_config(workdir, before, config, renamed or {})
    trained = None if data is None else _read_json(workdir / "data.json")
    if data is None or trained is None:
        return
    if changes := _data_changes(trained, data):
        raise RunError(
            f"{workdir}: the images are not those of this run: {'; '.join(changes)}; restore "
            "them, or choose another --workdir"
        )
    now = data.get("presets", {})
    for name, digest in trained.get("presets", {}).items():
        if now.get(name, digest) != digest:
            raise RunError(
                f"{workdir}: the degradation preset {name} is not as it was in this run; restore "
                "it, or choose another --workdir"
            )


def _read_json(path: Path) -> Any:
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: unreadable ({error}); choose another --workdir") from None


def _check_config(
    workdir: Path, stored: Any, config: ml_collections.ConfigDict, renamed: Mapping[str, str]
) -> None:
    try:
        before = flatten(ml_collections.ConfigDict(stored))
    except (TypeError, ValueError, AttributeError):
        raise RunError(f"{workdir / 'config.json'}: no config; choose another --workdir") from None
    for name, new in renamed.items():
        if name in before:
            raise RunError(
                f"{workdir} holds a run of an earlier version: {name} is now called {new}; choose "
                "another --workdir, with --config.train.start_from to go on from its weights"
            )
    now = flatten(config)
    differing = [
        f"{name} (there {before.get(name)!r}, here {now.get(name)!r})"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if differing:
        raise RunError(
            f"{workdir} holds a run with another configuration: {', '.join(differing)}; "
            "choose another --workdir, or ask for the same values"
        )


def _data_changes(trained: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
    """Describes how the images of a run, by role, differ from those there are now."""
    before, now = (
        {digest: role for role in ROLES for digest in record.get(role, ())}
        for record in (trained, data)
    )
    counts = {
        "added": len(now.keys() - before.keys()),
        "gone": len(before.keys() - now.keys()),
    }
    changes = [f"{count} {what}" for what, count in counts.items() if count]
    moved = collections.Counter(
        (before[digest], now[digest])
        for digest in before.keys() & now.keys()
        if before[digest] != now[digest]
    )
    changes += [f"{count} moved from {a} to {b}" for (a, b), count in sorted(moved.items())]
    orders = {record["order"] for record in (trained, data) if "order" in record}
    if not changes and len(orders) > 1:
        changes.append("their order, modalities or pairs changed")
    return changes


@contextlib.contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Holds a run directory for one process, and makes it if it does not exist.

    The lock is the operating system's, on the directory itself: it ends with its process, however
    that ends.

    Raises:
      RunError: if another process holds it, or the directory cannot be made.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(workdir, os.O_RDONLY)
    except OSError as error:
        raise _unwritable(workdir, error) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(
                f"{workdir}: another process is at work in this run directory; wait for it, or "
                "choose another --workdir"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _unwritable(workdir: Path, error: OSError) -> RunError:
    return RunError(
        f"{workdir}: the run directory cannot be written ({error.strerror}); "
        "choose another with --workdir"
    )


def open_for(workdir: Path, config: ml_collections.ConfigDict, record: dict[str, Any]) -> None:
    """Makes the directory or enters an existing one of the same configuration, and records it.

    Args:
      workdir: the run directory.
      config: the resolved configuration.
      record: this start's entry in environment.json.

    Raises:
      RunError: if the directory cannot be written, or holds another configuration's run.
    """
    check(workdir, config)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        path = workdir / "environment.json"
        files.write_text(path, json.dumps([*_starts(path), record], indent=2) + "\n")
        if not (workdir / "config.json").exists():
            text = json.dumps(json.loads(config.to_json_best_effort()), indent=2)
            files.write_text(workdir / "config.json", text + "\n")
    except OSError as error:
        raise _unwritable(workdir, error) from None


def _starts(path: Path) -> list[Any]:
    """Reads the starts before; a damaged file, of which nothing depends, is set aside in a line."""
    if not path.exists():
        return []
    try:
        starts = json.loads(path.read_text())
    except ValueError:
        starts = None
    if not isinstance(starts, list):
        damaged = path.with_name(f"{path.name}.damaged")
        path.replace(damaged)
        print(
            f"{path}: damaged, so it is renamed to {damaged.name} and begun anew", file=sys.stderr
        )
        return []
    return starts


def environment(fingerprint: str) -> dict[str, Any]:
    """Versions, devices, commit and data of a start, for environment.json."""
    installed = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "arguments": sys.argv[1:],
        "lle_jax": lle_jax.__version__,
        "git": _git(),
        "code": files.code_digest(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: installed.get(name) for name in PACKAGES},
        "devices": [device.device_kind for device in jax.devices()],
        "processes": jax.process_count(),
        "data_fingerprint": fingerprint,
    }


def _git() -> dict[str, Any] | None:
    """Commit of the repository that tracks this package, and whether tracked files differ from it.

    None where no repository does: a virtual environment often lies inside somebody's own.
    """
    root = Path(lle_jax.__file__).parent
    # A git hook sets GIT_DIR and others, which name the repository of the hook instead.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env=variables
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # fails if it is not tracked
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.CalledProcessError):
        return None
