"""Finds image files and hashes them."""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from lle_jax import files
from lle_jax.images.errors import ImageError, naming

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm", ".dicom")


def is_dicom(path: str | os.PathLike) -> bool:
    """True for a regular file with the DICOM preamble ("DICM" at byte 128), whatever its name."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _is_image(path: Path) -> bool:
    if path.suffix.lower() in SUFFIXES:
        return path.is_file()
    # a DICOMDIR has the preamble too, but is a table of contents
    return path.name.upper() != "DICOMDIR" and is_dicom(path)


def _inside(folder: Path, recursive: bool) -> Iterator[Path]:
    def stop(error: OSError):
        raise error

    for root, folders, names in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        yield from (
            Path(root, name)
            for name in names
            if not name.startswith(".") and _is_image(Path(root, name))
        )


def find(
    paths: str | os.PathLike | Iterable[str | os.PathLike], recursive: bool = True
) -> list[Path]:
    """Lists the image files in files and folders, sorted and each once.

    Inside folders hidden files and hidden folders are passed over, links to folders are not
    followed, and DICOM files are recognised by their preamble whatever their name.

    Args:
      paths: a file or folder, or several.
      recursive: also look in folders inside folders.

    Raises:
      ImageNotFoundError: (a FileNotFoundError) if one of `paths` does not exist.
      ImageError: if a named file is not an image, a folder holds none or cannot be listed.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    found: set[Path] = set()
    for path in map(Path, paths):
        with naming(path, "cannot be listed"):
            path.stat()
            if path.is_dir():
                inside = set(_inside(path, recursive))
            else:
                inside = {path} if _is_image(path) else set()
            if not inside:
                raise ImageError(
                    f"{'no images in this folder' if path.is_dir() else 'not an image'}; looked "
                    f"for {' '.join(SUFFIXES)} and DICOM files of any name"
                )
        found |= inside
    return sorted(found)


def sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes as 64 hexadecimal digits; raises ImageError if unreadable."""
    with naming(Path(path), "cannot be read"):
        return files.sha256(Path(path))


def refuse_input(path: Path, source: Path | None) -> None:
    """Raises ImageError when `path` is the file `source`, under this or another name."""
    if source is None:
        return
    with contextlib.suppress(OSError):
        if os.path.samefile(path, source):
            raise ImageError("this is the input file, which is never overwritten; choose another")


def header(path: Path, max_bytes: int) -> bytes:
    """Returns the first 132 bytes of a regular file of at most `max_bytes` bytes."""
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise ImageError("not a regular file; give the path of an image file")
    if state.st_size == 0:
        raise ImageError("the file is empty (0 bytes); copy or export it again")
    if state.st_size > max_bytes:
        raise ImageError(
            f"{state.st_size} bytes are more than {max_bytes}, 32 for each of max_pixels; "
            "if you trust the file, raise max_pixels"
        )
    with path.open("rb") as file:
        return file.read(132)
