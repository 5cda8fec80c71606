"""The run directory is the record: what was asked, on what, with which versions, and what came out.

config.json        the resolved configuration
environment.json   one entry per start: versions, devices, git commit, data fingerprint, command
data.json          SHA-256 of every image by role
checkpoints/       Orbax
scalars.csv        one row per logged step; events* has the same for TensorBoard
pictures/          validation grids (low, enhanced, clean)
evaluation/        per_image.csv, summary.csv, panels/
"""

import datetime
import importlib.metadata
import json
import platform
import subprocess
import sys
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


def check(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Raises RunError if the directory holds a run of another configuration."""
    path = workdir / "config.json"
    if not path.exists():
        return
    try:
        before = flatten(ml_collections.ConfigDict(json.loads(path.read_text())))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: unreadable ({error}); choose another --workdir") from None
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
        starts = json.loads(path.read_text()) if path.exists() else []
        files.write_text(path, json.dumps([*starts, record], indent=2) + "\n")
        if not (workdir / "config.json").exists():
            text = json.dumps(json.loads(config.to_json_best_effort()), indent=2)
            files.write_text(workdir / "config.json", text + "\n")
    except OSError as error:
        raise RunError(
            f"{workdir}: the run directory cannot be written ({error.strerror}); "
            "choose another with --workdir"
        ) from None


def environment(fingerprint: str) -> dict[str, Any]:
    """Versions, devices, commit and data of a start, for environment.json."""
    installed = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "arguments": sys.argv[1:],
        "lle_jax": lle_jax.__version__,
        "git": _git(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: installed.get(name) for name in PACKAGES},
        "devices": [device.device_kind for device in jax.devices()],
        "processes": jax.process_count(),
        "data_fingerprint": fingerprint,
    }


def _git() -> dict[str, Any] | None:
    """Commit of the source tree, and whether tracked files differ from it; None outside git."""
    root = Path(lle_jax.__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.CalledProcessError):
        return None
