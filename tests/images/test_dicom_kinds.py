"""DICOM objects of unusual kinds: without preamble, with odd bits, or without a picture."""

import itertools
import pathlib

import numpy as np
import pydicom
import pydicom.data
import pytest
from pydicom import pixels as codecs
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from lle_jax import images

FOLDER = pathlib.Path(pydicom.data.__file__).parent / "test_files"
DISPLAY = ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "PixelPaddingValue")
BITS = [
    (allocated, stored, high, signed)
    for allocated, stored, signed in itertools.product(
        (1, 8, 16, 32), (1, 5, 8, 12, 16, 24, 32), (False, True)
    )
    for high in sorted({stored - 1, stored + 1, allocated - 1})
    if stored <= high + 1 <= allocated and (stored > 1 or not signed)
]


def ct(**elements):
    """The bundled CT object with other elements, without what changes how values are shown."""
    dataset = pydicom.dcmread(FOLDER / "CT_small.dcm")
    for keyword in DISPLAY:
        dataset.pop(keyword, None)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def odd_bits(values, allocated, stored, high, signed):
    """An object of `values` whose unused bits, above and below, are all set (as overlays)."""
    below = high + 1 - stored
    mask = (2**stored - 1) << below
    raw = ((values << below) & mask) | (~mask & (2**allocated - 1))
    data = (
        np.packbits(raw.astype(np.uint8), bitorder="little")
        if allocated == 1
        else raw.astype(f"<u{allocated // 8}")
    )
    return ct(
        Rows=values.shape[0],
        Columns=values.shape[1],
        BitsAllocated=allocated,
        BitsStored=stored,
        HighBit=high,
        PixelRepresentation=int(signed),
        PixelData=data.tobytes(),
    )


def test_values_are_found_wherever_their_bits_are_stored(tmp_path):
    rng = np.random.default_rng(0)
    for allocated, stored, high, signed in BITS:
        low = -(2 ** (stored - 1)) if signed else 0
        values = rng.integers(low, low + 2**stored, (8, 8))
        values[0, :2] = low, low + 2**stored - 1
        odd_bits(values, allocated, stored, high, signed).save_as(tmp_path / "a.dcm")
        pixels = images.read(tmp_path / "a.dcm").pixels[..., 0]
        expected = (values - low) / (2**stored - 1)
        assert np.abs(pixels - expected).max() < 1e-6, (allocated, stored, high, signed)


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"BitsStored": 12, "HighBit": 16}, "do not fit into the bits allocated"),
        ({"BitsStored": 12, "HighBit": 10}, "do not fit into the bits allocated"),
        ({"BitsAllocated": 12}, "12 bits allocated are not read"),
        ({"PhotometricInterpretation": "YBR_PARTIAL_420"}, "photometric interpretation is none of"),
        ({"PixelPresentation": "MIXED"}, "Supplemental Palette"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.7"}, "is a segmentation"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.81.1"}, "a map of measured values"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_shown_is_refused_by_name(tmp_path, elements, message):
    ct(WindowWidth=100, **elements).save_as(tmp_path / "a.dcm")
    with pytest.raises(images.ImageError, match=message):
        images.read(tmp_path / "a.dcm")


def test_a_window_that_is_no_number_is_named_and_not_quoted(tmp_path):
    ct(WindowCenter="127.25", WindowWidth=100).save_as(tmp_path / "a.dcm")
    data = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(data.replace(b"127.25", b"127,25"))
    with pytest.raises(images.ImageError, match="its WindowCenter is not a value of") as caught:
        images.read(tmp_path / "a.dcm")
    assert "127,25" not in str(caught.value)


@pytest.mark.parametrize("keyword", ["Rows", "BitsStored", "PhotometricInterpretation"])
def test_a_missing_element_is_named(tmp_path, keyword):
    dataset = ct()
    del dataset[keyword]
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(images.ImageError, match=f"its header lacks {keyword}"):
        images.read(tmp_path / "a.dcm")


def test_objects_without_a_picture_are_refused_by_their_class(tmp_path):
    for name, kind in {
        "reportsi.dcm": "Basic Text SR Storage",
        "rtplan.dcm": "RT Plan Storage",
        "rtstruct.dcm": "RT Structure Set Storage",
        "waveform_ecg.dcm": "12-lead ECG Waveform Storage",
        "DICOMDIR": "Media Storage Directory Storage",
    }.items():
        path = next(FOLDER.rglob(name))
        with pytest.raises(images.ImageError, match=rf"\({kind}\) holds no image"):
            images.read(path)
    dataset = ct(FloatPixelData=bytes(4 * 128 * 128))
    del dataset.PixelData
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(images.ImageError, match="measured values in floating point"):
        images.read(tmp_path / "a.dcm")


SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("name", ["a.dcm", "1.2.840.7"])
def test_a_data_set_without_preamble_is_found_read_and_written(tmp_path, syntax, name):
    dataset = pydicom.dcmread(
        FOLDER / ("MR_small_bigendian.dcm" if syntax == ExplicitVRBigEndian else "MR_small.dcm")
    )
    dataset.save_as(tmp_path / "whole.dcm")
    whole = images.read(tmp_path / "whole.dcm")
    (tmp_path / "whole.dcm").unlink()
    bare = Dataset(dataset)
    bare.save_as(
        tmp_path / name,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        enforce_file_format=False,
    )
    assert (tmp_path / name).read_bytes()[128:132] != b"DICM"
    assert images.find(tmp_path) == [tmp_path / name]
    picture = images.read(tmp_path / name)
    assert np.array_equal(picture.pixels, whole.pixels)
    images.write(tmp_path / "b.dcm", picture.pixels, like=picture)
    assert np.abs(images.read(tmp_path / "b.dcm").pixels - whole.pixels).max() < 1e-5


def test_a_missing_transfer_syntax_is_taken_from_the_data(tmp_path):
    dataset = ct()
    dataset.save_as(tmp_path / "a.dcm")
    data = (tmp_path / "a.dcm").read_bytes()
    at = data.index(b"\x02\0\x10\0UI")
    size = int.from_bytes(data[at + 6 : at + 8], "little")
    (tmp_path / "b.dcm").write_bytes(data[:at] + data[at + 8 + size :])
    whole = images.read(tmp_path / "a.dcm")
    assert np.array_equal(images.read(tmp_path / "b.dcm").pixels, whole.pixels)


def test_no_other_file_is_taken_for_dicom(tmp_path):
    rng = np.random.default_rng(0)
    heads = [
        b"\x08\0\x05\0",
        b"\x08\0\x08\0CS",
        b"\x08\0\x16\0UI\x1a\0",
        b"\x02\0\0\0UL\x04\0",
        b"",
    ]
    for number in range(500):
        (tmp_path / "a").write_bytes(heads[number % 5] + rng.bytes(3000))
        with pytest.raises(images.ImageError, match="not an image"):
            images.find(tmp_path / "a")
    for content in (b"", b"\x08\0", bytes(5000), b"\x08" * 5000, b"some text " * 99):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(images.ImageError, match="not an image"):
            images.find(tmp_path / "a")


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("colours", ["RGB", "YBR_FULL"])
def test_planes_and_colour_spaces_are_those_of_pydicom(tmp_path, planar, colours):
    rgb = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    stored = codecs.convert_color_space(rgb, "RGB", "YBR_FULL") if colours != "RGB" else rgb
    data = np.moveaxis(stored, -1, 0) if planar else stored
    ct(
        SamplesPerPixel=3,
        PhotometricInterpretation=colours,
        PlanarConfiguration=planar,
        Rows=6,
        Columns=9,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelRepresentation=0,
        PixelData=np.ascontiguousarray(data).tobytes(),
    ).save_as(tmp_path / "a.dcm")
    pixels = images.read(tmp_path / "a.dcm").pixels
    assert np.abs(pixels - rgb / 255).max() < (1e-6 if colours == "RGB" else 3 / 255)
    theirs = codecs.pixel_array(tmp_path / "a.dcm", raw=False)
    assert np.array_equal(pixels, theirs / np.float32(255))


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
    ],
)
def test_lossless_syntaxes_of_the_extra_are_read_as_their_plain_originals(name, plain):
    pytest.importorskip("pylibjpeg")
    compressed, uncompressed = (images.read(FOLDER / file) for file in (name, plain))
    assert np.array_equal(compressed.pixels, uncompressed.pixels)
