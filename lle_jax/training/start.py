"""The parameters that a run starts from: its own random ones, or those of another model."""

import json
from pathlib import Path
from typing import Any

import ml_collections
from flax import nnx

from lle_jax.checkpoints import load
from lle_jax.checkpoints.provenance import Provenance
from lle_jax.models import params
from lle_jax.training import uncertainty

KEY = "start_from"  # in data.json


def begin(
    config: ml_collections.ConfigDict, initial: nnx.State, workdir: Path | None = None
) -> tuple[nnx.State, Provenance | None]:
    """Reads the model of `config.train.start_from`.

    A run directory with a checkpoint has recorded what it started from, so that it can be resumed
    and evaluated where that model is no longer, or is another by now.

    Args:
      config: the experiment.
      initial: random parameters.
      workdir: the run directory, for what it recorded.

    Returns:
      the parameters of step 0, and where they are from. `initial` and None if from no other model;
      `initial` too where a checkpoint is there to take its place.

    Raises:
      CheckpointError, ReleaseError: if the model is needed and unsound.
    """
    if not (folder := config.train.start_from):
        return initial, None
    if workdir is not None and (recorded := _recorded(workdir)) is not None:
        return initial, recorded
    loaded = load.load_model(Path(folder))
    optional = uncertainty.LAYERS if config.loss.kind == "uncertainty" else ()
    where = f"train.start_from {folder}"
    return (
        params.load_params(loaded.params, config.model, where, initial, optional),
        loaded.provenance,
    )


def as_record(start: Provenance) -> dict[str, Any]:
    """Returns what data.json keeps of the model that a run starts from."""
    return {KEY: start._asdict()}


def _recorded(workdir: Path) -> Provenance | None:
    """Reads what a run with checkpoints started from; None where that is not known."""
    if not any(path.name.isdigit() for path in (workdir / "checkpoints").glob("*")):
        return None
    try:
        return Provenance(**json.loads((workdir / "data.json").read_text())[KEY])
    except (OSError, ValueError, KeyError, TypeError):
        return None
