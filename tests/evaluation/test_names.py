"""Names of cases that are equal once suffix, case or folder are dropped."""

import numpy as np
import pytest
from PIL import Image

from lle_jax.data import names as unique_names
from lle_jax.data.pairs import match
from lle_jax.evaluation import methods

GREY = np.full((8, 8), 99, np.uint8)


def fill(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(GREY).save(path)
    return folder


def test_two_outputs_of_one_case_are_refused_before_any_work(tmp_path):
    for number, names in enumerate((("a.png", "a.tif"), ("x/a.png", "y/a.png"))):
        folder = fill(tmp_path / str(number), *names)
        with pytest.raises(methods.MethodError, match="both of case 'a'; keep one"):
            methods.load(f"other={folder}")


def test_outputs_are_found_by_the_whole_name_of_their_case(tmp_path):
    folder = fill(tmp_path, "1.2.840.1.png", "1.2.840.2.png", "a.webp.png", "b.webp.png", "b.png")
    files = methods._files_of_cases(folder)
    assert {case: path.name for case, path in files.items()} == {
        "1.2.840.1": "1.2.840.1.png",
        "1.2.840.2": "1.2.840.2.png",
        "a": "a.webp.png",
        "a.webp": "a.webp.png",
        "b": "b.png",
        "b.webp": "b.webp.png",
    }


def test_copies_of_formats_that_are_not_written_are_paired_with_their_sources(tmp_path):
    clean = fill(tmp_path / "clean", "scan.webp", "scan.gif", "scan.png", "other.jp2")
    low = fill(tmp_path / "low", "scan.webp.png", "scan.gif.png", "scan.png", "other.png")
    matched, rejected = match(low, clean)
    assert sorted((dark.name, light.name) for dark, light in matched) == [
        ("other.png", "other.jp2"),
        ("scan.gif.png", "scan.gif"),
        ("scan.png", "scan.png"),
        ("scan.webp.png", "scan.webp"),
    ]
    assert not rejected


def test_names_of_cases_differ_also_without_case(tmp_path):
    paths = [tmp_path / name for name in ("a.png", "A.png", "b/c.png", "B_C.png", "d.png")]
    names = unique_names.of_files(tmp_path, paths)
    assert len({name.casefold() for name in names}) == len(paths)
    assert names[-1] == "d"
