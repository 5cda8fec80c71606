"""Images as sequences that are decoded when asked for, in three roles, and what examines files."""

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import jax
import numpy as np

from lle_jax import files, images, jobs
from lle_jax.data import index, names
from lle_jax.data.manifest import MODALITIES, ROLES, DataError


@dataclasses.dataclass(frozen=True)
class Images(Sequence[np.ndarray]):
    """A sequence of clean images, decoded when asked for: float32 `[H, W, C]` in [0, 1].

    Attributes:
      names: one short name per image.
      hashes: SHA-256 of each image's content.
      sizes: (height, width) of each.
      loaders: a function per image that returns its pixels.
      modalities: one of MODALITIES per image; by default "" for all.
      low_loaders: a function per image that returns the pixels of its measured low-light version;
        None for an image without. By default None for all.
      low_hashes: SHA-256 of each low-light version's content, "" for an image without.
      groups: of what patient, or other unit that must not be divided, each is; "" if not stated.
    """

    names: tuple[str, ...]
    hashes: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    loaders: tuple[Callable[[], np.ndarray], ...]
    modalities: tuple[str, ...] = ()
    low_loaders: tuple[Callable[[], np.ndarray] | None, ...] = ()
    low_hashes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        defaults = {"modalities": "", "low_loaders": None, "low_hashes": "", "groups": ""}
        for name, value in defaults.items():
            if not getattr(self, name):
                object.__setattr__(self, name, (value,) * len(self.names))

    @property
    def all_hashes(self) -> tuple[str, ...]:
        """Returns SHA-256 of every image and of every measured low-light version."""
        return self.hashes + tuple(filter(None, self.low_hashes))

    @property
    def units(self) -> tuple[str, ...]:
        """Numbers what each image shares with others of these, "" for one that shares nothing.

        Images of one group, and measured pairs with one truth, are one unit. The numbers go by the
        order of the images' names, and tell nobody what a patient is called.
        """
        of_images = sorted(zip(self.names, self.groups, self.hashes, strict=True))
        keys = {name: (group, "") if group else ("", digest) for name, group, digest in of_images}
        counts = collections.Counter(keys.values())
        shared = (key for key, count in counts.items() if count > 1)
        numbers = {key: str(number) for number, key in enumerate(shared, start=1)}
        return tuple(numbers.get(keys[name], "") for name in self.names)

    def low(self, index: int) -> np.ndarray | None:
        """Returns the measured low-light version of an image, None where there is none."""
        load = self.low_loaders[index]
        return None if load is None else load()

    @property
    def modality_ids(self) -> np.ndarray:
        """Returns the index in MODALITIES of each image's modality, int32."""
        return np.array([MODALITIES.index(name) for name in self.modalities], np.int32)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(index, slice):
            return [load() for load in self.loaders[index]]
        return self.loaders[index]()

    def subset(self, indices: Sequence[int]) -> "Images":
        """Returns these images only, in this order."""
        columns = (getattr(self, field.name) for field in dataclasses.fields(self))
        return Images(*(tuple(column[index] for index in indices) for column in columns))


@dataclasses.dataclass(frozen=True)
class Splits:
    """Disjoint images for training, for choosing and for the final table.

    Attributes:
      train, validation, test: the images.
      rejected: (path, reason) of files, or rows of a manifest, that are not used.
    """

    train: Images
    validation: Images
    test: Images
    rejected: tuple[tuple[str, str], ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over every image's role, name and content."""
        lines = [
            f"{role} {digest}{low} {name}"
            for role, part in zip(ROLES, (self.train, self.validation, self.test), strict=True)
            for name, digest, low in zip(part.names, part.hashes, part.low_hashes, strict=True)
        ]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def record(self) -> dict[str, list[str]]:
        """SHA-256 of every image by role, from which `lle evaluate` finds train/test overlap."""
        return {role: sorted(set(getattr(self, role).all_hashes)) for role in ROLES}

    @property
    def ordered_record(self) -> dict[str, Any]:
        """The record, and under "order" a SHA-256 over the order of the images, their modalities
        and low-light versions, on which a training depends too.
        """
        parts = {role: getattr(self, role) for role in ROLES}
        rows = [
            [role, *row]
            for role, part in parts.items()
            for row in zip(part.hashes, part.low_hashes, part.modalities, strict=True)
        ]
        return self.record | {"order": hashlib.sha256(json.dumps(rows).encode()).hexdigest()}


@dataclasses.dataclass(frozen=True)
class Entry:
    """An image that can be used.

    Attributes:
      name: unique among those of its source.
      digest: SHA-256 of its content.
      size: (height, width).
      load: returns its pixels.
      modality: one of MODALITIES.
      record: of its file, None for an embedded sample.
      low: its measured low-light version, None where there is none.
      group: of what patient, or other unit that must not be divided, it is; "" if not stated.
    """

    name: str
    digest: str
    size: tuple[int, int]
    load: Callable[[], np.ndarray]
    modality: str = ""
    record: index.Record | None = None
    low: "Entry | None" = None
    group: str = ""


def _examine(path: Path, name: str, record: index.Record | None) -> Entry | tuple[str, str]:
    """Returns what can be used, from the record if it is of the file's state, or why it cannot."""
    before = files.state(path)  # so that a change while it is read shows at the next start
    if record is None or record.state != before:
        try:
            picture = images.read(path)
            height, width, channels = still(picture).shape
            # The file is read twice, since reading and hashing take a fortieth of decoding.
            digest = images.sha256(path)
            record = index.Record(before, digest, (height, width), channels, picture.bits)
        except images.ImageError as error:
            return str(path), str(error)
    loader = functools.partial(_read, path, record)
    return Entry(name, record.digest, record.size, loader, record=record)


def _read(path: Path, record: index.Record) -> np.ndarray:
    """Reads the pixels of an image; raises DataError if the file is not that of the record."""
    pixels = still(images.read(path))
    now = files.state(path)
    if (now is None or now != record.state) and images.sha256(path) != record.digest:
        reason = "changed since the images were checked; restore it and start again"
        raise DataError(f"{path}: {reason}")
    return pixels


def still(picture: images.Picture) -> np.ndarray:
    """Returns a picture's pixels; of several frames the middle one, which is seldom blank."""
    pixels = picture.pixels
    return pixels if pixels.ndim == 3 else pixels[len(pixels) // 2]


def examine(source: Path, root: Path, paths: Sequence[Path]) -> list[Entry | tuple[str, str]]:
    """Returns for each file what can be used of it, or (path, reason) if it cannot be read.

    Args:
      source: what lists the files, under which the index remembers them.
      root: a folder above them all, below which they are named.
      paths: the files.
    """
    short = names.of_files(root, paths)
    known = index.read(source, paths)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(_examine, paths, short, known)
        examined = list(
            jobs.track(results, len(paths), unit="image", description="checking images")
        )
    records = [item.record if isinstance(item, Entry) else None for item in examined]
    if records != known:
        index.write(source, paths, records)
    return examined


def examine_all(
    source: Path, root: Path, paths: Sequence[Path]
) -> tuple[list[tuple[Path, Entry]], list[tuple[str, str]]]:
    """Returns what can be used, each content once, and (path, reason) of what cannot.

    Raises:
      DataError: if nothing can.
    """
    examined = examine(source, root, paths)
    rejected = [item for item in examined if isinstance(item, tuple)]
    entries: dict[str, tuple[Path, Entry]] = {}
    for path, item in zip(paths, examined, strict=True):
        if isinstance(item, Entry):
            first, _ = entries.setdefault(item.digest, (path, item))
            if first is not path:
                rejected.append((str(path), f"{path}: a copy of {first}"))
    if not entries:
        raise DataError(f"{root}: none of the {len(paths)} images can be read; {rejected[0][1]}")
    return list(entries.values()), rejected


_NAMED, _LINES = 3, 10


def skipped_lines(rejected: Sequence[tuple[str, str]]) -> list[str]:
    """Says in lines what was skipped and why: by reason the first few names and how many.

    Args:
      rejected: (path, reason) as of `Splits`.
    """
    by_reason: dict[str, list[str]] = {}
    for path, reason in rejected:
        by_reason.setdefault(reason, []).append(path)
    lines = []
    for reason, paths in by_reason.items():
        listed = ", ".join(Path(path).name for path in paths[:_NAMED])
        more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
        count = f"{len(paths)} image{'s' if len(paths) > 1 else ''}"
        alone = len(paths) == 1 and paths[0] in reason
        lines.append(f"skipped: {reason}" + ("" if alone else f": {count} ({listed}{more})"))
    if len(lines) > _LINES:
        lines[_LINES:] = [f"skipped: {len(lines) - _LINES} more, {len(rejected)} images in all"]
    return lines


def image_key(seed: int, digest: str) -> jax.Array:
    """Returns the random key of an image from the SHA-256 of its content, whatever the others."""
    return jax.random.fold_in(jax.random.key(seed), int(digest[:8], 16))


def join(first: Images, second: Images) -> Images:
    """Returns the images of both, in order; a name that both have gets a number in the second."""
    fields = [field.name for field in dataclasses.fields(Images)]
    joined = Images(*(getattr(first, name) + getattr(second, name) for name in fields))
    return dataclasses.replace(joined, names=names.unique(joined.names))


def join_splits(first: Splits, second: Splits) -> Splits:
    """Returns the images of both, role by role."""
    return Splits(
        join(first.train, second.train),
        join(first.validation, second.validation),
        join(first.test, second.test),
        first.rejected + second.rejected,
    )


def check_disjoint(source: str, splits: Splits) -> None:
    """Raises DataError if an image, or a patient, of one of several sources has another role in
    another; who the patient is is not said.
    """
    _one_role_each(
        source,
        splits,
        lambda part: (
            *zip(part.names, part.hashes, strict=True),
            *zip(part.names, part.low_hashes, strict=True),
        ),
        "are the same image; remove one",
    )
    _one_role_each(
        source,
        splits,
        lambda part: zip(part.names, part.groups, strict=True),
        "are of the same patient or group; give both one role, or other names to patients that are "
        "not the same",
    )


def _one_role_each(
    source: str,
    splits: Splits,
    named: Callable[[Images], Iterable[tuple[str, str]]],
    advice: str,
) -> None:
    """Raises DataError if a key of `named`, which gives (name of an image, key), has two roles."""
    roles: dict[str, tuple[str, str]] = {}
    for role in ROLES:
        for name, key in named(getattr(splits, role)):
            before, first = roles.setdefault(key, (role, name)) if key else (role, name)
            if before != role:
                raise DataError(f"{source}: {first} in {before} and {name} in {role} {advice}")


def images_of(entries: Sequence[Entry]) -> Images:
    """Returns examined images as a sequence."""
    return Images(
        tuple(entry.name for entry in entries),
        tuple(entry.digest for entry in entries),
        tuple(entry.size for entry in entries),
        tuple(entry.load for entry in entries),
        tuple(entry.modality for entry in entries),
        tuple(entry.low.load if entry.low else None for entry in entries),
        tuple(entry.low.digest if entry.low else "" for entry in entries),
        tuple(entry.group for entry in entries),
    )


def splits_of(
    entries: Mapping[str, Sequence[Entry]], rejected: Sequence[tuple[str, str]] = ()
) -> Splits:
    """Returns examined images, by role, as sequences."""
    train, validation, test = (images_of(entries[role]) for role in ROLES)
    return Splits(train, validation, test, tuple(rejected))
