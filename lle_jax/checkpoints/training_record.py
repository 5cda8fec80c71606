"""The record of a run that goes into a release: how it was trained, and on which images."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import ml_collections

from lle_jax import rundir
from lle_jax.checkpoints.load import LoadedModel, load_model
from lle_jax.checks import CheckpointError

_FROM_ENVIRONMENT = ("lle_jax", "git", "python", "devices", "data_fingerprint")


def read(folder: Path) -> tuple[LoadedModel, dict[str, Any]]:
    """Loads a run, and describes how it was trained.

    Raises:
      CheckpointError: if it is no run directory or has no checkpoint.
    """
    loaded = load_model(folder)
    if loaded.provenance.record["kind"] != "run":
        raise CheckpointError(f"{folder}: a release already; give a run directory")
    config = json.loads((folder / "config.json").read_text())
    record = {"step": loaded.provenance.record["step"]} | _record(folder, config)
    if images := loaded.provenance.images:  # by which lle evaluate finds overlaps
        record["images"] = {role: hashes for role, hashes in images.items() if role != "test"}
    return loaded, record


def _record(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for name, value in rundir.flatten(ml_collections.ConfigDict(config)).items():
        if not name.startswith("model."):
            record[name] = _without_folders(value)
    return (
        record
        | _of_the_last_start(folder / "environment.json")
        | _results(folder / "evaluation" / "summary.csv")
    )


def _of_the_last_start(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        start = dict(json.loads(path.read_text())[-1])
    except (OSError, ValueError, TypeError, LookupError):
        raise CheckpointError(f"{path}: damaged; restore it, or remove it to do without") from None
    return {name: start[name] for name in _FROM_ENVIRONMENT if name in start}


def _results(path: Path) -> dict[str, float]:
    if not path.exists():
        return {}
    try:
        with path.open() as file:
            rows = list(csv.DictReader(file))
        results = {f"test {row['method']} {row['metric']}": float(row["mean"]) for row in rows}
    except (OSError, ValueError, TypeError, KeyError, csv.Error):
        results = {}
    if not results:
        raise CheckpointError(f"{path}: damaged; evaluate the run again, with --mode evaluate")
    return results


def _without_folders(value: Any) -> Any:
    """The last part of each path alone: folders may be called after a hospital or a patient.

    Names may hold blanks and commas, so that of "a/Doe, Jane/b" only b is sure to be a last part;
    what stands before a comma is kept where it ends as a manifest or is the embedded samples.
    """
    if isinstance(value, list | tuple):
        return [_without_folders(each) for each in value]
    if not isinstance(value, str):
        return value
    parts = value.split(",")
    if all(part == "samples" or part.casefold().endswith(".csv") for part in parts[:-1]):
        return ",".join(map(_last_part, parts))
    return _last_part(value)


def _last_part(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]
