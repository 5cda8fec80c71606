"""Lists more images of the four kinds to train on, of nobody who is held back.

    python tools/more_images.py FOLDER [--data ../shared/data]
    python tools/train_paths.py exposure START -o OUT --data MANIFEST,FOLDER/manifest.csv

FOLDER holds, anywhere below it, what the sets of --data were taken from: HAM10000 reduced to
200 x 150 with HAM10000_metadata.csv (`data` in mmalek06/bounding-box-detection-ham1000), Kvasir-SEG
(`Kvasir-SEG` in ivezakis/effisegnet), and files of NIH ChestX-ray8 (`Pneumonia` and `No_findings`
in muhammedtalo/COVID-19); and fundus photographs of healthy eyes of ODIR-5K, another set than that
of --data (`dataset/normal` in aliiakbarkhan/eye-disease-detection-DL), of which those that are dim
themselves are left out. These repositories are public. Writes FOLDER/manifest.csv without any
image of --data, any other image of a lesion (or, of radiographs, of a patient) that --data has in
its validation or test split, without Kvasir-SEG's own validation and test splits, and without
images that look like one held back. A 25th of the lesions and of the colonoscopies, an eighth of
the patients with radiographs and a twelfth of those of ODIR-5K are for validation.
"""

import argparse
import csv
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from lle_jax import files

SIDE = 48  # pixels of what is compared
SAME, ALIKE = 0.999, 0.97  # correlations: of one picture in two files, and of two that are too near
LIT = 0.4  # least mean of what is not black in a fundus photograph; of DRIVE, a quarter is below
ROLES = "train", "validation"


def main() -> None:
    """Writes the manifest and says how many images it lists."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments = parser.parse_args()
    rows = []
    with (arguments.data / "manifest.csv").open(newline="") as file:
        known = list(csv.DictReader(file))
    for modality, find, share in (
        ("dermatology", lesions, 25),
        ("endoscopy", frames, 25),
        ("fundus", eyes, 12),
        ("radiograph", patients, 8),
    ):
        groups = find(arguments.folder)
        if not groups:
            parser.error(f"{arguments.folder} has no images of {modality} (see --help)")
        shown = [row for row in known if row["modality"] == modality and find is not eyes]
        split = [(arguments.data / row["path"], row["role"] != "train") for row in shown]
        listed = select(groups, split, share)
        print(modality, *(f"{sum(role == one for _, role in listed)} {one}" for one in ROLES))
        rows += [(path.relative_to(arguments.folder), modality, role) for path, role in listed]
    lines = ["path,modality,role", *(",".join(map(str, row)) for row in rows)]
    files.write_text(arguments.folder / "manifest.csv", "\n".join(lines) + "\n")


def lesions(folder: Path) -> dict[Path, str]:
    """Finds the dermatoscopies that the metadata name, and of which lesion each is."""
    lesion = {}
    for path in folder.rglob("HAM10000_metadata.csv"):
        with path.open(newline="") as file:
            lesion |= {row["image_id"]: row["lesion_id"] for row in csv.DictReader(file)}
    found = sorted(folder.rglob("ISIC_*.jpg"))
    return {path: lesion[path.stem] for path in found if path.stem in lesion}


def frames(folder: Path) -> dict[Path, str]:
    """Finds the colonoscopies; those of a split that holds images back are one group.

    Of which patient each is was not published.
    """
    found = sorted(folder.rglob("Kvasir-SEG/*/images/*.jpg"))
    splits = {path: path.parts[-3] for path in found}
    return {path: path.stem if split == "train" else split for path, split in splits.items()}


def eyes(folder: Path) -> dict[Path, str]:
    """Finds the fundus photographs of ODIR-5K that are well lit, and of which patient each is."""
    found = (p for p in folder.rglob("normal/*.jpg") if p.stem.endswith(("_left", "_right")))
    return {path: path.name.partition("_")[0] for path in sorted(found) if is_lit(path)}


def is_lit(path: Path) -> bool:
    """Tells whether what a photograph shows, its black surround apart, is bright on average."""
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise SystemExit(f"{path}: it cannot be read")
    shown = grey[grey > 255 * 0.06]
    return shown.size > 0 and shown.mean() >= 255 * LIT


def patients(folder: Path) -> dict[Path, str]:
    """Finds the radiographs, and of which patient each is: 00001234_005.png is of 00001234."""
    found = sorted(folder.rglob("[0-9]" * 8 + "_[0-9][0-9][0-9].png"))
    return {path: path.name.partition("_")[0] for path in found}


def select(
    groups: dict[Path, str], split: Sequence[tuple[Path, bool]], share: int
) -> list[tuple[Path, str]]:
    """Divides the images of those who are not held back into (path, role).

    Args:
      groups: of what lesion or patient each image is.
      split: known images of the same set, and whether they are held back; () for another set.
      share: one of so many groups is for validation.
    """
    if not split:
        return [(path, _role(group, share)) for path, group in groups.items()]
    known, held = zip(*split, strict=True)
    paths = list(groups)
    first, second = thumbnails(known), thumbnails(paths)
    same = np.argmax(first @ second.T, axis=1)  # each known image is one of these
    if np.min(np.sum(first * second[same], axis=1)) < SAME:
        raise SystemExit("an image of --data is not among them; is the copy complete?")
    back = {groups[paths[place]] for place, is_held in zip(same, held, strict=True) if is_held}
    train = {groups[paths[place]] for place in same}
    near = alike(second, first[np.array(held)])
    taken = set(same.tolist())
    listed = []
    for place, (path, group) in enumerate(groups.items()):
        if place not in taken and group not in back and near[place] < ALIKE:
            listed.append((path, ROLES[0] if group in train else _role(group, share)))
    return listed


def _role(group: str, share: int) -> str:
    return ROLES[zlib.crc32(group.encode()) % share == 0]


def thumbnails(paths: Iterable[Path]) -> np.ndarray:
    """Reads small grey versions of mean 0 and norm 1, `[N, SIDE * SIDE]`."""
    made = []
    for path in paths:
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if grey is None:
            raise SystemExit(f"{path}: it cannot be read")
        small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
        small -= small.mean()
        made.append(small.ravel() / max(float(np.linalg.norm(small)), 1e-6))
    return np.stack(made)


def alike(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Computes the largest correlation of each with any of the others in any orientation."""
    squares = others.reshape(-1, SIDE, SIDE)
    turned = [np.rot90(x, n, axes=(1, 2)) for x in (squares, squares[..., ::-1]) for n in range(4)]
    return np.max([some @ x.reshape(len(x), -1).T for x in turned], axis=(0, 2))


if __name__ == "__main__":
    main()
