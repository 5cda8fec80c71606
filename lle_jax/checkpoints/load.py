"""A network's weights and what they have seen, read from a run directory or a release."""

import contextlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_collections
import orbax.checkpoint as ocp
from flax import nnx

from lle_jax import checks, models
from lle_jax.checkpoints import release
from lle_jax.checkpoints.run import CheckpointError, damaged, difference


class Weights(NamedTuple):
    """Trained parameters.

    Attributes:
      config: of the network, as for `models.build`.
      params: the parameters; of a run, the moving average (EMA) of its last checkpoint.
      record: what they are: kind, the run's step or the release's SHA-256.
      seen: SHA-256 of the images by role, "train" and "validation"; without "train" where nobody
        knows. "incomplete" is True where these are not all.
    """

    config: ml_collections.ConfigDict
    params: nnx.State
    record: dict[str, Any]
    seen: dict[str, Any]


def load(folder: Path) -> Weights:
    """Reads the weights of a run directory or of a release.

    Raises:
      CheckpointError: if it is neither, or a run without a sound checkpoint.
      release.ReleaseError: if it is a release and unsound.
    """
    if folder == release.SHIPPED or (folder / "release.json").exists():
        config, params = release.load(folder)
        seen = json.loads((folder / "config.json").read_text())["record"].get("images", {})
        record = {"kind": "release", "sha256": release.digest(folder)}
        return Weights(config, params, record, seen)
    try:
        config = ml_collections.ConfigDict(json.loads((folder / "config.json").read_text())).model
    except (OSError, ValueError, AttributeError):
        raise CheckpointError(
            f"{folder}: neither a run directory nor a release (no sound config.json)"
        ) from None
    step, params = _newest((folder / "checkpoints").absolute(), config)
    seen = {}
    with contextlib.suppress(OSError, ValueError):  # an older run: nobody knows
        seen = json.loads((folder / "data.json").read_text())
    return Weights(config, params, {"kind": "run", "step": step}, seen)


def _newest(folder: Path, config: ml_collections.ConfigDict) -> tuple[int, nnx.State]:
    """The newest checkpoint's step and average; the optimiser's state is of no use here."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no checkpoint yet; train first")
    handlers = {"state": ocp.StandardCheckpointHandler()}
    with ocp.CheckpointManager(folder, item_handlers=handlers) as manager:
        step = manager.latest_step()
        if step is None:
            raise CheckpointError(f"{folder}: no checkpoint yet; train first")
        try:
            state = manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore()))
            average = state.state["ema"]
        except (OSError, ValueError, KeyError):
            raise damaged(folder, step) from None
    return step, fitted(average, config, f"{folder}/{step}")


def fitted(
    params,
    config: ml_collections.ConfigDict,
    where: str,
    drawn: nnx.State | None = None,
    new: tuple[str, ...] = (),
) -> nnx.State:
    """A tree of parameters as the state of the network that `config` names.

    Args:
      params: the tree, whatever its containers.
      config: of the network.
      where: names the tree in errors.
      drawn: freshly drawn parameters, from which those come whose names begin as one of `new`.
      new: what the tree need not have.

    Raises:
      checks.ConfigError: if they are another network's; names the first that differs.
    """
    expected = models.shapes(config)
    there = dict(release.named(params))
    if new:
        there |= {n: leaf for n, leaf in release.named(drawn) if n.startswith(new)} | there
    if found := difference(there, expected):
        name, shape, wanted = found
        raise checks.ConfigError(
            f"{where}: weights of another network: {name} is {shape} there and {wanted} here; use "
            "the model they were trained as"
        )
    leaves = [jax.numpy.asarray(there[name]) for name, _ in release.named(expected)]
    return jax.tree.unflatten(jax.tree.structure(expected), leaves)


def joined(record: dict[str, list[str]], seen: dict[str, Any]) -> dict[str, Any]:
    """The images of a run (SHA-256 by role) that started from weights which had seen others."""
    roles = {
        role: sorted(set(record[role]) | set(seen.get(role, ())))
        for role in ("train", "validation")
    }
    return record | roles | ({} if all_known(seen) else {"incomplete": True})


def all_known(seen: dict[str, Any]) -> bool:
    """Whether `Weights.seen` has all images that the weights were trained on."""
    return "train" in seen and not seen.get("incomplete")
