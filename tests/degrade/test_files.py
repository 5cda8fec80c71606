import json

import jax
import numpy as np
import pydicom
import pydicom.data
import pytest
import skimage.data
import skimage.io

from lle_jax import degrade, images
from lle_jax.degrade import chain, files, presets
from lle_jax.images import plan

PRESET = presets.parse(
    "[exposure]\ngain.uniform = [0.2, 0.6]\n[gaussian_noise]\nsigma.uniform = [0.01, 0.05]\n", "p"
)
SETTINGS = files.Settings(PRESET, seed=7)


@pytest.fixture(scope="module")
def levels() -> np.ndarray:
    return skimage.data.astronaut()[:24, 180:212]


@pytest.fixture
def folder(tmp_path, levels):
    """in/a.png, in/deep/b.png (16 bit), in/deep/a.jpg, in/c.tif, in/scan (DICOM without suffix)."""
    root = tmp_path / "in"
    (root / "deep").mkdir(parents=True)
    skimage.io.imsave(root / "a.png", levels)
    skimage.io.imsave(root / "deep" / "a.jpg", levels[::-1])
    images.write(root / "c.tif", levels[:, ::-1].astype(np.float32) / 255)
    grey = levels[..., 0].astype(np.uint16) * 200
    skimage.io.imsave(root / "deep" / "b.png", grey, check_contrast=False)
    data = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm"))
    data.save_as(root / "scan")
    return root


def contents(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def run(inputs, output, settings=SETTINGS):
    pairs = plan.plan(inputs, output).pairs
    return files.degrade_files(pairs, settings, output, progress=False)


def test_formats_bit_depths_and_folders_are_kept(folder, tmp_path):
    outcome = run([folder], tmp_path / "out")
    assert (len(outcome.done), outcome.failed) == (5, [])
    names = {"a.png", "deep/a.jpg", "deep/b.png", "c.tif", "scan.dcm"}
    assert contents(tmp_path / "out").keys() == names | {f"{name}.json" for name in names} | {
        files.JOURNAL
    }
    for name in names:
        before = images.read(folder / name.removesuffix(".dcm"))
        after = images.read(tmp_path / "out" / name)
        assert (after.format, after.bits) == (before.format, before.bits)
        assert after.pixels.shape == before.pixels.shape
        assert after.pixels.mean() < before.pixels.mean()


def test_bytes_do_not_depend_on_names_order_or_number_of_files(folder, tmp_path):
    run([folder], tmp_path / "out")
    (tmp_path / "renamed.png").write_bytes((folder / "a.png").read_bytes())
    run([folder / "deep" / "b.png", tmp_path / "renamed.png"], tmp_path / "other")
    all_files, some = contents(tmp_path / "out"), contents(tmp_path / "other")
    for suffix in ("", ".json"):
        assert some[f"renamed.png{suffix}"] == all_files[f"a.png{suffix}"]
        assert some[f"b.png{suffix}"] == all_files[f"deep/b.png{suffix}"]


def test_other_seeds_give_other_images(folder, tmp_path):
    for seed in (7, 8):
        run([folder / "a.png"], tmp_path / str(seed), files.Settings(PRESET, seed))
    assert contents(tmp_path / "7")["a.png"] != contents(tmp_path / "8")["a.png"]


def test_the_record_reproduces_the_image(folder, tmp_path):
    run([folder / "a.png"], tmp_path / "out")
    record = json.loads((tmp_path / "out" / "a.png.json").read_text())
    assert record["sha256"] == images.sha256(folder / "a.png")
    assert (record["preset"], record["seed"], record["severity"]) == ("p", 7, 1.0)
    parameters = degrade.from_json(json.dumps(record["parameters"]))
    _, noise = jax.random.split(files.key(record["seed"], record["sha256"]))
    again = files.degrade_pixels(noise, parameters, images.read(folder / "a.png").pixels)
    written = images.read(tmp_path / "out" / "a.png").pixels
    np.testing.assert_array_equal(np.rint(255 * again), np.rint(255 * written))


def test_severity_zero_copies_the_pixels(folder, tmp_path):
    run([folder], tmp_path / "out", files.Settings(PRESET, 7, 0.0))
    for name in ("a.png", "deep/b.png", "c.tif"):
        before, after = images.read(folder / name), images.read(tmp_path / "out" / name)
        np.testing.assert_array_equal(after.pixels, before.pixels)


def test_finished_files_are_skipped_and_others_done_again(folder, tmp_path):
    out = tmp_path / "out"
    run([folder], out)
    first = contents(out)
    del first[files.JOURNAL]
    (out / "a.png").write_bytes(b"left by hand")  # finished: its record is there and fits
    (out / "deep" / "b.png").unlink()
    record = json.loads((out / "c.tif.json").read_text())
    (out / "c.tif.json").write_text(json.dumps(record | {"seed": 8}))  # of another run
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    outcome = run([folder], out)
    assert (len(outcome.done), len(outcome.skipped)) == (2, 3)
    redone = {path.name for path, time in times.items() if path.exists()
              and path.stat().st_mtime_ns != time}  # fmt: skip
    assert redone == {"b.png.json", "c.tif", "c.tif.json", files.JOURNAL}
    now = contents(out)
    del now[files.JOURNAL]
    assert now == first | {"a.png": b"left by hand"}
    run([folder], out, files.Settings(PRESET, 8))
    assert all(contents(out)[name] != data for name, data in first.items())


def test_an_unreadable_file_is_reported_and_does_not_stop_the_rest(folder, tmp_path):
    (folder / "b_broken.png").write_bytes((folder / "a.png").read_bytes()[:100])
    ((pair, reason),) = run([folder], tmp_path / "out").failed
    assert pair[0] == folder / "b_broken.png"
    assert "b_broken.png" in reason
    assert "\n" not in reason
    assert "c.tif" in contents(tmp_path / "out")
    assert "b_broken.png" not in contents(tmp_path / "out")


def test_files_of_others_are_not_overwritten(folder, tmp_path):
    out = tmp_path / "out"
    (out / "deep").mkdir(parents=True)
    (out / "a.png").write_bytes(b"of others")
    (out / "c.tif.json").write_text('{"labels": [1, 2]}')
    (out / "deep" / "b.png.json").write_text("{")
    before = contents(out)
    outcome = run([folder], out)
    assert len(outcome.done) == 2
    reasons = sorted(reason for _, reason in outcome.failed)
    said = "exists and is not of lle degrade; choose another folder"
    assert reasons == [f"{out / name}: {said}" for name in sorted(before)]
    assert contents(out).items() >= before.items()
    assert "c.tif" not in contents(out)


def test_an_interruption_between_image_and_record_does_not_stop_the_next_run(
    folder, tmp_path, monkeypatch
):
    out, write = tmp_path / "out", images.write

    def interrupted(*args, **options):
        write(*args, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files.images, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run([folder / "a.png"], out)
    assert (out / "a.png").exists()
    assert len(run([folder / "a.png"], out).done) == 1
    assert len(run([folder / "a.png"], out).skipped) == 1
    assert "unfinished" not in json.loads((out / "a.png.json").read_text())


def test_no_record_is_left_of_an_image_that_cannot_be_written(folder, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.images, "write", full)
    assert len(run([folder / "a.png"], tmp_path / "out").failed) == 1
    assert contents(tmp_path / "out").keys() == {files.JOURNAL}


def test_an_image_too_large_for_the_memory_fails_alone(folder, tmp_path, monkeypatch):
    def apply(key, parameters, image):
        if image.shape[:2] == (24, 32):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return image

    skimage.io.imsave(
        folder / "small.png", np.full((16, 16, 3), 200, np.uint8), check_contrast=False
    )
    monkeypatch.setattr(chain, "apply", apply)
    outcome = run([folder / "a.png", folder / "small.png"], tmp_path / "out")
    assert [pair[0].name for pair in outcome.done] == ["small.png"]
    assert [reason for _, reason in outcome.failed] == [
        f"{folder / 'a.png'}: not enough memory for this image"
    ]


def test_programs_of_many_sizes_are_dropped(tmp_path, monkeypatch):
    for side in range(8, 13):
        for name in "ab":
            path = tmp_path / f"{side}{name}.png"
            levels = np.full((side, 8, 3), ord(name), np.uint8)
            skimage.io.imsave(path, levels, check_contrast=False)
    dropped = []
    monkeypatch.setattr(files, "MAX_SHAPES", 2)
    monkeypatch.setattr(files.jax, "clear_caches", lambda: dropped.append(1))
    assert len(run([tmp_path], tmp_path / "out").done) == 10
    assert len(dropped) == 2


def test_frames_share_parameters_but_not_noise():
    frames = np.full((3, 16, 16, 1), 0.5, np.float32)
    parameters = degrade.sample(jax.random.key(0), PRESET, ())
    low = files.degrade_pixels(jax.random.key(1), parameters, frames)
    assert low.shape == frames.shape
    assert np.ptp(low.mean((1, 2, 3))) < 0.02
    assert (low[0] != low[1]).mean() > 0.9
