import io
import json
import os
import sys
from pathlib import Path

import jax
import numpy as np
import pydicom
import pydicom.data
import pytest
import skimage.data
import skimage.io
from jax.experimental.compilation_cache.compilation_cache import reset_cache
from PIL import Image
from pydicom.uid import generate_uid

from lle_jax import cli, images
from lle_jax.commands.enhance import compilation_cache
from lle_jax.data import pairs
from lle_jax.images import anonymise as anonymous
from lle_jax.inference import enhance, files, tiles
from lle_jax.inference import exposure as exposures


@pytest.fixture(autouse=True)
def cache(monkeypatch):
    """Keeps the user's cache of compiled programs out of the tests."""
    monkeypatch.setattr("lle_jax.commands.enhance.compilation_cache", lambda: None)


@pytest.fixture(scope="module")
def levels() -> np.ndarray:
    return skimage.data.astronaut()[:24, 180:212]


@pytest.fixture
def inputs(tmp_path, levels):
    """in/a.png (with alpha), in/deep/b.png (16 bit), in/deep/a.jpg, in/c.tif, in/scan (DICOM)."""
    root = tmp_path / "in"
    (root / "deep").mkdir(parents=True)
    opacity = np.full((24, 32, 1), 99, np.uint8)
    Image.fromarray(np.concatenate([levels, opacity], axis=-1)).save(root / "a.png", dpi=(300, 300))
    exif = Image.Exif()
    exif[315] = "Doe^Jane"
    Image.fromarray(levels[::-1]).save(root / "deep" / "a.jpg", exif=exif, icc_profile=b"profile")
    images.write(root / "c.tif", levels[:, ::-1].astype(np.float32) / 255)
    grey = levels[..., 0].astype(np.uint16) * 200
    skimage.io.imsave(root / "deep" / "b.png", grey, check_contrast=False)
    scan = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm"))
    # as large as the others, for which one program is then compiled
    scan.PixelData = scan.pixel_array[40:64, 50:82].tobytes()
    scan.Rows, scan.Columns = 24, 32
    scan.save_as(root / "scan")
    return root


NAMES = {"a.png", "deep/a.jpg", "deep/b.png", "c.tif", "scan.dcm"}


def contents(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


pytestmark = pytest.mark.usefixtures("whole_correction")


@pytest.fixture
def uncertain(folder, monkeypatch):
    """The network, as if it predicted an uncertainty; how one does is tested with networks."""
    net = enhance.load(folder)._replace(
        uncertainty=lambda tile, *_: 0.3 * tile.mean(axis=-1, keepdims=True)
    )
    monkeypatch.setattr(enhance, "load", lambda _: net)
    return net


@pytest.fixture
def needy(whole_correction, monkeypatch):
    """What is dark needs a correction; how that is measured is tested in test_exposure.py."""

    def decide(net, measured, wish):
        dark = measured.cells[..., :3].mean() < 0.4
        return exposures.Correction(wish.aim, float(dark), float(dark), wish.gain)

    monkeypatch.setattr(exposures, "decide", decide)


@pytest.fixture
def lle(folder):
    def call(*arguments):
        return cli.main(["enhance", *map(str, arguments), "--model", str(folder)])

    return call


def test_formats_depths_metadata_and_folders_are_kept(lle, inputs, tmp_path, folder):
    before = contents(inputs)
    assert lle(inputs, "-o", tmp_path / "out") == 0
    assert contents(inputs) == before
    assert contents(tmp_path / "out").keys() == NAMES | {files.JOURNAL}
    net = enhance.load(folder)
    for name in NAMES:
        source = images.read(inputs / name.removesuffix(".dcm"))
        result = images.read(tmp_path / "out" / name)
        assert (result.format, result.bits, result.dpi, result.icc) == (
            source.format, source.bits, source.dpi, source.icc,
        )  # fmt: skip
        assert (result.alpha is None) == (source.alpha is None)
        expected, _ = enhance.enhance_pixels(net, source.pixels)
        tolerance = 0.1 if name.endswith("jpg") else 0.51 / (2**source.bits - 1)
        assert np.abs(result.pixels - expected).max() < tolerance
        assert np.abs(result.pixels - source.pixels).max() > 0.02
    assert b"Doe^Jane" in images.read(tmp_path / "out" / "deep" / "a.jpg").exif
    assert (images.read(tmp_path / "out" / "a.png").alpha == 99).all()


def test_dicom_is_derived_and_says_from_what(lle, inputs, tmp_path):
    assert lle(inputs / "scan", "-o", tmp_path / "out") == 0
    source = pydicom.dcmread(inputs / "scan")
    result = pydicom.dcmread(tmp_path / "out" / "scan.dcm")
    assert result.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert result.SOPInstanceUID != source.SOPInstanceUID
    assert result.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert result.PatientName == source.PatientName
    assert "Enhanced with lle_jax" in result.DerivationDescription
    assert "strength 1" in result.DerivationDescription


def test_anonymise_leaves_nothing_of_the_patient(lle, inputs, tmp_path):
    scan = pydicom.dcmread(inputs / "scan")
    scan.PatientName, scan.PatientID = "SECRET^NAME", "SECRETID"
    scan.StudyDescription = scan.InstitutionName = scan.PatientComments = "SECRET"
    scan.add_new((0x0009, 0x0010), "LO", "SECRET OWNER")
    item = pydicom.Dataset()
    item.OperatorsName, item.ProtocolName, item.StudyDate = "SECRET^OTHER", "SECRET", "20240229"
    item.add_new((0x0009, 0x0010), "LO", "SECRET OWNER")
    scan.AnatomicRegionSequence = [item]  # which the profile keeps
    uids = {str(e.value) for e in scan.iterall() if e.VR == "UI" and e.keyword != "SOPClassUID"}
    scan.save_as(inputs / "scan")
    assert lle(inputs, "-o", tmp_path / "out", "--anonymise") == 0
    data = contents(tmp_path / "out")["scan.dcm"]
    assert b"SECRET" not in data
    assert not any(uid.encode() in data for uid in uids)
    result = pydicom.dcmread(tmp_path / "out" / "scan.dcm")
    assert result.PatientIdentityRemoved == "YES"
    assert result.PixelSpacing == scan.PixelSpacing
    assert result.AnatomicRegionSequence[0].OperatorsName == "ANONYMIZED"
    assert result.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    result.InstanceCreationDate = result.InstanceCreationTime = ""  # of the derived object itself
    dates = {str(e.value) for e in result.iterall() if e.VR in ("DA", "DT", "TM") and e.value}
    assert dates <= {"19000101", "000000.00"}
    assert images.read(tmp_path / "out" / "scan.dcm").pixels.shape == (24, 32, 1)
    assert b"Doe^Jane" not in contents(tmp_path / "out")["deep/a.jpg"]
    assert images.read(tmp_path / "out" / "deep" / "a.jpg").icc == b"profile"


def test_what_needs_nothing_is_in_the_series_of_the_rest(lle, needy, inputs, tmp_path):
    scan = pydicom.dcmread(inputs / "scan")
    dark = scan.pixel_array // 4
    most = int(scan.pixel_array.max())
    scan.RescaleIntercept, scan.WindowCenter, scan.WindowWidth = 0, most // 2, most
    (tmp_path / "two").mkdir()
    for name, levels in (("a", dark), ("b", dark + 3 * (most // 4))):
        scan.PixelData, scan.SOPInstanceUID = levels.tobytes(), generate_uid()
        scan.save_as(tmp_path / "two" / f"{name}.dcm")
    read = {}
    for part, options in (("all", []), ("whole", ["--always"])):
        assert lle(tmp_path / "two", "-o", tmp_path / part, "--anonymise", *options) == 0
        read[part] = [pydicom.dcmread(tmp_path / part / f"{name}.dcm") for name in "ab"]
    one, other = read["all"]
    assert "unchanged" not in one.DerivationDescription
    assert "unchanged" in other.DerivationDescription
    assert one.SeriesInstanceUID == other.SeriesInstanceUID
    assert read["whole"][0].SeriesInstanceUID != one.SeriesInstanceUID
    assert read["whole"][0].StudyInstanceUID == one.StudyInstanceUID


def test_anonymous_series_stay_together_in_several_commands(inputs, tmp_path, monkeypatch):
    def uids(home):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / home))
        anonymous._key.cache_clear()  # as in another process
        dataset = anonymous.anonymise(images.read(inputs / "scan")).dataset
        return dataset.StudyInstanceUID, dataset.SeriesInstanceUID

    first = uids("mine")
    assert uids("mine") == first
    assert first[0] != first[1]
    assert not {*uids("yours")} & {*first}
    assert (tmp_path / "mine" / "lle_jax" / "anonymise.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "mine" / "lle_jax" / "anonymise.key").write_bytes(b"")  # as if cut short
    assert not {*uids("mine")} & {*first}
    assert (tmp_path / "mine" / "lle_jax" / "anonymise.key").stat().st_size == 32
    (tmp_path / "file").write_bytes(b"")
    assert uids("file/none")  # where none can be kept
    anonymous._key.cache_clear()


def test_finished_files_are_not_done_again(lle, inputs, tmp_path, capsys):
    out = tmp_path / "out"
    lle(inputs, "-o", out)
    first = contents(out)
    (out / "a.png").write_bytes(b"left by hand")  # finished: its line is there
    (out / "c.tif").unlink()
    record = out / files.JOURNAL
    record.write_bytes(record.read_bytes()[:-9])  # the last line is cut off
    last = json.loads(first[files.JOURNAL].splitlines()[-1])["key"]
    capsys.readouterr()
    assert lle(inputs, "-o", out) == 0
    assert "2 enhanced, 3 skipped (finished before)\n" in capsys.readouterr().out
    now = contents(out)
    assert last == "scan.dcm"
    assert now["a.png"] == b"left by hand"
    assert {name: now[name] for name in NAMES - {"a.png", last}} == {
        name: first[name] for name in NAMES - {"a.png", last}
    }
    capsys.readouterr()
    assert lle(inputs, "-o", out, "--strength", "0.5") == 0
    assert "5 enhanced" in capsys.readouterr().out
    (inputs / "c.tif").write_bytes((inputs / "a.png").read_bytes())
    assert lle(inputs, "-o", out, "--strength", "0.5") == 0
    assert "1 enhanced" in capsys.readouterr().out


def test_a_bad_file_is_named_and_does_not_stop_the_rest(lle, inputs, tmp_path, capsys):
    (inputs / "b_broken.png").write_bytes((inputs / "a.png").read_bytes()[:100])
    assert lle(inputs, "-o", tmp_path / "out") == 1
    printed = capsys.readouterr().err
    assert "b_broken.png: the file is cut short" in printed
    assert "1 of 6 files failed" in printed
    assert contents(tmp_path / "out").keys() == NAMES | {files.JOURNAL}


def test_no_input_is_ever_overwritten(lle, inputs, capsys):
    before = contents(inputs)
    os.link(inputs / "a.png", inputs / "linked.png")
    before = contents(inputs)
    for arguments in (
        (inputs, "-o", inputs),
        (inputs / "a.png", "-o", inputs / "a.png"),
        (inputs / "a.png", "-o", inputs / "deep" / ".." / "a.png"),
    ):
        assert lle(*arguments) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert lle(inputs / "a.png", "-o", inputs / "linked.png") == 1
    assert "never overwritten" in capsys.readouterr().err
    assert contents(inputs) == before


def test_a_folder_of_other_files_is_left_alone(lle, inputs, tmp_path, capsys):
    """As `lle enhance low/ -o high/`, where both have the same names."""
    out = tmp_path / "high"
    out.mkdir()
    (out / "a.png").write_bytes(b"somebody's")
    for options in ([], ["--dry-run"]):
        assert lle(inputs, "-o", out, *options) == 2
        assert "a.png exists, and is not of lle enhance" in capsys.readouterr().err
    assert contents(out) == {"a.png": b"somebody's"}
    (out / "a.png").unlink()
    (out / "notes.txt").write_bytes(b"stay")
    assert lle(inputs / "a.png", inputs / "c.tif", "-o", out) == 0
    written = (out / "a.png").read_bytes()
    (out / files.JOURNAL).write_bytes((out / files.JOURNAL).read_bytes().splitlines()[0] + b"\n")
    assert lle(inputs / "a.png", inputs / "c.tif", "-o", out) == 0  # stopped before its record
    assert (out / "a.png").read_bytes() == written
    assert (out / "notes.txt").read_bytes() == b"stay"


def test_outputs_of_one_name_fail_with_advice_and_the_others_are_written(
    lle, inputs, tmp_path, capsys
):
    (inputs / "a.PNG").write_bytes((inputs / "a.png").read_bytes())
    (inputs / "c.tif.compare.png").write_bytes((inputs / "a.png").read_bytes())
    arguments = (inputs, "-o", tmp_path / "out", "--compare")
    assert lle(*arguments) == 1
    printed = capsys.readouterr()
    assert f"{inputs / 'a.png'}: its output would have the name of that of" in printed.err
    assert printed.err.count("; rename one of them\n") == 4
    assert "4 of 7 files failed" in printed.err
    assert "3 enhanced, 4 failed\n" in printed.out
    assert "a.png" not in contents(tmp_path / "out")
    (inputs / "a.PNG").rename(inputs / "b.png")  # the advice, followed
    (inputs / "c.tif.compare.png").unlink()
    assert lle(*arguments) == 0
    assert "3 enhanced, 3 skipped (finished before)\n" in capsys.readouterr().out


def test_pictures_of_other_formats_are_counted_and_named(lle, inputs, tmp_path, capsys):
    for name in ("x.jxl", "x.psd", "deep/y.TGA", "notes.txt", ".hidden.psd"):
        (inputs / name).write_bytes(b"anything")
    for options in ((), ("--dry-run",)):
        assert lle(inputs, "-o", tmp_path / "out", *options) == 0
        line = capsys.readouterr().out.splitlines()[-1]
        assert line.startswith("3 skipped: jxl, psd, tga (")
        assert all(str(inputs / name) in line for name in ("x.jxl", "x.psd", "deep/y.TGA"))
    assert lle(inputs / "x.psd", "-o", tmp_path / "out") == 2
    assert "psd files are not read; convert it to PNG" in capsys.readouterr().err
    assert lle(inputs / "*.*", "-o", tmp_path / "other") == 2  # the text file was named
    assert "notes.txt" in capsys.readouterr().err
    assert lle(inputs / "[ax].*", "-o", tmp_path / "other") == 0
    assert "2 skipped: jxl, psd" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--gate", "--skip-well-exposed"])
def test_a_former_option_is_refused_with_what_is_there_now(lle, inputs, tmp_path, option, capsys):
    with pytest.raises(SystemExit, match="2"):
        lle(inputs, "-o", tmp_path / "out", option)
    printed = capsys.readouterr().err
    assert f"{option} is the default now; --always is the opposite" in printed
    assert printed.count("\n") == 1


def test_dry_run_writes_nothing(lle, inputs, tmp_path, capsys):
    before = contents(tmp_path)
    assert lle(inputs, "-o", tmp_path / "out", "--dry-run") == 0
    assert contents(tmp_path) == before
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert f"{inputs / 'a.png'} -> {tmp_path / 'out' / 'a.png'}" in lines


def test_patterns_single_files_and_other_formats(lle, inputs, tmp_path):
    assert lle(inputs / "**" / "a.*", "-o", tmp_path / "out") == 0
    assert contents(tmp_path / "out").keys() == {"a.png", "a.jpg", files.JOURNAL}
    assert lle(inputs / "scan", "-o", tmp_path / "scan.png") == 0
    assert images.read(tmp_path / "scan.png").bits == 16
    assert not (tmp_path / files.JOURNAL).exists()


def test_compare_shows_both_sides(lle, inputs, tmp_path, levels):
    assert lle(inputs / "c.tif", inputs / "scan", "-o", tmp_path / "out", "--compare") == 0
    picture = skimage.io.imread(tmp_path / "out" / "c.tif.compare.png")
    assert picture.shape == (24, 32 + 8 + 32, 3)
    np.testing.assert_array_equal(picture[:, :32], levels[:, ::-1])
    result = images.read(tmp_path / "out" / "c.tif").pixels
    np.testing.assert_array_equal(picture[:, 40:], np.rint(result * 255))
    assert (tmp_path / "out" / "scan.dcm.compare.png").exists()


def test_what_is_written_beside_outputs_is_no_input(lle, uncertain, inputs, tmp_path, capsys):
    out = tmp_path / "out"
    (inputs / "c.tif").unlink()
    Image.open(inputs / "a.png").save(inputs / "mine.compare.png")  # by its name only
    assert lle(inputs, "-o", out, "--compare", "--uncertainty") == 0
    names = {"a.png", "mine.compare.png", "deep/a.jpg", "deep/b.png", "scan.dcm"}
    found = images.scan(out)
    assert {path.relative_to(out).as_posix() for path in found.images} == names
    assert {path.relative_to(out).as_posix() for path in found.others} == {
        name + suffix for name in names for suffix in (".compare.png", ".uncertainty.tif")
    }
    capsys.readouterr()
    assert lle(out, "-o", tmp_path / "again", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[-1].startswith("10 skipped: side-by-side picture, uncertainty map (")
    matched, rejected = pairs.match(inputs / "deep", out / "deep")
    assert [truth.name for _, truth in matched] == ["a.jpg", "b.png"]
    assert len(rejected) == 4
    assert lle(out / "a.png.compare.png", "-o", tmp_path / "again") == 2
    assert "that lle enhance wrote; rename it to use it" in capsys.readouterr().err


def test_results_beside_outputs_inside_an_input_folder_are_not_counted(lle, inputs, capsys):
    for _ in range(2):
        assert lle(inputs / "deep", "-o", inputs / "deep" / "out", "--compare") == 0
        assert "skipped:" not in capsys.readouterr().out


def test_what_needs_nothing_is_copied_and_named(lle, needy, tmp_path, monkeypatch, capsys):
    bright = 80 + skimage.data.astronaut()[100:124, 100:132] // 2
    (tmp_path / "in").mkdir()
    Image.fromarray(bright).save(tmp_path / "in" / "bright.jpg", quality=95)
    Image.fromarray(bright // 8).save(tmp_path / "in" / "dark.png")
    assert lle(tmp_path / "in", "-o", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert f"unchanged: {tmp_path / 'in' / 'bright.jpg'}" in printed
    assert "1 enhanced, 1 unchanged\n" in printed
    before, after = contents(tmp_path / "in"), contents(tmp_path / "out")
    assert after["bright.jpg"] == before["bright.jpg"]
    assert after["dark.png"] != before["dark.png"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(before["bright.jpg"])))
    assert lle("-", "-o", tmp_path / "piped.jpg") == 0
    assert (tmp_path / "piped.jpg").read_bytes() == before["bright.jpg"]
    assert lle(tmp_path / "in", "-o", tmp_path / "none", "--strength", "0", "--always") == 0
    assert contents(tmp_path / "none").items() >= before.items()
    # under no name, and not what the output's name says
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(before["bright.jpg"])))
    assert lle("-", "-o", tmp_path / "bright.dcm") == 2
    assert "a DICOM file is derived from a DICOM image" in capsys.readouterr().err
    assert not (tmp_path / "bright.dcm").exists()


def test_an_image_through_standard_input_and_output(lle, inputs, folder, monkeypatch, capfdbinary):
    data = (inputs / "deep" / "b.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert lle("-") == 0
    levels = skimage.io.imread(io.BytesIO(capfdbinary.readouterr().out))
    source = images.read(inputs / "deep" / "b.png")
    expected, _ = enhance.enhance_pixels(enhance.load(folder), source.pixels)
    assert np.abs(levels - 65535.0 * expected[..., 0]).max() < 2


def test_standard_input_is_not_overwritten(lle, inputs, monkeypatch, capsys):
    before = contents(inputs)
    for name in ("a.png", "linked.png"):
        with (inputs / "a.png").open("rb") as file:
            (inputs / "linked.png").unlink(missing_ok=True)
            os.link(inputs / "a.png", inputs / "linked.png")
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
            assert lle("-", "-o", inputs / name) == 2
        assert "never overwritten" in capsys.readouterr().err
    (inputs / "linked.png").unlink()
    assert contents(inputs) == before


def test_a_name_that_is_no_text_is_printed(lle, needy, tmp_path, capsys):
    name = os.fsdecode(b"b\xffd.png")
    try:
        images.write(tmp_path / name, np.full((24, 32, 3), 0.7, np.float32))
    except images.ImageError:
        pytest.skip("this file system has no such names")
    assert lle(tmp_path / name, "-o", tmp_path / "out", "--dry-run") == 0
    assert lle(tmp_path / name, "-o", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert printed.count("b?d.png") == 3  # an input and an output, what is unchanged
    printed.encode()


def test_compiled_programs_are_kept_in_the_users_cache(tmp_path, monkeypatch):
    options = {name: jax.config.values[name] for name in (
        "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )}  # fmt: skip
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        jax.config.update("jax_compilation_cache_dir", None)  # that of the tests
        compilation_cache()
        # what takes longer to compile than the command's limit of 0.1 s is tested below it
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        reset_cache()
        jax.jit(lambda x: x * 3 + 1)(np.ones(3))
        assert any((tmp_path / "lle_jax" / "xla").iterdir())
        jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
        compilation_cache()
        assert jax.config.values["jax_compilation_cache_dir"] == str(tmp_path / "own")
    finally:
        for name, value in options.items():
            jax.config.update(name, value)
        reset_cache()


def test_what_is_no_image_on_standard_input_writes_nothing(lle, monkeypatch, capsysbinary):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x")))
    assert lle("-") == 2
    printed = capsysbinary.readouterr()
    assert printed.out == b""
    assert printed.err.count(b"\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in"], "nowhere to write"),
        (["in", "-o", "out", "--strength", "2"], "strength is 2"),
        (["nothing", "-o", "out"], "no such file"),
        (["no*.png", "-o", "out"], "nothing matches"),
        (["in", "-o", "one.png"], "one file for several"),
        (["in", "-o", "in/a.png"], "one file for several"),
        (["in", "-o", "in/scan"], "not a folder"),
        (["-", "in/a.png", "-o", "out"], "- is for one image"),
        (["in/a.png", "-o", "out", "--model", "in"], "neither a run directory nor a release"),
    ],
)
def test_what_cannot_start_is_one_line_and_exits_2(
    inputs, folder, arguments, message, capsys, monkeypatch
):
    monkeypatch.chdir(inputs.parent)
    before = contents(inputs.parent)
    assert cli.main(["enhance", "--model", str(folder), *arguments]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert contents(inputs.parent) == before


@pytest.mark.parametrize("anonymise", [False, True])
def test_every_dicom_that_can_be_read_can_be_enhanced(folder, tmp_path, anonymise):
    # formats are in question, not the network
    net = enhance.load(folder)._replace(
        finish_context=None, restore=lambda image: 0.5 + 0.5 * image
    )
    names = "CT_small examples_palette examples_ybr_color SC_rgb_small_odd ExplVR_BigEnd"
    for name in names.split():
        source = pydicom.data.get_testdata_file(f"{name}.dcm", download=False)
        target = tmp_path / f"{name}.dcm"
        settings = files.Settings(strength=0.01, anonymise=anonymise)
        files.enhance_file(net, Path(source), target, settings, "0" * 64)
        before, after = images.read(source), images.read(target)
        assert after.pixels.shape == before.pixels.shape
        assert 0 < np.abs(after.pixels - before.pixels).max() < 0.015


def test_uncertainty_is_written_beside_each_output_in_16_bits(lle, uncertain, inputs, tmp_path):
    before = contents(inputs)
    assert lle(inputs, "-o", tmp_path / "out", "--uncertainty") == 0
    assert contents(inputs) == before
    for name in ("a.png", "deep/a.jpg", "scan.dcm"):
        source = inputs / ("scan" if name == "scan.dcm" else name)
        found = images.read(tmp_path / "out" / f"{name}.uncertainty.tif")
        expected = tiles.half_width(uncertain, images.read(source).pixels)
        assert found.bits == 16
        assert np.ptp(expected) > 1e-3
        np.testing.assert_allclose(found.pixels, np.clip(expected, 0, 1), atol=1e-5)
    data = (tmp_path / "out" / "scan.dcm.uncertainty.tif").read_bytes()
    assert str(pydicom.dcmread(inputs / "scan").PatientID).encode() not in data


def test_nothing_is_uncertain_of_what_is_unchanged(lle, uncertain, needy, tmp_path):
    images.write(tmp_path / "good.png", np.full((24, 32, 3), 0.7, np.float32))
    assert lle(tmp_path / "good.png", "-o", tmp_path / "out", "--uncertainty") == 0
    assert (tmp_path / "out/good.png").read_bytes() == (tmp_path / "good.png").read_bytes()
    assert not images.read(tmp_path / "out/good.png.uncertainty.tif").pixels.any()


def test_json_lists_inputs_outputs_and_what_was_planned(lle, inputs, tmp_path, capsys):
    out = tmp_path / "out"
    (inputs / "deep" / "broken.png").write_bytes(b"x")
    for run in ([], ["--dry-run"]):
        status = lle(inputs / "deep", "-o", out, "--compare", "--json", *run)
        document = json.loads(capsys.readouterr().out)
        assert document.pop("status") == status == (0 if run else 1)
        if run:
            assert [each["finished"] for each in document["planned"]] == [True, True, False]
            continue
        outputs = [str(out / "a.jpg"), str(out / "a.jpg.compare.png")]
        assert document["done"][0] == {"input": str(inputs / "deep" / "a.jpg"), "outputs": outputs}
        assert document["failed"][0].keys() == {"input", "reason"}
        assert "not a file of a format that is read" in document["failed"][0]["reason"]
    assert lle("-", "-o", out, "--json") == 2
    assert "leave out --json" in json.loads(capsys.readouterr().out)["error"]


def test_uncertainty_is_refused_where_nobody_can_tell(lle, inputs, tmp_path, capsys):
    assert lle(inputs / "a.png", "-o", tmp_path / "out", "--uncertainty") == 1
    assert "this model predicts no uncertainty" in capsys.readouterr().err
    out = tmp_path / "other"
    assert lle(inputs / "a.png", "-o", out, "--uncertainty", "--strength", "0.5") == 2
    assert "uncertainty is that of the whole change" in capsys.readouterr().err
    assert not out.exists()
