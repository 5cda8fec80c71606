"""Finds which pictures of LOL-v1 show one scene, and divides its training pictures by scene.

    python tools/lol_scenes.py data/lol
    python -m lle_jax.main --config experiments/lol/small.py --config.data.pairs=data/lol/scenes.csv

The folder holds our485/{low,high} and eval15/{low,high}. Writes two manifests of pairs with a scene
for each picture (column group) and eval15 to test: FOLDER/scenes.csv, to choose by, has a fifth of
the scenes of our485 to validate and the others to train; FOLDER/all.csv, to train what was chosen,
has all but five pictures to train. Says how many pictures of eval15 show a scene of our485. LOL's
pictures of one scene differ in their exposure alone, so that of pictures divided by chance most of
those held out are known, but for their brightness.

Two pictures show one scene where the long exposures share keypoints (ORB: Rublee et al., ICCV 2011)
that a homography maps; chance gives a handful of such points, a scene hundreds.
"""

import argparse
import itertools
import random
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from lle_jax import files

KEYPOINTS, DISTANCE = 400, 50  # of a picture; bits of 256 in which a match may differ
SHARED = 15  # keypoints, within 5 pixels of where the homography maps them
NEAR = 60  # scenes were taken one after the other: numbers further apart are not compared
LARGEST = 40  # a set of more pictures is a place, with many scenes, and stays in training
WATCHED = 5  # scenes, of the fewest pictures, that all.csv leaves to validate: there must be some


class Picture(NamedTuple):
    """A picture and its keypoints."""

    path: Path
    points: np.ndarray
    descriptors: np.ndarray | None

    @property
    def number(self) -> int:
        return int(self.path.stem)


def main() -> None:
    """Writes the manifest and says what it holds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    train, test = (read(folder / part / "high") for part in ("our485", "eval15"))
    if not train or not test:
        parser.error(f"{folder} lacks pictures in our485/high or eval15/high")
    groups = scenes(train)
    held_out = validation(groups, len(train) // 5)
    fewest = sorted(range(len(groups)), key=lambda number: len(groups[number]))
    for name, chosen in (("scenes.csv", held_out), ("all.csv", set(fewest[:WATCHED]))):
        files.write_text(folder / name, _manifest(groups, chosen, test))
    known = sum(any(same_scene(one, other) for other in train) for one in test)
    print(
        f"{len(train)} training pictures of {len(groups)} scenes, {len(held_out)} of them to "
        f"validate; {known} of {len(test)} test pictures show a scene of the training pictures"
    )


def read(folder: Path) -> list[Picture]:
    """Reads the pictures of a folder in the order of their numbers, and finds their keypoints."""
    orb = cv2.ORB.create(KEYPOINTS)
    found = []
    for path in sorted(folder.glob("*.png"), key=lambda path: int(path.stem)):
        points, descriptors = orb.detectAndCompute(
            cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), None
        )
        found.append(Picture(path, np.float32([point.pt for point in points]), descriptors))
    return found


def same_scene(one: Picture, other: Picture) -> bool:
    """Whether one homography maps enough keypoints of one picture to those of the other."""
    if one.descriptors is None or other.descriptors is None:
        return False
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(
        one.descriptors, other.descriptors
    )
    close = [match for match in matches if match.distance < DISTANCE]
    if len(close) < SHARED:
        return False
    here = one.points[[match.queryIdx for match in close]]
    there = other.points[[match.trainIdx for match in close]]
    _, mapped = cv2.findHomography(here, there, cv2.RANSAC, 5)
    return mapped is not None and int(mapped.sum()) >= SHARED


def scenes(pictures: list[Picture]) -> list[list[Picture]]:
    """Groups pictures that show one scene, directly or by others between them."""
    group = {picture.number: [picture] for picture in pictures}
    for one, other in itertools.combinations(pictures, 2):
        near = abs(one.number - other.number) <= NEAR
        if near and group[one.number] is not group[other.number] and same_scene(one, other):
            merged = group[one.number] + group[other.number]
            group |= {picture.number: merged for picture in merged}
    unique = {id(each): each for each in group.values()}
    return sorted(unique.values(), key=lambda each: min(picture.number for picture in each))


def validation(groups: list[list[Picture]], count: int) -> set[int]:
    """Draws groups until they have `count` pictures; returns their positions."""
    order = [number for number, group in enumerate(groups) if len(group) < LARGEST]
    random.Random(0).shuffle(order)
    sizes = np.cumsum([0, *(len(groups[number]) for number in order)])
    return {number for number, before in zip(order, sizes, strict=False) if before < count}


def _manifest(groups: list[list[Picture]], held_out: set[int], test: list[Picture]) -> str:
    rows = ["path,low_path,role,group,modality"]
    for number, group in enumerate(groups):
        role = "validation" if number in held_out else "train"
        rows += [_row("our485", picture, role, f"scene{number}") for picture in group]
    rows += [_row("eval15", picture, "test", f"eval{picture.number}") for picture in test]
    return "\n".join(rows) + "\n"


def _row(part: str, picture: Picture, role: str, group: str) -> str:
    name = picture.path.name
    return f"{part}/high/{name},{part}/low/{name},{role},{group},"


if __name__ == "__main__":
    main()
