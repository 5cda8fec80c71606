"""DICOM against pydicom's own processing, on pydicom's own files."""

import pathlib
import warnings

import numpy as np
import pydicom
import pydicom.data

from lle_jax import images

FOLDER = pathlib.Path(pydicom.data.__file__).parent / "test_files"
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
# The objects with pixels that Pillow and pydicom can decode between them.
READABLE = 81


def test_every_bundled_file_is_read_or_refused_and_derived_within_half_a_level(tmp_path, capfd):
    read, refusals = 0, []
    for path in FILES:
        try:
            picture = images.read(path)
        except images.ImageError as error:
            refusals.append(str(error))
            continue
        read += 1
        with warnings.catch_warnings(action="ignore"):
            source = pydicom.dcmread(path)
        frames = int(source.get("NumberOfFrames", 1))
        shape = (source.Rows, source.Columns)
        assert picture.pixels.shape[-3:-1] == shape
        assert picture.pixels.shape[:-3] == ((frames,) if frames > 1 else ())
        assert picture.pixels.dtype == np.float32
        assert np.isfinite(picture.pixels).all()
        assert picture.pixels.min() >= 0
        assert picture.pixels.max() <= 1
        images.write(tmp_path / "derived.dcm", picture.pixels, like=picture)
        back = images.read(tmp_path / "derived.dcm")
        assert back.bits == picture.bits
        error = np.abs(back.pixels.astype(float) - picture.pixels).max()
        assert error <= 0.5 / (2**picture.bits - 1) + 1e-7, path.name
    assert read == READABLE
    assert not any("\n" in refusal for refusal in refusals)
    assert capfd.readouterr() == ("", "")
