"""Finds image files, and those of formats that are not read, and hashes them."""

import contextlib
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from lle_jax import files
from lle_jax.images.errors import ImageError, naming, shown

WRITTEN = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".dcm", ".dicom",
)  # fmt: skip
# Read only; a copy is written as PNG, with ".png" after the whole name.
READ_ONLY = (
    ".gif", ".webp", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".pbm",
    ".pgm", ".ppm", ".pnm", ".avif", ".heic", ".heif", ".hif",
)  # fmt: skip
SUFFIXES = (*WRITTEN, *READ_ONLY)
VIDEOS = (".mp4", ".mov", ".avi", ".mkv")  # of `images.video`; no images, so asked for by name
# Pictures that are not read, so that they can be named instead of overlooked.
OTHER_FORMATS = {
    **{f".{name}": name for name in (
        "arw", "cr2", "cr3", "czi", "dds", "dng", "emf", "eps", "exr", "hdr", "ico", "jls", "jp3d",
        "jxl", "jxr", "lif", "mha", "mhd", "mrxs", "ndpi", "nef", "nii", "nrrd", "orf", "pam",
        "pcx", "pfm", "psd", "raf", "rw2", "sgi", "svg", "svs", "tga", "vsi", "wmf", "xcf",
    )},
    ".nii.gz": "nii",
}  # fmt: skip
# What `lle enhance` writes beside NAME: NAME and one of these, and in the file the mark, so that no
# image of somebody else is taken for one.
COMPARISON, UNCERTAINTY = ".compare.png", ".uncertainty.tif"
_BESIDE = {COMPARISON: "side-by-side picture", UNCERTAINTY: "uncertainty map"}
BESIDE_MARK = "lle_jax, beside an enhanced image"


HEAD = 4096  # bytes that tell the format


class Scan(NamedTuple):
    """Pictures found on disk.

    Attributes:
      images: those whose format is read, sorted and each once.
      others: those to skip, likewise: of `OTHER_FORMATS`, which are not read, and what `lle
        enhance` wrote beside its outputs.
    """

    images: list[Path]
    others: list[Path]


def is_dicom(path: str | os.PathLike) -> bool:
    """True for a regular file that starts as DICOM does, whatever its name."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    return head[128:132] == b"DICM" or is_bare_dicom(head)


def is_bare_dicom(head: bytes) -> bool:
    """True for the first bytes of a data set without preamble, as older scanners write it.

    Asked for are three elements one after the other that begin in group 2 or 8, with rising tags
    that the dictionary knows and, with explicit VR, the VR that it gives them.
    """
    return any(
        _count_elements(head, order, explicit) >= 3 for order in "<>" for explicit in (True, False)
    )


def _count_elements(head: bytes, order: str, explicit: bool) -> int:
    """Counts elements (PS3.5 7.1) up to the first that is none, at most three."""
    position = count = last = 0
    while count < 3 and position + 12 <= len(head):
        group, element = struct.unpack_from(order + "HH", head, position)
        tag = group << 16 | element
        if tag <= last or (not last and group not in (2, 8)):
            break
        if element and not dictionary_has_tag(tag):
            break
        if explicit:
            vr = head[position + 4 : position + 6].decode("latin1")
            if element and vr not in dictionary_VR(tag) and vr != "UN":
                break
            if vr in EXPLICIT_VR_LENGTH_32:
                (length,) = struct.unpack_from(order + "I", head, position + 8)
                position += 12 + length
            else:
                (length,) = struct.unpack_from(order + "H", head, position + 6)
                position += 8 + length
        else:
            (length,) = struct.unpack_from(order + "I", head, position + 4)
            position += 8 + length
        if length % 2:
            break
        count, last = count + 1, tag
    return count


def stem(path: Path) -> Path:
    """Returns `path` without the suffix of an image format; other dots belong to the name.

    DICOM files are often named by a UID, whose last part `Path.with_suffix` would cut off. A copy
    of a format that is not written, "scan.webp.png", has the stem of its source.
    """
    if path.suffix.lower() == ".png" and path.with_suffix("").suffix.lower() in READ_ONLY:
        path = path.with_suffix("")
    return path.with_suffix("") if path.suffix.lower() in SUFFIXES else path


def copy_name(path: Path) -> Path:
    """Returns the path of a processed copy: with a suffix added where its own is not written."""
    suffix = path.suffix.lower()
    if suffix in WRITTEN or suffix in VIDEOS:
        return path
    return path.with_name(f"{path.name}{'.png' if suffix in READ_ONLY else '.dcm'}")


def is_beside(path: Path) -> bool:
    """True for a picture that `lle enhance` wrote beside an output, by its name and its mark."""
    if not path.name.lower().endswith(tuple(_BESIDE)):
        return False
    try:
        with path.open("rb") as file:
            # in a TIFF of 14,000 x 9,000 pixels it comes after 8 KB of positions
            return BESIDE_MARK.encode() in file.read(1 << 16)
    except OSError:
        return False


def other_format(path: Path) -> str | None:
    """Names the kind of a picture that is skipped, by its name; None for anything else."""
    name = path.name.lower()
    for suffix, kind in _BESIDE.items():
        if name.endswith(suffix):
            return kind
    return OTHER_FORMATS.get(".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower())


def refusal(path: Path) -> str:
    """Says in one line why one of `Scan.others` is skipped, and what to do."""
    kind = other_format(path)
    if kind in _BESIDE.values():
        return f"{shown(path)}: a {kind} that lle enhance wrote; rename it to use it as an image"
    return f"{shown(path)}: {kind} files are not read; convert it to PNG, TIFF or DICOM"


def _is_image(path: Path, also: tuple[str, ...]) -> bool:
    if path.suffix.lower() in also:
        return path.is_file()
    if path.suffix.lower() in SUFFIXES:
        return path.is_file() and not is_beside(path)
    # a DICOMDIR has the preamble too, but is a table of contents
    return path.name.upper() != "DICOMDIR" and is_dicom(path)


def _inside(folder: Path, recursive: bool) -> Iterator[Path]:
    def stop(error: OSError) -> None:
        with naming(Path(error.filename or folder), "cannot be listed"):
            raise error

    for root, folders, names in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        yield from (Path(root, name) for name in names if not name.startswith("."))


def scan(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    recursive: bool = True,
    *,
    required: bool = True,
    also: tuple[str, ...] = (),
) -> Scan:
    """Lists the image files in files and folders, and the pictures to skip.

    Inside folders hidden files and hidden folders are skipped, links to folders are not followed,
    and DICOM files are recognised by their first bytes whatever their name.

    Args:
      paths: a file or folder, or several.
      recursive: also look in folders inside folders.
      required: raise an error where every picture is one to skip.
      also: further suffixes to list among the images, such as `VIDEOS`.

    Raises:
      ImageNotFoundError: (a FileNotFoundError) if one of `paths` does not exist.
      ImageError: if a named file is no picture, a folder holds none or cannot be listed, or no
        picture can be used.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    readable: set[Path] = set()
    others: set[Path] = set()
    for path in map(Path, given):
        with naming(path, "cannot be listed"):
            path.stat()
        # names the folder inside that cannot be listed
        candidates = set(_inside(path, recursive)) if path.is_dir() else {path}
        with naming(path, "cannot be listed"):
            inside = {candidate for candidate in candidates if _is_image(candidate, also)}
            unread = {p for p in candidates - inside if other_format(p) and p.is_file()}
            if not inside and not unread:
                raise ImageError(
                    f"{'no images in this folder' if path.is_dir() else 'not an image'}; looked "
                    f"for {' '.join(SUFFIXES)} and DICOM files of any name"
                )
        readable |= inside
        others |= unread
    if required and not readable and others:
        first = min(others)
        more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
        raise ImageError(f"no image that can be used; {refusal(first)}{more}")
    return Scan(sorted(readable), sorted(others))


def find(
    paths: str | os.PathLike | Iterable[str | os.PathLike], recursive: bool = True
) -> list[Path]:
    """Lists the image files in files and folders, sorted and each once; see `scan`."""
    return scan(paths, recursive).images


def skipped_formats(others: Iterable[Path]) -> str:
    """Counts and names the pictures to skip in one line; "" for none.

    For example "3 skipped: jxl, nii, psd (scan.jxl, scan.nii, scan.psd)".
    """
    paths = sorted(others)
    if not paths:
        return ""
    kinds = ", ".join(sorted({other_format(path) or path.suffix for path in paths}))
    names = ", ".join(shown(path) for path in paths[:_NAMED])
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return f"{len(paths)} skipped: {kinds} ({names}{more})"


_NAMED = 10


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
    """Returns the first `HEAD` bytes of a regular file of at most `max_bytes` bytes."""
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise ImageError("not a regular file; give the path of an image file")
    if state.st_size == 0:
        raise ImageError("the file is empty (0 bytes); copy or export it again")
    if state.st_size > max_bytes:
        raise ImageError(
            f"{state.st_size} bytes are more than {max_bytes}, 32 for each pixel that an image may "
            "have; scale it down or cut it into parts"
        )
    with path.open("rb") as file:
        return file.read(HEAD)
