"""Finding, hashing and replacing files; what every error looks like."""

import concurrent.futures
import hashlib
import logging
import os
import shutil
import struct
import warnings
import zlib

import jax.numpy as jnp
import numpy as np
import pydicom.data
import pytest
from PIL import Image

from lle_jax import images
from lle_jax.images import files

PIXELS = np.linspace(0, 1, 5 * 4 * 3, dtype=np.float32).reshape(5, 4, 3)


def fill(folder, names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        images.write(path, PIXELS)


def test_find_lists_images_sorted_once_and_without_hidden_ones(tmp_path):
    names = ["b.png", "a.JPG", "sub/c.tif", ".hidden.png", ".folder/d.png", "sub/deep/e.bmp"]
    fill(tmp_path, names)
    (tmp_path / "notes.txt").write_text("not an image")
    for name in ("1.2.840.1", "DICOMDIR"):
        shutil.copy(pydicom.data.get_testdata_file("CT_small.dcm"), tmp_path / name)
    found = images.find([tmp_path, tmp_path / "b.png"])
    relative = [str(path.relative_to(tmp_path)) for path in found]
    assert relative == ["1.2.840.1", "a.JPG", "b.png", "sub/c.tif", "sub/deep/e.bmp"]
    flat = images.find(str(tmp_path), recursive=False)
    assert [path.name for path in flat] == ["1.2.840.1", "a.JPG", "b.png"]


def test_find_does_not_follow_links_in_circles(tmp_path):
    fill(tmp_path, ["a/b.png"])
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert len(images.find(tmp_path)) == 1


def test_a_folder_inside_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    fill(tmp_path, ("a.png", "deep/b.png", "locked/c.png"))
    scandir = os.scandir

    def locked(path):
        if os.fspath(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(images.ImageError) as caught:
        images.find(tmp_path)
    said = "permission denied; check its access rights"
    assert str(caught.value) == f"{tmp_path / 'locked'}: {said}"


def test_find_says_what_is_missing_or_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such file or folder") as caught:
        images.find([tmp_path / "nowhere"])
    assert isinstance(caught.value, images.ImageError)
    assert "\n" not in str(caught.value)
    with pytest.raises(images.ImageError, match=r"no images in this folder.*\.png .*DICOM"):
        images.find(tmp_path)
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(images.ImageError, match="not an image"):
        images.find(tmp_path / "a.txt")


def test_sha256_is_that_of_hashlib(tmp_path):
    data = os.urandom(1 << 20)
    (tmp_path / "a").write_bytes(data)
    assert images.sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()
    with pytest.raises(FileNotFoundError):
        images.sha256(tmp_path / "b")


def test_the_input_is_never_overwritten_under_any_name(tmp_path):
    fill(tmp_path, ["a.png"])
    before = images.sha256(tmp_path / "a.png")
    picture = images.read(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    os.link(tmp_path / "a.png", tmp_path / "hard.png")
    for name in ("a.png", "link.png", "hard.png", "../" + tmp_path.name + "/a.png"):
        with pytest.raises(images.ImageError, match="never overwritten"):
            images.write(tmp_path / name, picture.pixels, like=picture)
    assert images.sha256(tmp_path / "a.png") == before


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    fill(tmp_path, ["a.png"])
    before = images.sha256(tmp_path / "a.png")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(images.ImageError, match="No space left"):
        images.write(tmp_path / "a.png", 1 - PIXELS)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert images.sha256(tmp_path / "a.png") == before


def test_written_files_have_ordinary_access_rights(tmp_path):
    fill(tmp_path, ["a.png"])
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_jax_arrays_of_any_float_type_are_written(tmp_path):
    expected = np.rint(PIXELS * 255)
    for dtype in (jnp.float32, jnp.float16, jnp.bfloat16):
        images.write(tmp_path / "a.png", jnp.asarray(PIXELS, dtype))
        back = images.read(tmp_path / "a.png").pixels * 255
        assert np.abs(back - expected).max() <= (0 if dtype == jnp.float32 else 1)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((4, 4, 3), np.uint8), "dtype uint8"),
        (np.zeros((4, 4), np.float32), "shape"),
        (np.zeros((4, 4, 2), np.float32), "1 or 3 channels"),
        (np.zeros((0, 4, 3), np.float32), "must not be zero"),
        (np.full((4, 4, 3), np.nan, np.float32), "NaN"),
        (np.zeros((2, 4, 4, 3), np.float32), "one frame"),
        (np.zeros((2, 2, 4, 4, 3), np.float32), r"\[N, H, W, C\]"),
    ],
)
def test_unfit_pixels_are_refused_in_one_line(tmp_path, pixels, message):
    with pytest.raises(images.ImageError, match=message) as caught:
        images.write(tmp_path / "a.png", pixels)
    assert str(caught.value).startswith(str(tmp_path / "a.png"))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_unknown_suffix_and_missing_folder_are_refused(tmp_path):
    with pytest.raises(images.ImageError, match=r"gif: not written; use \.png"):
        images.write(tmp_path / "a.gif", PIXELS)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        images.write(tmp_path / "no" / "a.png", PIXELS)


def png_header(width, height):
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + zlib.crc32(body).to_bytes(4)
    return b"\x89PNG\r\n\x1a\n" + chunk + bytes(100)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("text.jpg", b"this is not a picture\n", "not a file of a format that is read"),
        ("empty.png", b"", "0 bytes"),
        ("bomb.png", png_header(40000, 40000), "40000 x 40000 x 1 pixels .* limit"),
        ("magic.tif", b"II*\0", "damaged or not supported"),
        ("magic.jpg", b"\xff\xd8\xff", "damaged or not supported"),
        ("magic.bmp", b"BM", "damaged or not supported"),
        ("magic.dcm", bytes(128) + b"DICM", "holds no image"),
    ],
)
def test_what_is_not_an_image_is_refused_in_one_line(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(images.ImageError, match=message) as caught:
        images.read(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("format", ["png", "jpeg", "bmp", "tiff"])
def test_the_size_limit_is_read_from_the_header_and_can_be_raised(tmp_path, format):
    path = tmp_path / "a"
    Image.new("RGB", (30, 20)).save(path, format)
    with pytest.raises(images.ImageError, match="limit of 599"):
        images.read(path, max_pixels=599)
    assert images.read(path, max_pixels=600).pixels.shape == (20, 30, 3)


def test_folders_devices_and_odd_names_are_errors_too(tmp_path):
    for path in (tmp_path, "/dev/null", "nul\0byte", "line\nbreak.png", tmp_path / "a.png" / "b"):
        with pytest.raises(images.ImageError) as caught:
            images.read(path)
        assert "\n" not in str(caught.value)


def test_a_file_without_permission_is_an_image_error(tmp_path, monkeypatch):
    fill(tmp_path, ["a.png"])

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(images.ImageError, match="permission denied"):
        images.read(tmp_path / "a.png")


def test_a_frame_that_does_not_exist_is_refused(tmp_path):
    fill(tmp_path, ["a.png", "a.tif"])
    for name in ("a.png", "a.tif"):
        assert images.read(tmp_path / name, frame=0).pixels.shape == (5, 4, 3)
        for frame in (1, -1):
            with pytest.raises(images.ImageError, match="does not exist"):
                images.read(tmp_path / name, frame=frame)


def test_a_pictures_printed_form_shows_no_data(tmp_path):
    fill(tmp_path, ["a.png"])
    assert len(repr(images.read(tmp_path / "a.png"))) < 300 + len(str(tmp_path))


def test_reading_in_threads_agrees_and_leaves_warnings_and_loggers_alone(tmp_path):
    fill(tmp_path, ["a.png", "a.tif", "a.jpg"])
    dicom = pydicom.data.get_testdata_file("CT_small.dcm")
    paths = [*images.find(tmp_path), dicom] * 10
    filters, disabled = list(warnings.filters), logging.getLogger("pydicom").disabled
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        pictures = list(pool.map(images.read, paths))
    for path, picture in zip(paths, pictures, strict=True):
        assert np.array_equal(images.read(path).pixels, picture.pixels)
    assert warnings.filters == filters
    assert logging.getLogger("pydicom").disabled == disabled


def test_the_mark_of_a_large_picture_beside_an_output_is_found(tmp_path):
    path = tmp_path / "a.png.uncertainty.tif"
    path.write_bytes(
        bytes(8186) + files.BESIDE_MARK.encode()
    )  # where 14,000 x 9,000 pixels have it
    assert files.is_beside(path)
    assert not files.is_beside(path.rename(tmp_path / "a.tif"))
    assert not files.is_beside(tmp_path / "missing.compare.png")
