"""Orbax checkpoints of a run: the state, the data iterator's position, the config, checksums."""

import errno
import json
import shutil
import sys
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from lle_jax.checks import CheckpointError
from lle_jax.models.params import difference, named

_MANAGER = {
    "state": ocp.StandardCheckpointHandler,
    "data": ocp.JsonCheckpointHandler,
    "config": ocp.JsonCheckpointHandler,
}
CHECKSUMS = "crc32.json"  # of the files of a checkpoint, in its folder


class _DamagedError(Exception):
    """A checkpoint cannot be read; the one before may serve."""


class Checkpoints:
    """The checkpoints of one run. Each appears under its own name only when it is whole.

    Args:
      folder: absolute path; a writer makes it if missing.
      keep: how many of the newest are kept.
      read_only: never change anything in the folder. Only a writer, of which a run may have one at
        a time (`rundir.lock`), removes what a killed save left behind.
    """

    def __init__(self, folder: Path, keep: int = 2, read_only: bool = False):
        self._folder, self._read_only = folder, read_only
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if read_only else keep,
            read_only=read_only,
            create=not read_only,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._record_files),
        )
        if not read_only:  # Orbax would do it in the background, some time later
            for left_behind in folder.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(left_behind, ignore_errors=True)
        handlers = {name: handler() for name, handler in _MANAGER.items()}
        self._manager = ocp.CheckpointManager(folder, options=options, item_handlers=handlers)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Waits until what was saved is on disk."""
        self._manager.close()

    def latest(self) -> int | None:
        """Returns the newest checkpoint's step, None before the first."""
        return self._manager.latest_step()

    def save(self, state: Any, position: dict[str, Any], config: dict[str, Any]) -> None:
        """Starts writing in the background; the next save or closing waits for it.

        Raises:
          CheckpointError: if the state holds NaN or infinity, which is never saved.
          OSError: (ENOSPC) if the disk has not twice the room of the state; nothing was written.
        """
        arrays = {name: np.asarray(leaf) for name, leaf in named(jax.device_get(state))}
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise CheckpointError(
                    f"{name} is not finite at step {int(state.step)}, so it was not saved; the "
                    "checkpoints before are kept: set --config.optim.lr lower in a new --workdir"
                )
        # Orbax would find out in its threads, each with a traceback of its own.
        needed = 2 * sum(array.nbytes for array in arrays.values()) + 2**20
        if (free := shutil.disk_usage(self._folder).free) < needed:
            reason = f"{free / 1e6:.1f} MB of room, and a checkpoint needs {needed / 1e6:.1f}"
            raise OSError(errno.ENOSPC, reason, str(self._folder))
        self._manager.save(
            int(state.step),
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                data=ocp.args.JsonSave({"position": position, "crc32": checksums(arrays)}),
                config=ocp.args.JsonSave(config),
            ),
        )

    def _record_files(self) -> None:
        """Writes the checksums of a checkpoint's files, right before it gets its own name."""
        for unnamed in self._folder.glob("*.orbax-checkpoint-tmp*"):
            (unnamed / CHECKSUMS).write_text(json.dumps(_file_checksums(unnamed), indent=1))

    def restore(self, template: Any) -> tuple[Any, dict[str, Any]] | None:
        """Restores the newest sound checkpoint; None before the first.

        A damaged one is named in a line on stderr, and the one before is used; it is set aside once
        that one is restored.

        Args:
          template: a state; arrays are placed on devices as its arrays are.

        Returns:
          the state, and the position of the data iterator.

        Raises:
          CheckpointError: if none is sound, the newest sound one cannot be read for another reason,
            or the arrays differ from the template's in name or shape; the message names the first.
        """

        def place(step: int, stored: Any) -> Any:
            if (differing := difference(stored, template)) is not None:
                name, loaded, expected = differing
                raise CheckpointError(
                    f"{self._folder}/{step}: a checkpoint of another architecture: {name} is "
                    f"{loaded} there and {expected} in this model; use the configuration it was "
                    "trained with, or another --workdir"
                )
            return jax.tree.map(_abstract, template)

        restored = self._newest(place)
        return None if restored is None else restored[1:]

    def read(self) -> tuple[int, Any]:
        """Reads the newest sound checkpoint as (step, tree of arrays), whatever devices wrote it.

        Raises:
          CheckpointError: if there is none.
        """
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])

        def place(_: int, stored: Any) -> Any:
            return jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
                stored,
            )

        restored = self._newest(place)
        if restored is None:
            raise CheckpointError(f"{self._folder}: no checkpoint yet; train first")
        return restored[0], restored[1]

    def _newest(self, place) -> tuple[int, Any, dict[str, Any]] | None:
        self._manager.wait_until_finished()  # a save under way is not there yet
        steps = sorted(self._manager.all_steps(), reverse=True)
        for number, step in enumerate(steps):
            try:
                restored = self._restore(step, place)
            except _DamagedError as error:
                rest = ", so the one before is used" if steps[number + 1 :] else ""
                print(f"{self._folder}/{step}: damaged checkpoint ({error}){rest}", file=sys.stderr)
                continue
            for damaged in steps[:number]:
                self._set_aside(damaged)
            return step, *restored
        # Damaged ones stay where they are, so that no later start begins at step 0 over the record.
        if steps or any(self._folder.glob("*.damaged*")):
            raise CheckpointError(
                f"{self._folder}: no checkpoint is sound; train again in a new --workdir, or "
                "remove the damaged ones to begin again in this one"
            )
        return None

    def _set_aside(self, step: int) -> None:
        """Renames a damaged checkpoint, so that the run can save that step again."""
        if self._read_only:
            return
        target, number = self._folder / f"{step}.damaged", 1
        while target.exists():
            number += 1
            target = self._folder / f"{step}.damaged{number}"
        (self._folder / str(step)).rename(target)
        self._manager.reload()

    def _restore(self, step: int, place) -> tuple[Any, dict[str, Any]]:
        vouched = self._check_files(self._folder / str(step))
        target = place(step, self._metadata(step, vouched))
        arguments = ocp.args.Composite(
            state=ocp.args.StandardRestore(target), data=ocp.args.JsonRestore()
        )
        try:
            restored = self._manager.restore(step, args=arguments)
            data = restored.data
            position = data["position"] if "crc32" in data else data
            expected = data.get("crc32")
        except Exception as error:  # whatever a damaged file can raise
            raise self._unread(step, error, vouched) from None
        if expected is not None:
            arrays = {name: np.asarray(leaf) for name, leaf in named(restored.state)}
            computed = checksums(arrays)
            for name in expected:
                if computed.get(name) != expected[name]:
                    raise _DamagedError(f"the checksum of {name} is wrong")
        return restored.state, position

    def _check_files(self, folder: Path) -> bool:
        """Finds damage before Orbax does, whose threads each print a traceback of their own.

        Returns whether every file is as it was written; checkpoints of earlier versions, which have
        no checksums of files, do not tell.
        """
        path = folder / CHECKSUMS
        try:
            expected = dict(json.loads(path.read_bytes())) if path.exists() else {}
        except (OSError, TypeError, ValueError):
            raise _DamagedError(f"{CHECKSUMS} cannot be read") from None
        computed = _file_checksums(folder)
        for name, checksum in expected.items():
            if computed.get(name) != checksum:
                wrong = "changed" if name in computed else "missing"
                raise _DamagedError(f"{name} is {wrong}")
        return bool(expected)

    def _metadata(self, step: int, vouched: bool) -> Any:
        try:
            return self._manager.item_metadata(step).state.tree
        except Exception as error:  # whatever a damaged file can raise
            raise self._unread(step, error, vouched) from None

    def _unread(self, step: int, error: Exception, vouched: bool) -> Exception:
        """Files that are as they were written are not damaged: the machine failed to read them."""
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        if not vouched:
            return _DamagedError(reason)
        return CheckpointError(
            f"{self._folder}/{step}: it could not be read, though its files are sound ({reason}); "
            "free memory, of the accelerator too, and repeat"
        )


def checksums(arrays: dict[str, np.ndarray]) -> dict[str, int]:
    """Computes the CRC-32 of the bytes of arrays by name."""
    return {n: zlib.crc32(np.ascontiguousarray(array).data) for n, array in arrays.items()}


def _file_checksums(folder: Path) -> dict[str, int]:
    """Computes the CRC-32 of each file of a checkpoint by its path.

    Without the file to which Orbax adds the time at which the folder got its name: nothing that is
    restored depends on it.
    """
    without = (CHECKSUMS, "_CHECKPOINT_METADATA")
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name not in without)
    return {path.relative_to(folder).as_posix(): zlib.crc32(path.read_bytes()) for path in paths}


def _abstract(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
