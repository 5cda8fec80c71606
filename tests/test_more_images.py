"""tools/more_images.py: nobody who is held back comes among the images to train on."""

import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest

TOOL = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "more_images.py"))


def write(path, seed, turns=0):
    picture = np.random.default_rng(seed).integers(0, 256, (60, 60), np.uint8)
    cv2.imwrite(str(path), np.rot90(cv2.resize(picture, (120, 120)), turns))
    return path


@pytest.fixture
def split(tmp_path):
    """Known images: number 0 of patient 1 trains, number 0 of patient 2 is held back."""
    return [
        (write(tmp_path / "train.png", 10), False),
        (write(tmp_path / "held.png", 20), True),
    ]


def test_images_of_those_who_are_held_back_are_left_out(tmp_path, split):
    for patient, number, seed, turns in (
        (1, 0, 10, 0),  # known
        (1, 1, 11, 0),
        (2, 0, 20, 0),  # known, held back
        (2, 1, 21, 0),  # the same patient
        (3, 0, 20, 1),  # the same picture, lying, under another name
        (4, 0, 40, 0),
    ):
        write(tmp_path / f"{patient:08}_{number:03}.png", seed, turns)
    write(tmp_path / "00000005.png", 50)  # not a name of the set
    groups = TOOL["patients"](tmp_path)
    assert len(groups) == 6
    listed = TOOL["select"](groups, split, share=1)
    assert {path.name: role for path, role in listed} == {
        "00000001_001.png": "train",  # never in two roles
        "00000004_000.png": "validation",
    }
    everyone = TOOL["select"](groups, split, share=10**9)
    assert {role for _, role in everyone} == {"train"}


def test_a_dermatoscopy_of_an_unknown_lesion_is_not_listed(tmp_path):
    (tmp_path / "HAM10000_metadata.csv").write_text("lesion_id,image_id\nHAM_1,ISIC_1\n")
    known, _ = (write(tmp_path / f"ISIC_{number}.jpg", number) for number in (1, 2))
    assert TOOL["lesions"](tmp_path) == {known: "HAM_1"}


def test_colonoscopies_come_from_the_published_train_split_alone(tmp_path, split):
    for part, first in (("train", 10), ("test", 20)):
        (tmp_path / "Kvasir-SEG" / part / "images").mkdir(parents=True)
        for number in range(2):
            write(tmp_path / "Kvasir-SEG" / part / "images" / f"{number}.jpg", first + number)
    listed = TOOL["select"](TOOL["frames"](tmp_path), split, share=10**9)
    assert [path.parts[-3:] for path, _ in listed] == [("train", "images", "1.jpg")]


def test_of_another_set_the_photographs_that_are_dim_are_left_out(tmp_path):
    (tmp_path / "normal").mkdir()
    for name, level in (("1_left", 107), ("1_right", 97), ("2_left", 107), ("scan", 107)):
        picture = np.zeros((60, 60, 3), np.uint8)
        picture[:, :30] = level  # half of it is the black surround
        cv2.imwrite(str(tmp_path / "normal" / f"{name}.jpg"), picture)
    groups = TOOL["eyes"](tmp_path)
    assert {path.stem: group for path, group in groups.items()} == {"1_left": "1", "2_left": "2"}
    listed = TOOL["select"](groups, (), share=10**9)
    assert {(path.stem, role) for path, role in listed} == {
        ("1_left", "train"),
        ("2_left", "train"),
    }
    assert {role for _, role in TOOL["select"](groups, (), share=1)} == {"validation"}


def test_an_incomplete_copy_is_refused(tmp_path, split):
    write(tmp_path / "00000001_000.png", 10)
    with pytest.raises(SystemExit, match="is the copy complete"):
        TOOL["select"](TOOL["patients"](tmp_path), split, share=8)
