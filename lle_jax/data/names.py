"""Short names of images that are unique, also without case."""

import collections
from collections.abc import Sequence
from pathlib import Path

from lle_jax import images


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """Makes names unique, also without case: what occurs again gets "_2", "_3" and so on."""
    taken = {name.casefold() for name in names}
    unique: list[str] = []
    used: set[str] = set()
    for name in names:
        candidate, number = name, 1
        while candidate.casefold() in used:
            number += 1
            if f"{name}_{number}".casefold() not in taken:
                candidate = f"{name}_{number}"
        used.add(candidate.casefold())
        unique.append(candidate)
    return tuple(unique)


def of_files(root: Path, paths: Sequence[Path]) -> tuple[str, ...]:
    """Returns a unique name for each file below `root`: its path with "_" for "/", no suffix.

    Only suffixes of image formats are cut, since the last part of a UID is none. Where that gives
    two files one name (b/c.png and b_c.png, or a.png and a.tif), both keep their suffix, and where
    that does not suffice, later ones get a number.
    """
    relative = [path.relative_to(root) for path in paths]
    short = [images.stem(path).as_posix().replace("/", "_") for path in relative]
    counts = collections.Counter(name.casefold() for name in short)
    full = [path.as_posix().replace("/", "_") for path in relative]
    return unique([f if counts[s.casefold()] > 1 else s for s, f in zip(short, full, strict=True)])
