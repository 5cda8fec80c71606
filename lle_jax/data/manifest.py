"""Manifests: CSV files that say of each image where it lies, what it shows and its role.

Columns, in any order and case: `path` (relative to the manifest), `modality`, and optionally
`role` (train, validation or val, test), `patient` or `group`, whose images all have one role, and
`low_path`, the measured low-light version of the image.
Other columns are ignored.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROLES = ("train", "validation", "test")

# What an image can be of; the names of presets where there is one, "" where it is not stated.
MODALITIES = ("", "dermatology", "endoscopy", "fundus", "microscopy", "radiograph", "ultrasound")

_GROUPS = ("patient", "group")
_NAMED = 5  # rows in a message


class DataError(ValueError):
    """The images cannot be used as asked; the message says what to change."""


class Row(NamedTuple):
    """An image that a manifest lists.

    Attributes:
      number: of its line in the file, 1 for the header.
      image: where it lies.
      modality: one of MODALITIES.
      role: one of ROLES, "" where the manifest gives none.
      group: of what patient, or other unit that must not be divided, it is; "" if not stated.
      low: where its measured low-light version lies, None without one.
    """

    number: int
    image: Path
    modality: str
    role: str
    group: str
    low: Path | None = None


def read(path: Path) -> tuple[list[Row], list[tuple[str, str]]]:
    """Reads a manifest.

    Returns:
      the rows of known modality, each image once, and (image, reason) of the other rows.

    Raises:
      DataError: if it cannot be read, a column is missing, a row cannot be used, rows contradict
        each other, or a group is in two roles.
    """
    columns, records = _records(path)
    missing = {"path", "modality"} - set(columns)
    if missing and len(columns) == 1 and (found := {";", "\t"} & set(columns[0])):
        raise DataError(f"{path}: it is separated by {found.pop()!r}; save it separated by commas")
    if missing:
        raise DataError(f"{path}: the column {sorted(missing)[0]!r} is missing")
    units = [name for name in _GROUPS if name in columns]
    if len(units) > 1:
        raise DataError(f"{path}: columns patient and group; keep the one that must not be divided")
    unit = units[0] if units else ""
    rows: dict[tuple[Path, Path | None], Row] = {}  # an image may have several low-light versions
    rejected = []
    for number, record in records:
        if record["modality"] not in MODALITIES:
            known = ", ".join(MODALITIES[1:])
            reason = f"{path}: modality {record['modality']!r} is not known; known are {known}"
            rejected.append((str(path.parent / record["path"]), reason))
            continue
        row = _row(path, number, record, unit)
        first = rows.setdefault((row.image, row.low), row)
        if first[1:] != row[1:]:
            raise DataError(
                f"{path}: rows {first.number} and {number} differ on {record['path']!r}; keep one"
            )
        if first is not row:
            rejected.append((str(row.image), f"{path}:{number}: listed in row {first.number} too"))
    if not rows:
        raise DataError(f"{path}: no row has a modality of {', '.join(MODALITIES[1:])}")
    if unit and "role" in columns:
        _check_groups(path, unit, list(rows.values()))
    return list(rows.values()), rejected


def _records(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Returns the columns, and the rows by line; cells that a short row lacks are empty."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # with or without Excel's mark
            lines = csv.reader(file)
            columns = [name.strip().casefold() for name in next(lines, [])]
            rows = [(lines.line_num, [cell.strip() for cell in row]) for row in lines if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: it cannot be read as CSV ({error})") from None
    empty = dict.fromkeys(columns, "")
    return columns, [(line, empty | dict(zip(columns, row, strict=False))) for line, row in rows]


def _row(manifest: Path, number: int, record: Mapping[str, str], unit: str) -> Row:
    """Raises DataError where a row cannot be used."""
    if not record["path"]:
        raise DataError(f"{manifest}:{number}: the path is empty")
    role = ""
    if "role" in record:
        role = {"val": "validation"}.get(record["role"], record["role"])
        if role not in ROLES:
            raise DataError(f"{manifest}:{number}: role is {record['role']!r}; expected {ROLES}")
    low = record.get("low_path")
    for path in filter(None, (record["path"], low)):
        if "\0" in path:
            raise DataError(f"{manifest}:{number}: the path {path!r} has a NUL byte")
        if not (manifest.parent / path).resolve().is_relative_to(manifest.parent.resolve()):
            raise DataError(f"{manifest}:{number}: {path!r} lies outside the folder")
    return Row(
        number,
        manifest.parent / record["path"],
        record["modality"],
        role,
        record[unit] if unit else "",
        manifest.parent / low if low else None,
    )


def _check_groups(manifest: Path, unit: str, rows: Sequence[Row]) -> None:
    """Raises DataError if a patient, or other group, is in two roles."""
    roles: dict[str, dict[str, list[int]]] = {}
    for row in rows:
        if row.group:
            roles.setdefault(row.group, {}).setdefault(row.role, []).append(row.number)
    divided = [group for group in roles if len(roles[group]) > 1]
    if not divided:
        return
    where = " and ".join(
        f"{role} ({_numbers(roles[divided[0]][role])})"
        for role in ROLES if role in roles[divided[0]]
    )  # fmt: skip
    more = f"; so are {len(divided) - 1} more" if len(divided) > 1 else ""
    raise DataError(
        f"{manifest}: {unit} {divided[0]!r} is in {where}{more}; give all images of one {unit} "
        "the same role"
    )


def _numbers(rows: Sequence[int]) -> str:
    listed = ", ".join(map(str, rows[:_NAMED]))
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return f"row{'s' if len(rows) > 1 else ''} {listed}{more}"
