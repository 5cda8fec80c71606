"""tools/lol_scenes.py: pictures of one scene come into one group, and a group into one role."""

import csv
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from lle_jax.data import pairs

TOOL = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "lol_scenes.py"))


def scene(seed):
    """Shapes with corners, as a shelf has."""
    rng = np.random.default_rng(seed)
    picture = np.full((240, 320), 90, np.uint8)
    for _ in range(60):
        (x, y), (w, h) = rng.integers(0, (300, 220)), rng.integers(8, 50, 2)
        cv2.rectangle(
            picture, (int(x), int(y)), (int(x + w), int(y + h)), int(rng.integers(256)), -1
        )
    return picture


@pytest.fixture
def folder(tmp_path):
    """Numbers 10 k to 10 k + 2 show scene k, brighter each time; of eval15, one scene is known."""
    for part, numbers in (
        ("our485", [10 * k + i for k in range(1, 11) for i in range(3)]),
        ("eval15", [13, 990]),
    ):
        for side in ("low", "high"):
            (tmp_path / part / side).mkdir(parents=True)
        for number in numbers:
            picture = scene(number // 10)
            for side, light in (("low", 0.1), ("high", 0.7 + 0.1 * (number % 10))):
                path = tmp_path / part / side / f"{number}.png"
                cv2.imwrite(str(path), (light * picture).astype(np.uint8))
    return tmp_path


def test_a_scene_has_one_group_and_one_role(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lol_scenes.py", str(folder)])
    TOOL["main"]()
    said = capsys.readouterr().out
    assert "30 training pictures of 10 scenes, 2 of them to validate" in said
    assert "1 of 2 test pictures show a scene of the training pictures" in said
    with (folder / "scenes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    shown = {int(Path(row["path"]).stem): row for row in rows if row["role"] != "test"}
    for k in range(1, 11):
        assert len({shown[10 * k + i]["group"] for i in range(3)}) == 1
        assert len({shown[10 * k + i]["role"] for i in range(3)}) == 1
    assert len({row["group"] for row in rows}) == 12
    parts = pairs.load(str(folder / "scenes.csv"))  # refuses a group in two roles
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [24, 6, 2]
    parts = pairs.load(str(folder / "all.csv"))  # the first five scenes, since all have as many
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [15, 15, 2]
    numbers = [int(name.rpartition("_")[2]) for name in parts.validation.names]
    assert {number // 10 for number in numbers} == {1, 2, 3, 4, 5}
