"""Where clean images come from, split into train, validation and test by image.

Three sources: the embedded `samples`, any folder of well-lit images, and a manifest, which also
says of what modality each image is.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import overload

import jax
import numpy as np

from lle_jax import files, images, jobs
from lle_jax.data import index, manifest, names, pairs, samples
from lle_jax.data.manifest import MODALITIES, ROLES, DataError
from lle_jax.images.files import refusal


@dataclasses.dataclass(frozen=True)
class Images(Sequence[np.ndarray]):
    """A sequence of clean images, decoded when asked for: float32 `[H, W, C]` in [0, 1].

    Attributes:
      names: one short name per image.
      hashes: SHA-256 of each image's content.
      sizes: (height, width) of each.
      loaders: a function per image that returns its pixels.
      modalities: one of MODALITIES per image; by default "" for all.
    """

    names: tuple[str, ...]
    hashes: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    loaders: tuple[Callable[[], np.ndarray], ...]
    modalities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.modalities:
            object.__setattr__(self, "modalities", ("",) * len(self.names))

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
            f"{role} {digest} {name}"
            for role, part in zip(ROLES, (self.train, self.validation, self.test), strict=True)
            for name, digest in zip(part.names, part.hashes, strict=True)
        ]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def record(self) -> dict[str, list[str]]:
        """SHA-256 of every image by role, from which `lle evaluate` finds train/test overlap."""
        return {role: sorted(getattr(self, role).hashes) for role in ROLES}


@dataclasses.dataclass(frozen=True)
class _Entry:
    name: str
    digest: str
    size: tuple[int, int]
    load: Callable[[], np.ndarray]
    modality: str = ""
    record: index.Record | None = None


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


_NAMED, _LINES = 3, 10


def image_key(seed: int, digest: str) -> jax.Array:
    """Returns the random key of an image from the SHA-256 of its content, whatever the others."""
    return jax.random.fold_in(jax.random.key(seed), int(digest[:8], 16))


def load(source: str, *, crop: int) -> Splits:
    """Loads the images that `config.data.source` names.

    Args:
      source: "samples", a folder, a manifest (a CSV file), or several of these, separated by
        commas. A folder's sub-folders named train, validation and test give the roles where all
        three are there; otherwise each image's content decides its role (a tenth test, a tenth
        validation, at least one each), so that renaming files moves none to another role. A
        manifest has the columns path, modality, role and patient (see `data.manifest`); rows of
        other modalities than MODALITIES, such as masks, are rejected. Without a column of roles
        each patient's images decide its role by their content.
      crop: training and validation images must be at least this high and wide.

    Raises:
      DataError: if the folder is missing, empty or without readable images, if a role would have
        no image, if an image or a patient is in two roles, or if an image is smaller than the crop.
    """
    sources = [source] if Path(source).exists() else source.split(",")
    splits = functools.reduce(_join, map(_load, sources))
    _check_disjoint(source, splits)
    for role in ROLES:
        if not len(getattr(splits, role)):
            raise DataError(
                f"{source}: no image is left for {role}; add images or make sub-folders "
                "train, validation and test"
            )
    for part in (splits.train, splits.validation):
        for name, size in zip(part.names, part.sizes, strict=True):
            if min(size) < crop:
                raise DataError(
                    f"{name} is {size[0]}x{size[1]} pixels, smaller than the crop of {crop}; "
                    f"remove it or set --config.data.crop={min(size)}"
                )
    return splits


def _check_disjoint(source: str, splits: Splits) -> None:
    """Raises DataError if an image of one of several sources has another role in another."""
    roles: dict[str, tuple[str, str]] = {}
    for role in ROLES:
        part = getattr(splits, role)
        for name, digest in zip(part.names, part.hashes, strict=True):
            before, first = roles.setdefault(digest, (role, name))
            if before != role:
                raise DataError(
                    f"{source}: {first} in {before} and {name} in {role} are the same image; "
                    "remove one"
                )


def _load(source: str) -> Splits:
    if source == "samples":
        return _load_samples()
    return _load_manifest(Path(source)) if source.endswith(".csv") else _load_folder(Path(source))


def join(first: Images, second: Images) -> Images:
    """Returns the images of both, in order; a name that both have gets a number in the second."""
    fields = [field.name for field in dataclasses.fields(Images)]
    joined = Images(*(getattr(first, name) + getattr(second, name) for name in fields))
    return dataclasses.replace(joined, names=names.unique(joined.names))


def _join(first: Splits, second: Splits) -> Splits:
    return Splits(
        join(first.train, second.train),
        join(first.validation, second.validation),
        join(first.test, second.test),
        first.rejected + second.rejected,
    )


def _images(entries: Sequence[_Entry]) -> Images:
    return Images(
        tuple(entry.name for entry in entries),
        tuple(entry.digest for entry in entries),
        tuple(entry.size for entry in entries),
        tuple(entry.load for entry in entries),
        tuple(entry.modality for entry in entries),
    )


def _load_samples() -> Splits:
    entries: dict[str, list[_Entry]] = {role: [] for role in ROLES}
    for package, name, modality, role in samples.SAMPLES:
        image = samples.load(package, name)
        digest = hashlib.sha256(image.tobytes()).hexdigest()
        loader = functools.partial(samples.load, package, name)
        short = name.replace(".dcm", "").replace(":", "_")
        modality = modality if modality in MODALITIES else ""
        entries[role].append(_Entry(short, digest, image.shape[:2], loader, modality))
    return _splits(entries)


def _splits(
    entries: Mapping[str, Sequence[_Entry]], rejected: Sequence[tuple[str, str]] = ()
) -> Splits:
    train, validation, test = (_images(entries[role]) for role in ROLES)
    return Splits(train, validation, test, tuple(rejected))


def _examine(path: Path, name: str, record: index.Record | None) -> _Entry | tuple[str, str]:
    """Returns what can be used, from the record if it is of the file's state, or why it cannot."""
    before = files.state(path)  # so that a change while it is read shows at the next start
    if record is None or record.state != before:
        try:
            height, width = _pixels(path).shape[:2]
            # The file is read twice, since reading and hashing take a fortieth of decoding.
            record = index.Record(before, images.sha256(path), (height, width))
        except images.ImageError as error:
            return str(path), str(error)
    loader = functools.partial(_read, path, record)
    return _Entry(name, record.digest, record.size, loader, record=record)


def _read(path: Path, record: index.Record) -> np.ndarray:
    """Reads the pixels of an image; raises DataError if the file is not that of the record."""
    pixels = _pixels(path)
    now = files.state(path)
    if (now is None or now != record.state) and images.sha256(path) != record.digest:
        reason = "changed since the images were checked; restore it and start again"
        raise DataError(f"{path}: {reason}")
    return pixels


def _pixels(path: Path) -> np.ndarray:
    """Reads a picture; of a file with several frames the middle one, which is seldom blank."""
    pixels = images.read(path).pixels
    return pixels if pixels.ndim == 3 else pixels[len(pixels) // 2]


def _load_folder(root: Path) -> Splits:
    if not root.is_dir():
        raise DataError(
            f"{root}: no such folder; set --config.data.source to a folder of images or to samples"
        )
    try:
        paths, others = images.scan(root)
    except images.ImageError as error:
        raise DataError(str(error)) from None
    pairs.refuse(root, paths)
    entries, rejected = _examine_all(root, root, paths)
    rejected += [(str(path), refusal(path)) for path in others]
    parts, elsewhere = _by_folder(root, entries)
    return _splits(parts, [*elsewhere, *rejected])


def _examine_all(
    source: Path, root: Path, paths: Sequence[Path]
) -> tuple[list[tuple[Path, _Entry]], list[tuple[str, str]]]:
    """Returns what can be used, each content once, and (path, reason) of what cannot."""
    short = names.of_files(root, paths)
    known = index.read(source, paths)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(_examine, paths, short, known)
        examined = list(
            jobs.track(results, len(paths), unit="image", description="checking images")
        )
    records = [item.record if isinstance(item, _Entry) else None for item in examined]
    if records != known:
        index.write(source, paths, records)
    rejected = [item for item in examined if isinstance(item, tuple)]
    entries: dict[str, tuple[Path, _Entry]] = {}
    for path, item in zip(paths, examined, strict=True):
        if isinstance(item, _Entry):
            first, _ = entries.setdefault(item.digest, (path, item))
            if first is not path:
                rejected.append((str(path), f"{path}: a copy of {first}"))
    if not entries:
        raise DataError(f"{root}: none of the {len(paths)} images can be read; {rejected[0][1]}")
    return list(entries.values()), rejected


def _load_manifest(path: Path) -> Splits:
    rows, skipped = manifest.read(path)
    listed = {row.image: row for row in rows}
    entries, rejected = _examine_all(path, path.parent, list(listed))
    entries = [
        (image, dataclasses.replace(entry, modality=listed[image].modality))
        for image, entry in entries
    ]
    if rows[0].role:
        parts: dict[str, list[_Entry]] = {role: [] for role in ROLES}
        for image, entry in entries:
            parts[listed[image].role].append(entry)
    else:
        groups: dict[str, list[_Entry]] = {}
        for image, entry in entries:
            groups.setdefault(listed[image].group or str(image), []).append(entry)
        parts = _divide(path, list(groups.values()))
    return _splits(parts, [*skipped, *rejected])


def _by_folder(
    root: Path, entries: Sequence[tuple[Path, _Entry]]
) -> tuple[dict[str, list[_Entry]], list[tuple[str, str]]]:
    """Takes the roles from folders train, validation and test where all are there."""
    if not all((root / role).is_dir() for role in ROLES):
        return _divide(root, [[entry] for _, entry in entries]), []
    parts: dict[str, list[_Entry]] = {role: [] for role in ROLES}
    rejected = []
    for path, entry in entries:
        role = path.relative_to(root).parts[0]
        if role in parts:
            parts[role].append(entry)
        else:
            rejected.append((str(path), f"{path}: in none of the folders {', '.join(ROLES)}"))
    return parts, rejected


def _divide(root: Path, groups: Sequence[list[_Entry]]) -> dict[str, list[_Entry]]:
    """Gives groups of images roles by content: about a tenth of the images each to test and to
    validate, first those with the lowest digests.

    Groups of more than that come last, so that where possible they are for training.
    """
    if len(groups) < len(ROLES):
        count = sum(map(len, groups))
        units = f" of {len(groups)} patient(s) or group(s)" if count > len(groups) else ""
        raise DataError(
            f"{root}: {count} readable image(s){units}; at least 3 are needed, "
            "one each to train, to validate and to test"
        )
    share = math.ceil(sum(map(len, groups)) / 10)
    ordered = sorted(groups, key=lambda g: (len(g) > share, min(entry.digest for entry in g)))
    parts: dict[str, list[_Entry]] = {role: [] for role in ROLES}
    for needed, role in enumerate(("test", "validation"), start=-2):
        while len(parts[role]) < share and len(ordered) > -needed:
            parts[role] += ordered.pop(0)
    for group in ordered:
        parts["train"] += group
    return parts
