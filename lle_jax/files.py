"""Writes files whole or not at all, hashes them, and finds the cache folder and the configs."""

import contextlib
import csv
import errno
import functools
import hashlib
import io
import os
import re
import secrets
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# The coarsest clock of a usual file system (FAT) ticks every two seconds.
_TICK_NS = 2_000_000_000


def sha256(path: Path) -> str:
    """Computes the SHA-256 of a file's bytes as 64 hexadecimal digits; raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class State(NamedTuple):
    """What changes with a file's content: size in bytes, times in nanoseconds, inode.

    The time of the last change of the inode (ctime) cannot be set, so it shows also an edit after
    which the time of modification was put back, or a file replaced with an older one.
    """

    size: int
    modified: int
    changed: int
    inode: int


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


def write_bytes(path: Path, data: bytes | memoryview, *, mode: int = 0o666) -> None:
    """Writes `data` to `path` so that a reader sees the old file or the whole new one.

    A hidden temporary file in the same folder is written, flushed to the disk and renamed. Its name
    holds its writer, so that `remove_abandoned` can tell what a killed process left.

    Args:
      path: the file.
      data: all of its bytes.
      mode: access rights, less those that the umask withholds.
    """
    opener = functools.partial(os.open, mode=mode)
    with replacing(path) as temporary, open(temporary, "xb", opener=opener) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the temporary file of `write_bytes` to write to, for what does not fit into memory."""
    if not path.parent.is_dir():  # else the error would name the temporary file
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
    temporary = path.with_name(f".{_machine()}-{os.getpid()}-{secrets.token_hex(8)}.part")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def remove_abandoned(folder: Path) -> int:
    """Deletes temporary files in `folder` whose writers, processes of this machine, have ended.

    Returns:
      how many were deleted. Files of other machines, which may be running, are retained.
    """
    removed = 0
    with contextlib.suppress(OSError):
        for path in folder.glob(".*.part"):
            match = _PART.fullmatch(path.name)
            if match and match[1] == _machine() and not _is_running(int(match[2])):
                with contextlib.suppress(OSError):
                    path.unlink()
                    removed += 1
    return removed


_PART = re.compile(r"\.([0-9a-f]{8})-(\d+)-[0-9a-f]{16}\.part")


@functools.cache
def _machine() -> str:
    """Identifies where a process number means the same process: host and PID namespace."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return hashlib.sha256(f"{socket.gethostname()} {namespace}".encode()).hexdigest()[:8]


def _is_running(process: int) -> bool:
    if os.name != "posix":  # elsewhere signal 0 would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


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


def cache_folder() -> Path:
    """Returns the folder in the user's cache; RuntimeError where the user has no home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "lle_jax")


def state_folder() -> Path:
    """Returns the folder of what the user's commands keep; RuntimeError where there is no home."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state", "lle_jax")


def combined_sha256(parts: Iterable[tuple[str, str]]) -> str:
    """Computes the SHA-256 of several files: of their names and digests, in their order."""
    state = hashlib.sha256()
    for name, digest in parts:
        state.update(f"{name}\0{digest}\n".encode(errors="surrogateescape"))
    return state.hexdigest()


def code_digest() -> str:
    """SHA-256 of this package's code, which tells more than its version while that is edited."""
    root = Path(__file__).parent
    paths = sorted(root.rglob("*.py"))
    return combined_sha256((path.relative_to(root).as_posix(), sha256(path)) for path in paths)


def configs() -> Path:
    """Returns the folder of the configs: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent
    checkout, wheel = package.parent / "configs", package / "configs"
    return wheel if wheel.is_dir() else checkout
