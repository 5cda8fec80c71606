"""A blinded reader study: a page of unlabelled pairs of images, and the key to it.

Every two methods are compared on every case. The order of the pairs, and which method is on which
side, are drawn from the seed. The page holds pixels and numbers only; which image is whose, and
the names of files, are in the key, which readers must not get. What a method does to an image can
be seen all the same, so readers should not know the methods' outputs beforehand.
"""

import base64
import hashlib
import itertools
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

import lle_jax
from lle_jax import files, images, jobs, pages
from lle_jax.files import write_text
from lle_jax.images import raster
from lle_jax.images.errors import shown

KEY, FORMAT = "lle_jax reader study key", 1
# Some browsers hold at most 512 MiB in one text.
MAX_BYTES = 300 * 2**20
_REFERENCE = (
    '<figure id="between"><figcaption>Reference</figcaption>'
    '<div class="pane"><img alt="Reference image" draggable="false"></div></figure>'
)


class Written(NamedTuple):
    """The page, its key, and the numbers of cases and pairs."""

    page: Path
    key: Path
    cases: int
    pairs: int


def write(
    path: Path,
    methods: dict[str, Path],
    reference: Path | None = None,
    *,
    seed: int = 0,
    progress: bool = True,
) -> Written:
    """Writes the page and, beside it, its key: `study.html` and `study.key.json`.

    Pixels are shown as 8-bit sRGB. Nothing else of a file reaches the page, of DICOM neither; but
    text that is burnt into pixels is visible.

    Args:
      path: of the page.
      methods: name -> folder. Files of one path in their folders, suffix aside, are one case.
      reference: folder of the images to compare with, shown between the two.
      seed: of the order and the sides.
      progress: show a bar.

    Raises:
      ValueError: if there are fewer than two methods, a case is missing in a folder, the images of
        a case differ in size, a file is not one readable frame, the page would be too large, or
        it or its key has no folder or would replace something else.
    """
    path = Path(path)
    key_path = path.with_suffix(".key.json")
    _check_arguments(path, key_path, methods, seed)
    cases = _cases(methods, reference)
    rng = np.random.default_rng(seed)
    pairs = _pairs(list(cases), list(methods), rng)
    # shuffled, so that an image's number tells nothing either
    ordered = [(case, name) for case, sides in cases.items() for name in sides]
    sources = [ordered[i] for i in rng.permutation(len(ordered))]
    encoded = _encode([cases[case][name] for case, name in sources], progress)
    _check_sizes(sources, [size for size, _ in encoded])
    data = _data(sources, [text for _, text in encoded], pairs)
    described = [{"case": case, "left": left, "right": right} for case, left, right in pairs]
    study = hashlib.sha256(json.dumps([data, described]).encode()).hexdigest()[:16]
    _check_key(key_path, study)
    page = pages.fill(
        Path(__file__).with_suffix(".html"),
        report=False,
        data=json.dumps({"study": study} | data),
        pairs=f"{len(pairs)} pair{'' if len(pairs) == 1 else 's'}",
        reference="" if reference is None else _REFERENCE,
        version=lle_jax.__version__,
    )
    key = {"kind": KEY, "format": FORMAT, "lle_jax": lle_jax.__version__, "study": study,
           "seed": seed, "methods": list(methods), "pairs": described}  # fmt: skip
    # the key first: a page without one is of no use
    write_text(key_path, json.dumps(key, indent=1) + "\n")
    files.write_bytes(path, page)
    return Written(path, key_path, len(cases), len(pairs))


def _check_arguments(path: Path, key_path: Path, methods: dict[str, Path], seed: int) -> None:
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{shown(path)}: expected a name that ends in .html")
    if len(methods) < 2:
        raise ValueError("a study compares at least two methods; give METHOD=FOLDER twice or more")
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected 0 or more")
    if not path.parent.is_dir():
        raise ValueError(f"{shown(path.parent)}: no such folder; make it, or choose another -o")
    if path.exists() and not key_path.exists():
        raise ValueError(f"{shown(path)} would be replaced; choose another -o")


def _cases(methods: dict[str, Path], reference: Path | None) -> dict[str, dict[str | None, Path]]:
    """Lists case -> method -> file, with the reference as method None; sorted by case."""
    files_of: dict[str | None, dict[str, Path]] = {
        name: _names(folder) for name, folder in methods.items()
    }
    first = next(iter(methods))
    for name in methods:
        for one, two in ((name, first), (first, name)):
            lacking = sorted(files_of[two].keys() - files_of[one].keys())
            if lacking:
                raise ValueError(
                    f"{shown(methods[one])} has no image {shown(lacking[0])!r}, of which "
                    f"{shown(methods[two])} has one; every method needs the same cases"
                )
    if reference is not None:
        truth = _names(reference)
        lacking = sorted(files_of[first].keys() - truth.keys())
        if lacking:
            raise ValueError(
                f"{shown(reference)} has no image {shown(lacking[0])!r}; the reference needs every "
                "case"
            )
        files_of[None] = truth
    return {
        case: {name: paths[case] for name, paths in files_of.items()}
        for case in sorted(files_of[first])
    }


def _names(folder: Path) -> dict[str, Path]:
    """Lists the images in a folder by their path in it without suffix."""
    paths: dict[str, Path] = {}
    for path in images.find(folder):
        name = path.relative_to(folder) if path != folder else Path(path.name)
        # the name of a DICOM file may be a number with dots, of which the last part is no suffix
        case = images.stem(name).as_posix()
        if case in paths:
            raise ValueError(
                f"{shown(paths[case])} and {shown(path)} are both case {shown(case)!r}; keep one"
            )
        paths[case] = path
    return paths


def _pairs(
    cases: list[str], methods: list[str], rng: np.random.Generator
) -> list[tuple[str, str, str]]:
    """Draws (case, left, right) in random order, each method of a pair as often on the left."""
    pairs = []
    for one, other in itertools.combinations(methods, 2):
        # with an odd number of cases chance decides who is on the left once more
        swaps = (np.arange(len(cases)) + rng.integers(2)) % 2
        for case, swap in zip(cases, rng.permutation(swaps), strict=True):
            pairs.append((case, other, one) if swap else (case, one, other))
    return [pairs[i] for i in rng.permutation(len(pairs))]


def _data(
    sources: list[tuple[str, str | None]], encoded: list[str], pairs: list[tuple[str, str, str]]
) -> dict[str, list]:
    """The images, and for each pair the numbers of its left, right and reference image."""
    numbers = {source: number for number, source in enumerate(sources)}
    return {
        "images": encoded,
        "pairs": [
            [numbers.get((case, name)) for name in (left, right, None)]
            for case, left, right in pairs
        ],
    }


def _encode(paths: list[Path], progress: bool) -> list[tuple[tuple[int, int], str]]:
    """Encodes each file: height, width and base64 PNG."""
    encoded, total = [], 0
    for path in jobs.track(paths, unit="image", show=progress):
        pixels = images.read(path).pixels
        if pixels.ndim != 3:
            raise ValueError(
                f"{shown(path)}: has {len(pixels)} frames; save the frame to be shown as an image"
            )
        text = base64.b64encode(raster.encode("png", pixels, None)).decode()
        total += len(text)
        if total > MAX_BYTES:
            raise ValueError(
                f"the page would be larger than {MAX_BYTES >> 20} MiB, which browsers may not "
                "open; use fewer cases or smaller images"
            )
        encoded.append((pixels.shape[:2], text))
    return encoded


def _check_sizes(sources: list[tuple], sizes: list[tuple[int, int]]) -> None:
    of_case: dict[str, tuple] = {}
    for (case, name), size in zip(sources, sizes, strict=True):
        other, expected = of_case.setdefault(case, (name, size))
        if size != expected:
            one, two = (n or "the reference" for n in (name, other))
            raise ValueError(
                f"case {shown(case)!r} is {size[1]} x {size[0]} pixels from {one} and "
                f"{expected[1]} x {expected[0]} from {two}; they must be equal"
            )


def _check_key(path: Path, study: str) -> None:
    """Raises ValueError if a file is there that is not the key to this very study."""
    if not path.exists():
        return
    try:
        same = json.loads(path.read_text("utf-8")).get("study") == study
    except (ValueError, AttributeError, RecursionError):
        same = False
    if not same:
        raise ValueError(
            f"{shown(path)}: the key to another study would be lost; choose another -o"
        )
