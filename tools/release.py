"""Makes a release of a run: the moving-average (EMA) weights of its last checkpoint.

    python tools/release.py runs/unet model/ [--float16] [--card CARD.md]

Nothing of this machine goes into the release: of paths in the configuration the last part is kept.
"""

import argparse
import csv
import json
import re
import sys
from pathlib import Path

import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from lle_jax import models, rundir
from lle_jax.inference import release

_FROM_ENVIRONMENT = ("lle_jax", "git", "python", "devices", "data_fingerprint")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("folder", type=Path, help="of the release, made if it does not exist")
    parser.add_argument("--float16", action="store_true", help="half the size, 11 bits a number")
    parser.add_argument("--card", type=Path, help="a CARD.md to take instead of a generated one")
    arguments = parser.parse_args()
    logging.set_verbosity(logging.ERROR)  # Orbax reports every step
    try:
        config, params, record = read(arguments.run)
        release.save(
            arguments.folder,
            config,
            params,
            record,
            dtype="float16" if arguments.float16 else "float32",
            card=arguments.card.read_text(encoding="utf-8") if arguments.card else None,
        )
    except (ValueError, OSError) as error:
        sys.exit(f"release: {error}")
    size = sum(file.stat().st_size for file in arguments.folder.iterdir())
    print(f"{arguments.folder}: step {record['step']}, {size / 1e6:.1f} MB")


def read(run: Path) -> tuple[ml_collections.ConfigDict, dict, dict]:
    """The network's configuration, the EMA parameters, and how a run went.

    Raises:
      ReleaseError: if it is no run directory or has no checkpoint.
    """
    try:
        config = ml_collections.ConfigDict(json.loads((run / "config.json").read_text()))
    except (OSError, ValueError):
        raise release.ReleaseError(f"{run}: no run directory; give one with config.json") from None
    folder = (run / "checkpoints").absolute()
    if not folder.is_dir():
        raise release.ReleaseError(f"{run}: no checkpoint yet; train first")
    handlers = {"state": ocp.StandardCheckpointHandler()}
    with ocp.CheckpointManager(folder, item_handlers=handlers) as manager:
        step = manager.latest_step()
        if step is None:
            raise release.ReleaseError(f"{run}: no checkpoint yet; train first")
        restored = manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore()))
    found = {name: np.asarray(leaf) for name, leaf in release.named(restored.state["ema"])}
    expected = models.shapes(config.model)
    missing = [name for name, _ in release.named(expected) if name not in found]
    if missing:
        raise release.ReleaseError(f"{folder}/{step}: {missing[0]} is missing")
    leaves = [found[name] for name, _ in release.named(expected)]
    params = jax.tree.unflatten(jax.tree.structure(expected), leaves)
    return config.model, params, {"step": step} | _record(run, config)


def _record(run: Path, config: ml_collections.ConfigDict) -> dict:
    record = {}
    for name, value in rundir.flatten(config).items():
        if not name.startswith("model."):
            record[name] = (
                re.sub(r"[^\s,\"']*[/\\]", "", value) if isinstance(value, str) else value
            )
    if (run / "environment.json").exists():
        start = json.loads((run / "environment.json").read_text())[-1]
        record |= {name: start[name] for name in _FROM_ENVIRONMENT if name in start}
    if (run / "data.json").exists():  # by which lle evaluate tells what the network has seen
        roles = json.loads((run / "data.json").read_text())
        record["images"] = {role: roles[role] for role in ("train", "validation")}
    summary = run / "evaluation" / "summary.csv"
    if summary.exists():
        with summary.open() as file:
            for row in csv.DictReader(file):
                record[f"test {row['method']} {row['metric']}"] = float(row["mean"])
    return record


if __name__ == "__main__":
    main()
