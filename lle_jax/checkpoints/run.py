"""Orbax checkpoints: the state, the data iterator's position and the configuration."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from lle_jax.checkpoints import release
from lle_jax.training.state import TrainState


class CheckpointError(ValueError):
    """A checkpoint is missing or does not fit; the message says what to change."""


class Checkpoints:
    """The checkpoints of one run. Each appears under its own name only when it is whole.

    Args:
      folder: absolute path; made if missing.
      keep: how many of the newest are kept.
    """

    def __init__(self, folder: Path, keep: int = 2):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        handlers = {
            "state": ocp.StandardCheckpointHandler(),
            "data": ocp.JsonCheckpointHandler(),
            "config": ocp.JsonCheckpointHandler(),
        }
        self._manager = ocp.CheckpointManager(folder, options=options, item_handlers=handlers)
        self._folder = folder

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Waits until what was saved is on disk."""
        self._manager.close()

    def latest(self) -> int | None:
        """The newest checkpoint's step, None before the first."""
        return self._manager.latest_step()

    def save(self, state: TrainState, data: dict[str, Any], config: dict[str, Any]) -> None:
        """Starts writing in the background; the next save or closing waits for it."""
        self._manager.save(
            int(state.step),
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                data=ocp.args.JsonSave(data),
                config=ocp.args.JsonSave(config),
            ),
        )

    def restore(self, template: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The newest checkpoint, placed on devices as `template`'s arrays are.

        Raises:
          CheckpointError: if it is damaged, or its arrays differ from the template's in name or
            shape; the message names the first.
        """
        self._manager.wait_until_finished()  # a save under way is not there yet
        step = self.latest()
        self._check(step, template)
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(jax.tree.map(_abstract, template)),
                data=ocp.args.JsonRestore(),
            ),
        )
        return restored.state, restored.data

    def _check(self, step: int, template: TrainState) -> None:
        try:
            metadata = self._manager.item_metadata(step).state.tree
        except (OSError, ValueError, KeyError, AttributeError):
            raise damaged(self._folder, step) from None
        if found := difference(metadata, template):
            name, there, here = found
            raise CheckpointError(
                f"{self._folder}/{step}: a checkpoint of another architecture: {name} is {there} "
                f"there and {here} in this model; use the configuration it was trained with, or "
                "another --workdir"
            )


def damaged(folder: Path, step: int) -> CheckpointError:
    """What to raise of a checkpoint that cannot be read."""
    return CheckpointError(
        f"{folder}/{step}: damaged checkpoint; delete that folder to fall back on the one before"
    )


def difference(there, here) -> tuple[str, Any, Any] | None:
    """The first name at which the arrays of two trees differ in shape, and both shapes."""
    shapes = [
        {name: tuple(leaf.shape) for name, leaf in release.named(tree)} for tree in (there, here)
    ]
    for name in sorted(shapes[0].keys() | shapes[1].keys()):
        pair = [found.get(name, "absent") for found in shapes]
        if pair[0] != pair[1]:
            return name, *pair
    return None


def _abstract(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
