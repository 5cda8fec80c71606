"""An index of the images of a source: SHA-256 and size of each, so that a start decodes none twice.

It lies in the user's cache folder, never beside the images, and can be deleted at any time. Besides
SHA-256, size and state it holds only paths; they may name a patient, so only its owner can read it.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lle_jax
from lle_jax import files

# To be raised when an image is accepted, rejected, turned or hashed in another way than before.
_FORMAT = 2
# Other versions of these may accept other files.
_DECODERS = (
    "imagecodecs", "numpy", "opencv-python-headless", "pillow", "pillow-heif", "pydicom",
    "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "tifffile",
)  # fmt: skip


class Record(NamedTuple):
    """An image that was examined.

    Attributes:
      state: of the file before it was read; None where it cannot be trusted, see `files.state`.
      digest: SHA-256 of the file.
      size: (height, width).
      channels: 1 or 3.
      bits: per sample.
    """

    state: files.State | None
    digest: str
    size: tuple[int, int]
    channels: int
    bits: int


def read(source: Path, paths: Sequence[Path]) -> list[Record | None]:
    """Reads the records of these images from the index of a source, None for each without.

    An index that is missing, damaged, or of other versions has none.
    """
    records: dict[str, Record] = {}
    with contextlib.suppress(OSError, RuntimeError, ValueError, TypeError):
        checksum, _, content = _path(source).read_bytes().partition(b"\n")
        header, rows = json.loads(content)
        if checksum == _checksum(content) and header == _header(source):
            for path, values, digest, size, channels, bits in rows:
                state = files.State(*values)
                records[path] = Record(state, digest, tuple(size), channels, bits)
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
