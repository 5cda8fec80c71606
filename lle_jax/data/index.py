"""An index of the images of a source: SHA-256 and size of each, so that a start decodes none twice.

It lies in the user's cache folder, never beside the images, and can be deleted at any time. Besides
SHA-256, size and state it holds only paths; they may name a patient, so only its owner can read it.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import lle_jax
from lle_jax import files, images
from lle_jax.data.manifest import DataError

# To be raised when an image is accepted, rejected, turned or hashed in another way than before.
_FORMAT = 1
# Other versions of these may accept other files.
_DECODERS = (
    "imagecodecs", "numpy", "opencv-python-headless", "pillow", "pillow-heif", "pydicom",
    "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "tifffile",
)  # fmt: skip
# The coarsest clock of a usual file system (FAT) ticks every two seconds.
_TICK_NS = 2_000_000_000


class State(NamedTuple):
    """What changes with a file's content: size in bytes, times in nanoseconds, inode.

    The time of the last change of the inode (ctime) cannot be set, so it shows also an edit after
    which the time of modification was put back, or a file replaced with an older one.
    """

    size: int
    modified: int
    changed: int
    inode: int


class Record(NamedTuple):
    """An image that was examined.

    Attributes:
      state: of the file before it was read; None where it cannot be trusted, see `state`.
      digest: SHA-256 of the file.
      size: (height, width).
    """

    state: State | None
    digest: str
    size: tuple[int, int]


def state(path: Path) -> State | None:
    """Returns the state of a file; None if it is missing or was changed within the last tick.

    The latter is the rule for "racily clean" entries in git's index: a file that is changed again
    in the tick of its last change has the same times after it, so equal times prove nothing.
    """
    now = time.time_ns()
    try:
        stat = path.stat()
    except OSError:
        return None
    if max(stat.st_mtime_ns, stat.st_ctime_ns) >= now - _TICK_NS:
        return None
    return State(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


def examine(path: Path, record: Record | None) -> Record:
    """Returns the record of an image: the one given if it is of the file's state, else a new one.

    Raises:
      images.ImageError: if the image cannot be read.
    """
    before = state(path)  # so that a change while it is read shows at the next start
    if record is not None and record.state == before:
        return record
    height, width = _pixels(path).shape[:2]
    # The file is read twice, since reading and hashing take a fortieth of decoding.
    return Record(before, images.sha256(path), (height, width))


def load(path: Path, record: Record) -> np.ndarray:
    """Reads the pixels of an image; raises DataError if the file is not that of the record."""
    pixels = _pixels(path)
    now = state(path)
    if (now is None or now != record.state) and images.sha256(path) != record.digest:
        reason = "changed since the images were checked; restore it and start again"
        raise DataError(f"{path}: {reason}")
    return pixels


def _pixels(path: Path) -> np.ndarray:
    """Reads a picture; of a file with several frames the middle one, which is seldom blank."""
    pixels = images.read(path).pixels
    return pixels if pixels.ndim == 3 else pixels[len(pixels) // 2]


def read(source: Path, paths: Sequence[Path]) -> list[Record | None]:
    """Reads the records of these images from the index of a source, None for each without.

    An index that is missing, damaged, or of other versions has none.
    """
    records: dict[str, Record] = {}
    with contextlib.suppress(OSError, RuntimeError, ValueError, TypeError):
        checksum, _, content = _path(source).read_bytes().partition(b"\n")
        header, rows = json.loads(content)
        if checksum == _checksum(content) and header == _header(source):
            for path, values, digest, size in rows:
                records[path] = Record(State(*values), digest, tuple(size))
    return [records.get(str(path.absolute())) for path in paths]


def write(source: Path, paths: Sequence[Path], records: Sequence[Record | None]) -> None:
    """Replaces the index of a source; a cache that cannot be written is no error.

    Args:
      source: a folder or a manifest.
      paths: its images.
      records: one for each; None, and records without a state, are not stored.
    """
    rows = [
        (str(path.absolute()), *record)
        for path, record in zip(paths, records, strict=True)
        if record is not None and record.state is not None
    ]
    content = json.dumps([_header(source), rows]).encode()
    with contextlib.suppress(OSError, RuntimeError):
        path = _path(source)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(path, _checksum(content) + b"\n" + content, mode=0o600)


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _path(source: Path) -> Path:
    name = hashlib.sha256(os.fsencode(source.absolute())).hexdigest()[:32]
    return files.cache_folder() / "images" / f"{name}.json"


def _header(source: Path) -> dict[str, Any]:
    """Returns what must be equal for records to count."""
    decoders = {}
    for name in _DECODERS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            decoders[name] = importlib.metadata.version(name)
    return {
        "format": _FORMAT,
        "lle_jax": lle_jax.__version__,
        "decoders": decoders,
        "source": str(source.absolute()),
    }
