"""Pairs input images with the files to write: what `lle degrade` and `lle enhance` share.

The structure of a given folder is mirrored in the output folder; a given file goes to its top.
"""

import contextlib
import glob
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from lle_jax.images.errors import ImageError, naming, shown
from lle_jax.images.files import OTHER_FORMATS, READ_ONLY, WRITTEN, copy_name, scan

Pair = tuple[Path, Path]


class Plan(NamedTuple):
    """What a command has to do.

    Attributes:
      pairs: (source, target) of each image that can be written.
      failed: ((source, target), reason) of each whose output would be another's too.
      others: pictures that are skipped, as of `images.scan`.
    """

    pairs: list[Pair]
    failed: list[tuple[Pair, str]]
    others: list[Path]


class _Entry(NamedTuple):
    source: Path
    target: Path
    root: Path


def expand(inputs: Iterable[str | Path], output: Path | None = None) -> list[Path]:
    """Replaces patterns as "scans/*.png" (`**` for any folders) by the paths that match.

    Args:
      inputs: files, folders and patterns.
      output: a file or folder of earlier results, which a pattern does not mean if it has others.

    Raises:
      ImageError: if nothing matches a pattern.
    """
    paths: list[Path] = []
    results = None if output is None else _resolved(output)
    for given in inputs:
        path = Path(given)
        if path.exists() or not glob.has_magic(str(given)):
            paths.append(path)
            continue
        matches = sorted(map(Path, glob.glob(str(given), recursive=True)))
        if results is not None:
            matches = [m for m in matches if not _is_inside(m, results)] or matches
        if not matches:
            raise ImageError(f"{given}: nothing matches this pattern; check the path")
        paths += matches
    return paths


def plan(
    inputs: Iterable[str | Path],
    output: Path,
    outputs: Callable[[Path], Sequence[Path]] = lambda target: [target],
    also: tuple[str, ...] = (),
) -> Plan:
    """Pairs every image in `inputs` with the file to write.

    Where `output` is inside a given folder, its files are earlier results and skipped. DICOM files
    without a suffix of their own get ".dcm", formats that are not written get ".png" after their
    name. Two images whose outputs would have one name, or names that differ in case only, which are
    one file on some systems, both fail.

    Args:
      inputs: files, folders and patterns.
      output: a folder; or, for one image, a file by its suffix.
      outputs: all files that are written for a target, the target among them.
      also: suffixes of further files to pair, such as `files.VIDEOS`.

    Raises:
      ImageError: if an input does not exist or holds no image, or would be overwritten.
    """
    output = Path(output)
    paths = expand(inputs, output)
    with naming(output, "cannot be written to"), contextlib.suppress(FileNotFoundError):
        output.stat()  # which a loop of links has not
    if output.suffix.lower() in (*READ_ONLY, *OTHER_FORMATS) and not output.is_dir():
        raise ImageError(f"{output}: this format is not written; use one of {' '.join(WRITTEN)}")
    if output.suffix.lower() in (*WRITTEN, *also) and not output.is_dir():
        if len(paths) != 1 or paths[0].is_dir():
            raise ImageError(f"{output}: one file for several inputs; give -o a folder")
        readable, others = scan(paths, also=also)
        entries = [_Entry(readable[0], output, readable[0].parent)]
    else:
        if output.exists() and not output.is_dir():
            raise ImageError(f"{output}: not a folder; choose another with -o")
        entries, others = _mirror(paths, output, also)
    sources = {entry.source.resolve() for entry in entries}
    for entry in entries:
        for target in outputs(entry.target):
            if _resolved(target) in sources:
                raise ImageError(
                    f"{target}: this input would be overwritten; choose another output"
                )
    reasons = _collisions(entries, outputs)
    return Plan(
        [(entry.source, entry.target) for entry in entries if entry.source not in reasons],
        [
            ((entry.source, entry.target), reasons[entry.source])
            for entry in entries
            if entry.source in reasons
        ],
        others,
    )


def is_file(plan: Plan, output: Path) -> bool:
    """Whether the plan writes the file `output`, not files in a folder of that name."""
    return [target for source, target in plan.pairs if not source.is_dir()] == [output]


def relative(target: Path, output: Path | None) -> str:
    """Returns the key of a target in the journal of the folder `output`."""
    return target.name if output is None else target.relative_to(output).as_posix()


def _mirror(
    paths: Sequence[Path], output: Path, also: tuple[str, ...]
) -> tuple[list[_Entry], list[Path]]:
    """Pairs images with paths in the folder `output`, each name of an image once."""
    results = output.resolve()
    entries: dict[Path, _Entry] = {}
    written: set[tuple[Path, Path]] = set()
    others: dict[Path, Path] = {}
    for given in paths:
        root = given if given.is_dir() else given.parent
        below = given.is_dir() and root.resolve() in results.parents
        # a file of another format among others is skipped
        readable, unread = scan(given, required=len(paths) == 1, also=also)
        for path in unread:
            if not (below and results in path.resolve().parents):
                others.setdefault(path.resolve(), path)
        for source in readable:
            # links to one image are images of their own, but for one output
            name, image = source.parent.resolve() / source.name, source.resolve()
            target = output / copy_name(source.relative_to(root))
            if below and (results in name.parents or results in image.parents):
                continue
            if name not in entries and (image, target) not in written:
                entries[name] = _Entry(source, target, root)
                written.add((image, target))
    if others and not entries:
        scan(paths)  # which says that no image can be used
    return list(entries.values()), list(others.values())


def _resolved(path: Path) -> Path | None:
    """The path without links, None for links in a loop, on which Python up to 3.12 fails."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return None


def _is_inside(path: Path, results: Path) -> bool:
    found = _resolved(path)
    return found is not None and (found == results or results in found.parents)


def _collisions(
    entries: Sequence[_Entry], outputs: Callable[[Path], Sequence[Path]]
) -> dict[Path, str]:
    """Explains, by source, why an output would be written twice."""
    owners: dict[str, list[_Entry]] = {}
    for entry in entries:
        for target in outputs(entry.target):
            owners.setdefault(str(target).casefold(), []).append(entry)
    reasons: dict[Path, str] = {}
    for sharing in owners.values():
        for entry in sharing if len(sharing) > 1 else ():
            other = next(e for e in sharing if e.source != entry.source)
            advice = "rename one of them"
            if other.root != entry.root:
                advice += ", or write each folder to an output folder of its own"
            reasons.setdefault(
                entry.source,
                f"{shown(entry.source)}: its output would have the name of that of "
                f"{shown(other.source)}; {advice}",
            )
    return reasons
