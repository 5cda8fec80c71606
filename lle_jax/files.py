"""Writes files whole or not at all, hashes them, and finds the configs that ship with lle_jax."""

import contextlib
import csv
import hashlib
import io
import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def sha256(path: Path) -> str:
    """Computes the SHA-256 of a file's bytes as 64 hexadecimal digits; raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Writes `data` to `path` so that a reader sees the old file or the whole new one.

    A hidden temporary file in the same folder is written, flushed to the disk and renamed.
    """
    temporary = path.with_name(f".{secrets.token_hex(12)}.part")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    write_bytes(path, text.encode())


def write_figure(path: Path, figure: "Figure") -> None:
    """Writes a matplotlib figure as PNG, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_bytes(path, buffer.getvalue())


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table whole or not at all."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, sink.getvalue())


def configs() -> Path:
    """Returns the folder of the configs: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent
    beside, inside = package.parent / "configs", package / "configs"
    return inside if inside.is_dir() else beside
