"""The tool that compares with other decoders tells agreement, refusal and contradiction apart."""

import importlib.util
import pathlib
import shutil
import sys

import numpy as np
import pydicom.data
import pytest
from PIL import Image

TOOL = pathlib.Path(__file__).parents[2] / "tools" / "corpus.py"


@pytest.fixture
def corpus():
    spec = importlib.util.spec_from_file_location("corpus", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_counts_each_file_once(tmp_path, corpus, capsys, monkeypatch):
    levels = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)
    for suffix in ("png", "tif", "jpg", "bmp", "webp"):
        Image.fromarray(levels).save(tmp_path / f"a.{suffix}")
    Image.fromarray(levels).convert("CMYK").save(tmp_path / "b.tif")
    shutil.copy(pydicom.data.get_testdata_file("CT_small.dcm"), tmp_path)
    monkeypatch.setattr(sys, "argv", ["corpus.py", str(tmp_path)])
    corpus.main()
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in lines if "|" in line}
    for format in ("png", "jpeg", "bmp", "webp", "dicom"):
        assert [int(cell) for cell in rows[format]] == [1, 1, 0, 0, 0, 0, 0]
    assert [int(cell) for cell in rows["tiff"]] == [2, 1, 0, 0, 1, 0, 0]


def test_a_wrong_decoder_is_contradicted(tmp_path, corpus, monkeypatch):
    levels = np.arange(100, dtype=np.uint8).reshape(10, 10)
    Image.fromarray(levels).save(tmp_path / "a.png")
    read = corpus.images.read

    def scrambled(path, **options):
        picture = read(path, **options)
        picture.pixels[:] = picture.pixels[::-1].copy()
        return picture

    monkeypatch.setattr(corpus.images, "read", scrambled)
    assert corpus.judge(tmp_path / "a.png")[:2] == ("png", "contradicted")
