import csv
import json
import math
import shutil

import numpy as np
import pydicom
import pydicom.data
import pytest
import skimage.data
import skimage.io
import tifffile

from lle_jax import images
from lle_jax.artifacts import measures, quantify, severity


@pytest.fixture(scope="module")
def levels() -> np.ndarray:
    return skimage.data.astronaut()[:24, 180:212]


@pytest.fixture
def folder(tmp_path, levels):
    """a.png, deep/a.jpg, deep/b.png (16 bit grey), deep/c.tif (2 frames), scan (DICOM), broken."""
    root = tmp_path / "in"
    (root / "deep").mkdir(parents=True)
    skimage.io.imsave(root / "a.png", levels)
    skimage.io.imsave(root / "deep" / "a.jpg", levels[::-1])
    grey = levels[..., 0].astype(np.uint16) * 200
    skimage.io.imsave(root / "deep" / "b.png", grey, check_contrast=False)
    tifffile.imwrite(root / "deep" / "c.tif", np.stack([levels, levels[::-1]]), photometric="rgb")
    data = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm"))
    data.PatientName = "Doe^Jane"
    data.save_as(root / "scan")
    (root / "broken.png").write_bytes((root / "a.png").read_bytes()[:100])
    return root


@pytest.fixture
def counted(monkeypatch):
    """How many frames were measured; cheap, as what is measured is tested elsewhere."""
    calls = []

    def measure(image, quality=None):
        calls.append(image.shape)
        values = dict.fromkeys(measures.UNITS, 0.25) | {"luminance": float(image.mean())}
        return values | {"entropy": math.nan, "jpeg_quality": float(quality or 100)}

    monkeypatch.setattr(measures, "measure", measure)
    return calls


def run(inputs, output=None):
    return quantify.quantify(inputs, output, progress=False)


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_frame_of_each_format_is_a_row_in_the_order_of_the_files(folder, counted):
    result = run([folder])
    found = [(row["path"].removeprefix(f"{folder}/"), row["frame"]) for row in result.rows]
    assert found == [
        ("a.png", 0), ("deep/a.jpg", 0), ("deep/b.png", 0), ("deep/c.tif", 0), ("deep/c.tif", 1),
        ("scan", 0),
    ]  # fmt: skip
    about = [
        (r["format"], r["frames"], r["height"], r["width"], r["channels"]) for r in result.rows
    ]
    assert about == [
        ("png", 1, 24, 32, 3), ("jpeg", 1, 24, 32, 3), ("png", 1, 24, 32, 1),
        ("tiff", 2, 24, 32, 3), ("tiff", 2, 24, 32, 3), ("dicom", 1, 128, 128, 1),
    ]  # fmt: skip
    assert [r["jpeg_quality_from"] for r in result.rows].count("header") == 1
    assert result.rows[1]["jpeg_quality"] == 75  # what skimage writes
    for row, shape in zip(result.rows, counted, strict=False):
        assert row["luminance"] > 0
        assert len(shape) == 3


def test_a_file_is_measured_as_its_pixels(folder):
    (row,) = run([folder / "a.png"]).rows
    expected = measures.measure(images.read(folder / "a.png").pixels)
    np.testing.assert_equal({name: row[name] for name in expected}, expected)
    assert row["severity"] == severity.severity(expected)
    assert row["recommendation"] == severity.recommend(row["severity"])


def test_equal_files_are_duplicates_not_finished_before(folder, counted, tmp_path, monkeypatch):
    monkeypatch.setattr(quantify, "_THREADS", 1)
    shutil.copy(folder / "a.png", folder / "deep" / "z.png")
    outcome = run([folder], tmp_path / "out").outcome
    assert outcome.duplicates == [folder / "deep" / "z.png"]
    assert outcome.summary("measured") == "5 measured, 1 skipped (duplicates), 1 failed"
    again = run([folder], tmp_path / "out").outcome
    assert again.summary("measured") == "0 measured, 6 skipped (finished before), 1 failed"


def test_unreadable_files_are_named_with_the_reason(folder, counted, tmp_path):
    (folder / "empty.dcm").write_bytes(b"")
    result = run([folder], tmp_path / "out")
    assert [path for path, _ in result.failures] == [
        str(folder / "broken.png"),
        str(folder / "empty.dcm"),
    ]
    assert "cut short" in result.failures[0][1]
    assert str(folder) not in result.failures[0][1]
    assert table(tmp_path / "out" / "unreadable.csv") == [
        {"path": path, "reason": reason} for path, reason in result.failures
    ]


def test_the_table_and_the_records_hold_the_same(folder, counted, tmp_path):
    result = run([folder], tmp_path / "out")
    rows = table(tmp_path / "out" / "measures.csv")
    records = [
        json.loads(s) for s in (tmp_path / "out" / "measures.jsonl").read_text().splitlines()
    ]
    assert len(rows) == len(records) == len(result.rows)
    assert rows[0]["entropy"] == ""
    assert records[0]["entropy"] is None
    for row, record in zip(rows, records, strict=True):
        assert row == {n: "" if record[n] is None else str(record[n]) for n in row}
        assert record.keys() == row.keys() | {"sha256", "lle_jax"}


def test_pictures_of_other_formats_are_named_beside_the_unreadable(folder, counted, tmp_path):
    (folder / "x.jxl").write_bytes(b"anything")
    result = run([folder], tmp_path / "out")
    assert result.others == [folder / "x.jxl"]
    assert len(result.failures) == 1
    last = table(tmp_path / "out" / "unreadable.csv")[-1]
    assert last["path"] == str(folder / "x.jxl")
    assert last["reason"].startswith("jxl files are not read")
    assert (len(result.outcome.done), len(result.outcome.failed)) == (5, 1)


def test_no_identifier_of_a_dicom_file_is_written(folder, counted, tmp_path):
    run([folder / "scan"], tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        assert "Doe" not in path.read_text()


def test_a_repeated_command_measures_only_what_is_new_or_changed(folder, counted, tmp_path, levels):
    out = tmp_path / "out"
    first = run([folder], out)
    written = (out / "measures.csv").read_bytes()
    counted.clear()
    assert run([folder], out).rows == first.rows
    assert counted == []
    assert (out / "measures.csv").read_bytes() == written
    shutil.copy(folder / "a.png", folder / "copy.png")  # of known content
    skimage.io.imsave(folder / "new.png", levels[:20], check_contrast=False)
    skimage.io.imsave(folder / "a.png", levels[:22], check_contrast=False)
    (folder / "deep" / "b.png").unlink()
    again = run([folder], out)
    assert sorted(counted) == [(20, 32, 3), (22, 32, 3)]
    names = [row["path"].removeprefix(f"{folder}/") for row in again.rows]
    assert names == [
        "a.png", "copy.png", "deep/a.jpg", "deep/c.tif", "deep/c.tif", "new.png", "scan",
    ]  # fmt: skip


@pytest.mark.parametrize("survivors", [0, 1, 3])
def test_after_a_kill_all_whole_records_count(folder, counted, tmp_path, survivors):
    out = tmp_path / "out"
    first = run([folder], out)
    whole = (out / "measures.jsonl").read_bytes()
    header, *lines = [
        line
        for line in (out / quantify.JOURNAL).read_bytes().splitlines(keepends=True)
        if b'"failed"' not in line
    ]
    # as killed while it wrote a line: no table, no page, a line that is cut off
    shutil.rmtree(out)
    out.mkdir()
    (out / quantify.JOURNAL).write_bytes(
        header + b"".join(lines[:survivors]) + lines[survivors][:40]
    )
    counted.clear()
    assert run([folder], out).rows == first.rows
    assert len(counted) == len(lines) - survivors == 6 - survivors
    assert (out / "measures.jsonl").read_bytes() == whole


def test_each_record_is_on_disk_before_the_next_image(folder, tmp_path, monkeypatch):
    out, recorded = tmp_path / "out", []
    monkeypatch.setattr(quantify, "_THREADS", 1)

    def measure(image, quality=None):
        journal = out / quantify.JOURNAL
        recorded.append(journal.read_text().count('"done"') if journal.exists() else 0)
        if len(recorded) == 4:
            raise KeyboardInterrupt
        return dict.fromkeys(measures.UNITS, 0.25)

    monkeypatch.setattr(measures, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        run([folder], out)
    assert recorded[:4] == [0, 1, 2, 3]
    assert not (out / "measures.csv").exists()
    assert run([folder], out).rows
    assert len(recorded) == 4 + 3


def test_records_of_another_version_are_not_taken(folder, counted, tmp_path, monkeypatch):
    run([folder / "a.png"], tmp_path / "out")
    monkeypatch.setattr("lle_jax.__version__", "another")
    run([folder / "a.png"], tmp_path / "out")
    assert len(counted) == 2


@pytest.mark.parametrize("line", ["null", "[]", "{}", '{"sha256": 1}', "\xff", '"'])
def test_damaged_records_are_passed_over(folder, counted, tmp_path, line):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / quantify.JOURNAL).write_bytes(line.encode("latin-1"))
    assert len(run([folder / "a.png"], tmp_path / "out").rows) == 1


def test_files_of_others_are_not_replaced(folder, counted, tmp_path):
    (tmp_path / "index.html").write_text("my page")
    with pytest.raises(images.ImageError, match="would be replaced"):
        run([folder], tmp_path)
    assert (tmp_path / "index.html").read_text() == "my page"
    assert not counted


def test_a_name_that_a_spreadsheet_would_calculate_is_written_as_a_path(
    folder, counted, tmp_path, monkeypatch
):
    monkeypatch.chdir(folder)
    (folder / "a.png").rename(folder / "=1+1.png")
    run(["=1+1.png"], tmp_path / "out")
    assert table(tmp_path / "out" / "measures.csv")[0]["path"] == "./=1+1.png"


def test_an_image_that_is_too_small_is_a_row_of_what_is_known(folder):
    skimage.io.imsave(folder / "dot.png", np.full((3, 5), 9, np.uint8), check_contrast=False)
    (row,) = run([folder / "dot.png"]).rows
    assert math.isnan(row["noise_sigma"])
    assert math.isnan(row["severity"]["noise"])
    assert row["luminance"] > 0


def test_as_many_pictures_are_in_memory_as_there_are_threads(folder, tmp_path, monkeypatch):
    for number in range(12):
        shutil.copy(folder / "a.png", folder / f"{number}.png")
        with (folder / f"{number}.png").open("ab") as file:
            file.write(bytes([number]))  # of another content
    alive, most = set(), []
    read = images.read

    def counting(path):
        picture = read(path)
        alive.add(str(path))
        most.append(len(alive))
        return picture

    def measure(image, quality=None):
        return dict.fromkeys(measures.UNITS, 0.25)

    finish = quantify._measure_frames

    def finishing(path, *rest):
        try:
            return finish(path, *rest)
        finally:
            alive.discard(str(path))

    monkeypatch.setattr(quantify, "_THREADS", 2)
    monkeypatch.setattr(images, "read", counting)
    monkeypatch.setattr(measures, "measure", measure)
    monkeypatch.setattr(quantify, "_measure_frames", finishing)
    run([folder])
    assert len(most) >= 12
    assert max(most) <= 2
