"""Pairs of dark and clean images, as the public sets of low light keep them: two folders."""

from collections.abc import Sequence
from pathlib import Path

from lle_jax.data.manifest import DataError

# Names, without case, of the two folders of a set of pairs.
DARK_FOLDERS = frozenset({"low", "dark", "input", "inputs", "underexposed"})
CLEAN_FOLDERS = frozenset({"high", "clean", "gt", "groundtruth", "normal", "target", "targets"})


def refuse(root: Path, paths: Sequence[Path]) -> None:
    """Raises DataError where a folder of dark images lies beside one of their clean versions."""
    folders = {folder for path in paths for folder in path.relative_to(root).parents}
    for dark in sorted(folders):
        if dark.name.casefold() in DARK_FOLDERS:
            beside = {folder.name.casefold(): folder for folder in folders
                      if folder.parent == dark.parent}  # fmt: skip
            for name in CLEAN_FOLDERS & beside.keys():
                raise DataError(
                    f"{root}: {dark} beside {beside[name]} looks like pairs of dark and clean "
                    f"images, and dark ones would be taken for clean; give {root / beside[name]} "
                    "alone, or rename the folders if all images are clean"
                )
