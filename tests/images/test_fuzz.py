"""Damaged files of every format: each is read or refused by ImageError, and quickly."""

import io
import os
import pathlib
import struct
import time
import warnings
import zlib

import cv2
import numpy as np
import pydicom.data
import pytest
import tifffile
from PIL import Image

from lle_jax import images
from lle_jax.images.anonymise import anonymise

RNG = np.random.default_rng(0)
SMALL = RNG.integers(0, 256, (13, 17, 3), np.uint8)
SMALL[:, :9] = 200
DEEP = SMALL.astype(np.uint16) * 257
DICOM = (
    "CT_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "SC_rgb_small_odd_jpeg.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
    "image_dfl.dcm",
    "SC_rgb_rle_2frame.dcm",
)


# LLE_FUZZ=2000 makes 10,000 files, in some minutes; the seeds are 0, 1, ... in each format.
COUNT = int(os.environ.get("LLE_FUZZ", "100"))
SUFFIXES = {"png": ".png", "jpeg": ".jpg", "bmp": ".bmp", "tiff": ".tif", "dicom": ".dcm"}


def pillow(array, format, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, format, **options)
    return file.getvalue()


def tiff(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def seeds():
    """Whole files, by format."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    palette = np.asarray(Image.fromarray(SMALL).quantize(16))
    lzw = [cv2.IMWRITE_TIFF_COMPRESSION, 5]
    return {
        "png": [
            pillow(SMALL, "PNG", exif=exif, dpi=(90, 90), icc_profile=b"p" * 200),
            pillow(palette, "PNG", transparency=2),
            cv2.imencode(".png", DEEP)[1].tobytes(),
        ],
        "jpeg": [
            pillow(SMALL, "JPEG", exif=exif),
            pillow(SMALL, "JPEG", progressive=True),
            pillow(SMALL[..., 0], "JPEG"),
        ],
        "bmp": [pillow(SMALL, "BMP"), pillow(palette, "BMP")],
        "tiff": [
            tiff(SMALL, photometric="rgb"),
            tiff(DEEP, photometric="rgb", compression="zlib"),
            tiff(DEEP[..., :1] / np.float32(65535), tile=(16, 16), bigtiff=True),
            tiff(np.stack([DEEP[..., 0]] * 3), photometric="minisblack"),
            pillow(SMALL, "TIFF", compression="tiff_lzw"),
            pillow(SMALL, "TIFF", compression="jpeg"),
            cv2.imencode(".tiff", DEEP, lzw)[1].tobytes(),
        ],
        "read only": [
            pillow(SMALL, "WEBP", lossless=True, exif=exif),
            pillow(SMALL, "GIF"),
            pillow(SMALL, "JPEG2000"),
            pillow(DEEP[..., 0], "JPEG2000"),
            pillow(SMALL, "PPM"),
            b"P6 17 13 65535\n" + DEEP.astype(">u2").tobytes(),
            pillow(SMALL, "AVIF"),
        ],
        "dicom": [
            pathlib.Path(pydicom.data.get_testdata_file(name)).read_bytes() for name in DICOM
        ],
    }


def repaired(data):
    """A PNG with its checksums made right again, so that damage reaches the decoders."""
    data, position = bytearray(data), 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        data[end : end + 4] = zlib.crc32(data[position + 4 : end]).to_bytes(4)
        position = end + 4
    return bytes(data)


def mutated(data, rng):
    """One to four random changes: bits, extreme numbers, gaps, repeats, or a cut end."""
    data = bytearray(data)
    # headers are near the start (or, in TIFF, the end), and matter most
    reach = len(data) if rng.random() < 0.5 else min(len(data), 2000)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(0, max(1, min(reach, len(data)))))
        kind = rng.integers(0, 7)
        if kind == 0:
            data[at : at + 1] = bytes([data[at] ^ (1 << rng.integers(0, 8))]) if data else b""
        elif kind == 1:
            data[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4)])
        elif kind == 2:
            data[at : at + 2] = rng.bytes(2)
        elif kind == 3:
            del data[at : at + int(rng.integers(1, 20))]
        elif kind == 4:
            data[at:at] = rng.bytes(int(rng.integers(1, 20)))
        elif kind == 5:
            data[at:at] = data[at : at + int(rng.integers(1, 200))]
        elif rng.random() < 0.3:
            del data[at:]
    return bytes(data)


def attack(path, data):
    """Reads `data` as a file and writes what it held; either works or is an ImageError."""
    path.write_bytes(data)
    try:
        picture = images.read(path, max_pixels=2**22)
    except images.ImageError as error:
        return str(error)
    assert np.isfinite(picture.pixels).all()
    assert picture.pixels.min() >= 0
    assert picture.pixels.max() <= 1
    try:
        images.write(
            path.with_suffix(SUFFIXES.get(picture.format, ".png")), picture.pixels, picture
        )
        if picture.dataset is not None:
            images.write(path.with_suffix(".dcm"), picture.pixels, anonymise(picture))
    except images.ImageError as error:
        return str(error)
    return None


def memory():
    """Resident memory in MB, where the system tells it."""
    try:
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return 0.0


@pytest.mark.parametrize("format", ["png", "jpeg", "bmp", "tiff", "read only", "dicom"])
def test_damaged_files_are_read_or_refused(tmp_path, capfd, format):
    outcomes, sources = [], seeds()[format]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for seed in range(COUNT):
            if seed == COUNT // 2:
                before = memory()
            rng = np.random.default_rng(seed)
            data = mutated(sources[seed % len(sources)], rng)
            if format == "png" and seed % 4:
                data = repaired(data)
            start = time.monotonic()
            outcomes.append(attack(tmp_path / "a", data))
            assert time.monotonic() - start < 5, seed
    refused = [outcome for outcome in outcomes if outcome is not None]
    assert len(refused) > COUNT // 8
    assert memory() - before < 100
    assert not any("\n" in outcome for outcome in refused)
    printed = capfd.readouterr()
    assert printed.out == ""
    # Pillow's libtiff writes its own complaints, without values of the file, past Python
    assert printed.err == "" or format == "tiff"
    assert not [str(warning.message) for warning in caught]
