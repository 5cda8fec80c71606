"""Makes a release of a run: the moving-average (EMA) weights of its last checkpoint.

    python tools/release.py runs/unet model/ [--float16] [--card CARD.md] [--interval 0.9]

With --interval the spread of a network that has one becomes half an interval that holds this share
of the errors on the images of a suite, which must be neither training nor test images.

Nothing of this machine goes into the release: of paths in the configuration the last part is kept.
"""

import argparse
import csv
import json
import re
import sys
from pathlib import Path

import ml_collections
import tqdm
from absl import logging
from flax import nnx

from lle_jax import checks, rundir
from lle_jax.checkpoints import load as weights
from lle_jax.checkpoints import release
from lle_jax.checkpoints.run import CheckpointError
from lle_jax.evaluation import coverage, suite
from lle_jax.inference import tiles
from lle_jax.training import uncertainty as spread

_FROM_ENVIRONMENT = ("lle_jax", "git", "python", "devices", "data_fingerprint")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("folder", type=Path, help="of the release, made if it does not exist")
    parser.add_argument("--float16", action="store_true", help="half the size, 11 bits a number")
    parser.add_argument("--card", type=Path, help="a CARD.md to take instead of a generated one")
    parser.add_argument("--interval", type=float, metavar="SHARE", help="of the errors, as 0.9")
    parser.add_argument("--suite", default="validation", help="of the interval (%(default)s)")
    parser.add_argument("--source", help="takes the place of the suite's images.source")
    arguments = parser.parse_args()
    logging.set_verbosity(logging.ERROR)  # Orbax reports every step
    try:
        config, params, record = read(arguments.run)
        if arguments.interval is not None:
            judge = suite.load(arguments.suite, source=arguments.source)
            params, by = calibrated(config, params, judge, arguments.interval)
            record["interval"] = {
                "share": arguments.interval, "factor": by, "suite": judge.fingerprint
            }  # fmt: skip
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


def read(run: Path) -> tuple[ml_collections.ConfigDict, nnx.State, dict]:
    """The network's configuration, the EMA parameters, and how a run went.

    Raises:
      CheckpointError: if it is no run directory or has no checkpoint.
    """
    found = weights.load(run)
    if found.record["kind"] != "run":
        raise CheckpointError(f"{run}: a release already; give a run directory")
    config = ml_collections.ConfigDict(json.loads((run / "config.json").read_text()))
    record = {"step": found.record["step"]} | _record(run, config)
    if found.seen:  # by which lle evaluate tells what the network has seen
        record["images"] = {k: v for k, v in found.seen.items() if k != "test"}
    return found.config, found.params, record


def calibrated(
    config: ml_collections.ConfigDict, params: nnx.State, judge: suite.Suite, share: float
) -> tuple[nnx.State, float]:
    """The parameters with spreads that hold `share` of the errors, and by what they were scaled."""
    checks.number("interval", share, 0.01, 0.999)
    net = tiles.network(config, params)
    cases = tqdm.tqdm(judge.cases(), total=judge.count, desc="interval", unit="image")
    by = spread.factor(((j.error, j.spread) for j in coverage.judged(net, cases)), share)
    return spread.scaled(params, by), by


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
    summary = run / "evaluation" / "summary.csv"
    if summary.exists():
        with summary.open() as file:
            for row in csv.DictReader(file):
                record[f"test {row['method']} {row['metric']}"] = float(row["mean"])
    return record


if __name__ == "__main__":
    main()
