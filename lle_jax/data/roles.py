"""Divides images into training, validation and test, whole groups at a time."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lle_jax.data.manifest import ROLES, DataError, Row
from lle_jax.data.splits import Entry

# Names, without case, of folders that say what their images are for; the last two are LOL-v1's.
FOLDERS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "test": "test",
    "our485": "train",
    "eval15": "test",
}
_SHARE = 10  # a tenth each of the images to validate and to test


class Folds(NamedTuple):
    """One part of a cross-validation.

    Attributes:
      number: of the folds; 0 for no cross-validation.
      fold: the one to test on, from 0; the next one is to validate, the others to train.
    """

    number: int = 0
    fold: int = 0


NO_FOLDS = Folds()


def assign(
    where: str,
    groups: Mapping[str, Sequence[Entry]],
    given: Mapping[str, str] | None = None,
    folds: Folds = NO_FOLDS,
) -> dict[str, list[Entry]]:
    """Returns the images of each role; no group is divided.

    Args:
      where: names the source in messages.
      groups: images that must have one role, such as all of one patient.
      given: the role of each group, where the source says so.
      folds: divides for a cross-validation instead.

    Raises:
      DataError: for too few groups, or roles and folds at once.
    """
    if folds.number:
        if given:
            raise DataError(
                f"{where}: it gives its images roles, which folds would mix; remove the roles or "
                "--config.data.folds"
            )
        return _deal(where, list(groups.values()), folds)
    if not given:
        return divide(where, list(groups.values()), ("test", "validation"))
    parts: dict[str, list[Entry]] = {role: [] for role in ROLES}
    for name, group in groups.items():
        parts[given[name]] += group
    return parts


def fill(where: str, parts: dict[str, list[Entry]]) -> dict[str, list[Entry]]:
    """Takes validation and test images, where there are none, from the training images."""
    missing = [role for role in ("test", "validation") if not parts[role]]
    if not missing:
        return parts
    by_content: dict[str, list[Entry]] = {}
    for entry in parts["train"]:
        by_content.setdefault(entry.digest, []).append(entry)
    return parts | divide(where, list(by_content.values()), missing)


def by_folder(
    root: Path, paths: Sequence[Path]
) -> tuple[dict[str, str] | None, list[tuple[str, str]]]:
    """Takes the roles from the names of folders, where there is a training and another one.

    Args:
      root: the source, whose own path does not count.
      paths: the files.

    Returns:
      the role of each file by its path, or None where folders give none; and (path, reason) of
      files in none of these folders.
    """
    given = {}
    for path in paths:
        folders = [part.casefold() for part in path.relative_to(root).parts[:-1]]
        role = next((FOLDERS[folder] for folder in folders if folder in FOLDERS), "")
        given[str(path)] = role
    if not {"train"} < set(given.values()) - {""}:
        return None, []
    outside = [
        (path, f"{path}: in none of the folders {', '.join(ROLES)}")
        for path, role in given.items()
        if not role
    ]
    return {path: role for path, role in given.items() if role}, outside


def by_rows(
    rows: Sequence[tuple[Row, Entry]],
) -> tuple[dict[str, list[Entry]], dict[str, str] | None]:
    """Returns groups as a manifest makes them, and the role of each, None where it has none."""
    groups: dict[str, list[Entry]] = {}
    given: dict[str, str] = {}
    for row, entry in rows:
        # With roles a group may still be an image, as `manifest.read` has compared the groups.
        name = str(row.image) if row.role or not row.group else f"group {row.group}"
        groups.setdefault(name, []).append(entry)
        given[name] = row.role
    return groups, given if any(given.values()) else None


def divide(
    where: str, groups: Sequence[Sequence[Entry]], roles: Sequence[str]
) -> dict[str, list[Entry]]:
    """Gives groups of images roles by content: about a tenth of the images to each of `roles`,
    first those with the lowest digests, the others to train.

    Groups of more than that come last, so that where possible they are for training.
    """
    count = sum(map(len, groups))
    _check_enough(where, groups, len(roles) + 1, f"one each for train, {', '.join(roles)}")
    share = math.ceil(count / _SHARE)
    ordered = sorted(groups, key=lambda g: (len(g) > share, min(entry.digest for entry in g)))
    parts: dict[str, list[Entry]] = {role: [] for role in (*roles, "train")}
    for needed, role in enumerate(roles, start=-len(roles)):
        while len(parts[role]) < share and len(ordered) > -needed:
            parts[role] += ordered.pop(0)
    for group in ordered:
        parts["train"] += group
    return parts


def _deal(where: str, groups: Sequence[Sequence[Entry]], folds: Folds) -> dict[str, list[Entry]]:
    """Deals groups by content to folds of about equally many images."""
    _check_enough(where, groups, folds.number, "one for each fold")
    dealt: list[list[Entry]] = [[] for _ in range(folds.number)]
    for group in sorted(groups, key=lambda g: (-len(g), min(entry.digest for entry in g))):
        min(dealt, key=len).extend(group)
    rotated = dealt[folds.fold :] + dealt[: folds.fold]
    test, validation, *training = rotated
    return {
        "train": [entry for part in training for entry in part],
        "validation": validation,
        "test": test,
    }


def _check_enough(where: str, groups: Sequence[Sequence[Entry]], needed: int, purpose: str) -> None:
    if len(groups) < needed:
        count = sum(map(len, groups))
        units = f" of {len(groups)} patient(s) or group(s)" if count > len(groups) else ""
        raise DataError(
            f"{where}: {count} readable image(s){units}; at least {needed} are needed, {purpose}"
        )
