"""Loads a trained network from a run directory or a release."""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import ml_collections
from flax import nnx

from lle_jax.checkpoints import release
from lle_jax.checkpoints.legacy import upgrade_model_config, upgrade_params
from lle_jax.checkpoints.provenance import Provenance
from lle_jax.checks import CheckpointError
from lle_jax.models.params import load_params, named
from lle_jax.rundir import ROLES

if TYPE_CHECKING:  # Orbax takes as long to import as all of JAX, and a release needs none of it
    from lle_jax.checkpoints.run import Checkpoints


class LoadedModel(NamedTuple):
    """A trained network.

    Attributes:
      config: of the network, as for `models.build`.
      params: the parameters; of a run, the moving average (EMA) of its newest sound checkpoint.
      provenance: what they are, and the images they were trained on.
    """

    config: ml_collections.ConfigDict
    params: nnx.State
    provenance: Provenance


def load_model(folder: Path | None = None) -> LoadedModel:
    """Loads the network of a run directory or a release; nothing in the folder is changed.

    Args:
      folder: of either; None takes the release that is bundled with lle_jax.

    Raises:
      CheckpointError: if it is neither, or a run without a sound checkpoint.
      release.ReleaseError: if it is a release and unsound.
    """
    folder = release.BUNDLED if folder is None else Path(folder)
    if is_release(folder):
        config, params = release.load(folder)
        images: dict[str, Any] = release.record(folder).get("images", {})
        kind = {"kind": "release", "sha256": release.digest(folder)}
        return LoadedModel(config, params, Provenance(kind, images))
    config = _run_config(folder)
    with _reader(folder) as checkpoints:
        step, state = checkpoints.read()
    tree = upgrade_params(dict(named(state["ema"])))
    images = _images(folder / "data.json")
    params = load_params(tree, config, f"{folder / 'checkpoints'}/{step}")
    return LoadedModel(config, params, Provenance({"kind": "run", "step": step}, images))


def is_release(folder: Path) -> bool:
    """Tells a release from a run directory."""
    return folder == release.BUNDLED or (folder / "release.json").exists()


def digest(folder: Path | None = None) -> str:
    """Identifies the parameters of a release, or of a run's newest checkpoint, by a SHA-256.

    Raises:
      CheckpointError, release.ReleaseError: as `load_model`.
    """
    if folder is None or is_release(Path(folder)):
        return release.digest(folder)
    folder = Path(folder)
    _run_config(folder)
    with _reader(folder) as checkpoints:
        step = checkpoints.latest()
    content = [(folder / "config.json").read_text(), step]
    with contextlib.suppress(OSError):
        content.append((folder / "checkpoints" / str(step) / "data" / "metadata").read_text())
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _run_config(folder: Path) -> ml_collections.ConfigDict:
    try:
        model = json.loads((folder / "config.json").read_text())["model"]
        return ml_collections.ConfigDict(upgrade_model_config(model))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(
            f"{folder}: neither a run directory nor a release (no sound config.json)"
        ) from None


def _images(path: Path) -> dict[str, Any]:
    """Reads SHA-256 of a run's images by role; of an older run, without the file, none are known.

    Raises:
      CheckpointError: if it is damaged, since overlaps with other images could not be found.
    """
    try:
        record = dict(json.loads(path.read_text()))
        if not all(isinstance(record.get(role, []), list) for role in ROLES):
            raise TypeError
    except FileNotFoundError:
        return {}
    except (OSError, TypeError, ValueError):
        raise CheckpointError(f"{path}: damaged; restore it from a copy of the run") from None
    return {name: record[name] for name in (*ROLES, "incomplete") if name in record}


def _reader(folder: Path) -> "Checkpoints":
    from lle_jax.checkpoints.run import Checkpoints

    checkpoints = (folder / "checkpoints").absolute()
    if not checkpoints.is_dir():
        raise CheckpointError(f"{checkpoints}: no checkpoint yet; train first")
    return Checkpoints(checkpoints, read_only=True)
