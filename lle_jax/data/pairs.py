"""Measured pairs of a low-light and a clean image, as the public sets of low light keep them."""

import collections
import dataclasses
import os
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from lle_jax import images
from lle_jax.data import manifest, roles
from lle_jax.data.manifest import DataError
from lle_jax.data.roles import NO_FOLDS, Folds
from lle_jax.data.splits import Entry, Splits, examine, splits_of
from lle_jax.images.files import copy_name, refusal

# Names, without case, of the two folders of a set of pairs.
LOW_FOLDERS = ("low", "dark", "input", "inputs", "underexposed")
CLEAN_FOLDERS = ("high", "clean", "gt", "groundtruth", "normal", "target", "targets")

_SIDE = "|".join(sorted((*LOW_FOLDERS, *CLEAN_FOLDERS), key=len, reverse=True))
_NAMED_SIDE = re.compile(rf"^({_SIDE})(?![a-z])[-_ ]?|[-_ ]({_SIDE})$", re.IGNORECASE)


class Pair(NamedTuple):
    """The two files of a pair, and the row of the manifest that lists them."""

    low: Path
    clean: Path
    row: manifest.Row | None = None


def load(source: str, folds: Folds = NO_FOLDS) -> Splits:
    """Loads pairs, each as a clean image with its measured low-light version.

    Args:
      source: two folders, "LOW,CLEAN", whose files have the same names (see `match`); a folder
        that holds such folders, as low/ beside high/, clean/ or gt/, there or below folders named
        train, validation (or val) and test, or our485 and eval15 as in LOL-v1; or a manifest whose
        column `low_path` says where the low-light version of `path` lies. Roles are those of
        folders or manifest, otherwise by content as for clean images.
      folds: divides pairs without roles for a cross-validation instead.

    Raises:
      DataError: if there are none, or the two images of a pair are not both readable and of equal
        size, number of channels and bits.
    """
    if source.casefold().endswith(".csv"):
        root, pairs, rejected = _of_manifest(Path(source))
    else:
        root, pairs, rejected = _of_folders(source)
    entries = _examine(source, root, pairs)
    groups: dict[str, list[Entry]] = {}
    if pairs[0].row:
        rows = [(pair.row, entry) for pair, entry in zip(pairs, entries, strict=True) if pair.row]
        groups, given = roles.by_rows(rows)
    else:
        given, outside = roles.by_folder(root, [pair.clean for pair in pairs])
        rejected += outside
        for pair, entry in zip(pairs, entries, strict=True):
            # Low-light versions of one image share its role.
            group = str(pair.clean) if given else entry.digest
            if not given or group in given:
                groups.setdefault(group, []).append(entry)
    parts = roles.assign(source, groups, given, folds)
    return splits_of(parts if pairs[0].row else roles.fill(source, parts), rejected)


def refuse(root: Path, paths: Sequence[Path]) -> None:
    """Raises DataError where a folder of low-light images lies beside one of clean images."""
    for low, clean in _couples(root, paths):
        raise DataError(
            f"{root}: {low.relative_to(root)} beside {clean.relative_to(root)} looks like pairs of "
            "low-light and clean images, and low-light ones would be taken for clean; give it as "
            f"--config.data.pairs={root}, or {clean} alone, or rename the folders"
        )


def match(low: Path, clean: Path) -> tuple[list[tuple[Path, Path]], list[tuple[str, str]]]:
    """Matches the images of two folders by their path, or else where a match is unique by it
    without the format's suffix, and without the name of the side (low_1.png and 1_gt.png).

    Returns:
      pairs (low, clean), and (path, reason) of what has no partner.

    Raises:
      ImageError: if a folder holds no images.
    """
    listed_low, listed_clean = images.scan(low), images.scan(clean)
    lows = {path.relative_to(low): path for path in listed_low.images}
    truths = {path.relative_to(clean): path for path in listed_clean.images}
    rejected = [(str(path), refusal(path)) for path in (*listed_low.others, *listed_clean.others)]
    matched = [(lows.pop(path), truths.pop(path)) for path in list(truths) if path in lows]
    # Copies of a format that is not written have two suffixes: scan.webp.png.
    for path in list(truths):
        if copy_name(path) in lows:
            matched.append((lows.pop(copy_name(path)), truths.pop(path)))
    ambiguous: set[Path] = set()
    for key in (images.stem, _without_side):
        _match_by(key, lows, truths, matched, ambiguous)
    for path, truth in truths.items():
        reason = (
            f"{truth}: several images of that name, which differ in suffix; rename them"
            if path in ambiguous
            else f"{truth}: {low} has no image of that name"
        )
        rejected.append((str(truth), reason))
    rejected += [(str(p), f"{p}: {clean} has no image of that name") for p in lows.values()]
    return sorted(matched, key=lambda pair: pair[1]), rejected


def _match_by(
    key: Callable[[Path], Hashable],
    lows: dict[Path, Path],
    truths: dict[Path, Path],
    matched: list[tuple[Path, Path]],
    ambiguous: set[Path],
) -> None:
    """Moves from `lows` and `truths` to `matched` what is alone with its partner under a key."""
    candidates = collections.defaultdict(list)
    for path in lows:
        candidates[key(path)].append(path)
    counts = collections.Counter(map(key, truths))
    for path in list(truths):
        partners = candidates.get(key(path), [])
        if len(partners) == counts[key(path)] == 1:
            matched.append((lows.pop(partners[0]), truths.pop(path)))
        elif partners:
            ambiguous.add(path)


def _without_side(path: Path) -> Path:
    """Returns a relative path without suffix and without the name of the side in the file's."""
    stem = images.stem(path)
    return stem.with_name(_NAMED_SIDE.sub("", stem.name) or stem.name)


def _couples(root: Path, paths: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Returns the folders of low-light images that lie beside one of clean images, and that one."""
    folders = {folder for path in paths for folder in path.parents if folder.is_relative_to(root)}
    children: dict[Path, dict[str, Path]] = collections.defaultdict(dict)
    for folder in folders - {root}:
        children[folder.parent][folder.name.casefold()] = folder
    couples = []
    for _, named in sorted(children.items()):
        low = next((named[name] for name in LOW_FOLDERS if name in named), None)
        clean = next((named[name] for name in CLEAN_FOLDERS if name in named), None)
        if low and clean:
            couples.append((low, clean))
    return couples


def _of_folders(source: str) -> tuple[Path, list[Pair], list[tuple[str, str]]]:
    """Returns the root below which clean images are named, the pairs, and what was skipped."""
    root, couples = Path(source), []
    if not all(map(str.strip, source.split(","))) and not root.exists():
        # The path of no name is the current directory.
        raise DataError(f"data.pairs has an empty name ({source!r}); expected LOW,CLEAN")
    if not root.exists() and source.count(",") == 1:
        low, clean = map(Path, source.split(","))
        root, couples = clean, [(low, clean)]
    for folder in (root, *(folder for couple in couples for folder in couple)):
        if not folder.is_dir():
            raise DataError(
                f"{folder}: no such folder; put our485/low, our485/high, eval15/low and "
                "eval15/high of LOL-v1 there, or set --config.data.pairs to LOW,CLEAN, a folder "
                "with low/ and high/ in it, or a manifest"
            )
    try:
        couples = couples or _couples(root, images.scan(root).images)
        matched = [match(*couple) for couple in couples]
    except images.ImageError as error:
        raise DataError(str(error)) from None
    pairs = [Pair(*pair) for found, _ in matched for pair in found]
    rejected = [item for _, skipped in matched for item in skipped]
    if not pairs:
        reason = f"no folders low/ and high/ in {root}"
        if couples:
            reason = f"no image of the same name in {' and '.join(map(str, couples[0]))}"
        raise DataError(f"{source}: {reason}; give LOW,CLEAN or a manifest")
    return root, pairs, rejected


def _of_manifest(path: Path) -> tuple[Path, list[Pair], list[tuple[str, str]]]:
    rows, rejected = manifest.read(path)
    pairs = [Pair(row.low, row.image, row) for row in rows if row.low]
    rejected += [
        (str(row.image), f"{path}: rows without low_path are no pairs")
        for row in rows
        if not row.low
    ]
    if not pairs:
        raise DataError(
            f"{path}: no row has a low_path; add that column, or give --config.data.source"
        )
    return path.parent, pairs, rejected


def _examine(source: str, root: Path, pairs: Sequence[Pair]) -> list[Entry]:
    """Returns every pair's clean image with its low-light version.

    Raises:
      DataError: for the first pair that does not fit; a pair is not left out unnoticed.
    """
    cleans, lows = [pair.clean for pair in pairs], [pair.low for pair in pairs]
    results = examine(Path(source), root, cleans)
    results += examine(Path(f"{source} (low)"), Path(os.path.commonpath(lows)), lows)
    problems = [item[1] for item in results if isinstance(item, tuple)]
    entries = [item for item in results if isinstance(item, Entry)]
    joined = []
    if not problems:
        for pair, clean, low in zip(pairs, entries, entries[len(pairs) :], strict=False):
            problems += _mismatch(pair, clean, low)
            modality, group = (pair.row.modality, pair.row.group) if pair.row else ("", "")
            joined.append(dataclasses.replace(clean, low=low, modality=modality, group=group))
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{more}")
    if all(entry.low and entry.low.digest == entry.digest for entry in joined):
        raise DataError(f"{source}: the low-light image of every pair is the clean one itself")
    return joined


def _mismatch(pair: Pair, clean: Entry, low: Entry) -> list[str]:
    """Says in what the images of a pair differ that must be equal."""
    assert clean.record  # both are of files
    assert low.record
    of_low, of_clean = low.record, clean.record
    both = f"{pair.low} and {pair.clean}"
    if of_low.size != of_clean.size:
        (a, b), (c, d) = of_low.size, of_clean.size
        return [f"{both}: {a}x{b} and {c}x{d} pixels; a pair must be of one size"]
    if of_low.channels != of_clean.channels:
        return [f"{both}: {of_low.channels} and {of_clean.channels} channels; convert one of them"]
    if of_low.bits != of_clean.bits:
        return [
            f"{both}: {of_low.bits} and {of_clean.bits} bits a sample, so that their values may be "
            "scaled differently; convert one of them"
        ]
    return []
