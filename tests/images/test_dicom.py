"""DICOM against pydicom's own processing, on pydicom's own files."""

import pathlib
import re
import shutil
import struct
import subprocess
import traceback
import warnings
import zlib

import numpy as np
import pydicom
import pydicom.data
import pytest
from pydicom import pixels as codecs
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless

from lle_jax import images
from lle_jax.images.anonymise import anonymise

FOLDER = pathlib.Path(pydicom.data.__file__).parent / "test_files"
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
# The objects with pixels that Pillow and pydicom can decode between them; pylibjpeg adds more.
READABLE = 73


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
    assert read >= READABLE
    assert not any("\n" in refusal for refusal in refusals)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy (Debian: dicom3tools)")
@pytest.mark.parametrize("change", [lambda picture: picture, anonymise], ids=["as is", "anonymous"])
def test_a_derived_object_has_no_error_that_its_source_has_not(tmp_path, change):
    checked = 0
    for path in FILES:
        try:
            picture = images.read(path)
        except images.ImageError:
            continue
        with warnings.catch_warnings(action="ignore"):
            source = pydicom.dcmread(path)
        readable = path
        if source.file_meta.TransferSyntaxUID.is_deflated:  # which dciodvfy cannot read
            readable = tmp_path / "source.dcm"
            source.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            source.save_as(readable)
        images.write(tmp_path / "derived.dcm", picture.pixels, like=change(picture))
        new = validation_errors(tmp_path / "derived.dcm") - validation_errors(readable)
        assert not new, path.name
        checked += 1
    assert checked >= READABLE


def validation_errors(path):
    command = ["dciodvfy", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60)
    lines = re.sub(r"<[\d.]{10,}>", "<UID>", result.stderr).splitlines()  # replaced, on purpose
    return {line for line in lines if line.startswith("Error")}


def test_what_is_no_picture_is_refused():
    for name, kind in (
        ("rtdose.dcm", "a dose distribution"),
        ("liver_1frame.dcm", "a segmentation"),
    ):
        with pytest.raises(images.ImageError, match=rf"{name}: this DICOM object \(.*\) is {kind}"):
            images.read(FOLDER / name)


def test_refusals_name_the_package_that_decodes():
    path = FOLDER / "MR_small_jpeg_ls_lossless.dcm"
    if not codecs.get_decoder(JPEGLSLossless).is_available:
        with pytest.raises(images.ImageError, match=r"JPEG-LS.*pip install 'lle_jax\[formats\]'"):
            images.read(path)
    with pytest.raises(images.ImageError, match="holds no image"):
        images.read(FOLDER / "test-SR.dcm")


def changed(path, name="CT_small.dcm", implicit=False, **elements):
    """Saves a bundled object with other elements (None takes one out) and returns the path."""
    dataset = pydicom.dcmread(FOLDER / name)
    for keyword, value in elements.items():
        if value is None:
            dataset.pop(keyword, None)
        else:
            setattr(dataset, keyword, value)
    if "PixelPaddingRangeLimit" in elements:
        dataset["PixelPaddingRangeLimit"].VR = "SS"  # which pydicom cannot tell by itself
    if implicit:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        dataset.save_as(path, implicit_vr=True, little_endian=True)
    else:
        dataset.save_as(path)
    return path


def by_pydicom(path):
    """Display values by pydicom: modality LUT, then VOI, then the output range it documents."""
    dataset = pydicom.dcmread(path)
    values = codecs.apply_modality_lut(codecs.pixel_array(dataset), dataset)
    with warnings.catch_warnings(action="ignore"):  # a LUT after a rescale, which is whole here
        shown = codecs.apply_voi_lut(values, dataset).astype(float)
    if dataset.get("VOILUTSequence"):
        low, high = 0, 2 ** dataset.VOILUTSequence[0].LUTDescriptor[2] - 1
    else:
        first = -(2 ** (dataset.BitsStored - 1)) if dataset.PixelRepresentation else 0
        slope, intercept = dataset.get("RescaleSlope", 1), dataset.get("RescaleIntercept", 0)
        low = first * float(slope) + float(intercept)
        high = (first + 2**dataset.BitsStored - 1) * float(slope) + float(intercept)
    return (shown - low) / (high - low)


WINDOWS = [
    {"WindowCenter": 40, "WindowWidth": 400},
    {"WindowCenter": [100, 40], "WindowWidth": [300.5, 80]},
    {"WindowCenter": 0, "WindowWidth": 1},
    {"WindowCenter": -20.5, "WindowWidth": 0.5, "VOILUTFunction": "LINEAR_EXACT"},
    {"WindowCenter": 50, "WindowWidth": 350, "VOILUTFunction": "LINEAR_EXACT"},
    {"WindowCenter": 50, "WindowWidth": 350, "VOILUTFunction": "SIGMOID"},
    {"WindowCenter": 50, "WindowWidth": 350, "RescaleSlope": 2.5, "RescaleIntercept": -2500},
    {"WindowCenter": 0, "WindowWidth": 350, "PixelRepresentation": 0, "RescaleIntercept": -1024},
]


@pytest.mark.parametrize("elements", WINDOWS)
def test_windows_show_what_pydicom_shows(tmp_path, elements):
    path = changed(tmp_path / "a.dcm", **elements)
    expected = by_pydicom(path)
    assert expected.min() < 0.1
    assert expected.max() > 0.9
    assert np.abs(images.read(path).pixels[..., 0] - expected).max() < 1e-6


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_voi_luts_show_what_pydicom_shows(tmp_path, bits):
    item = Dataset()
    item.LUTDescriptor = [900, 0, bits]
    lut = (np.linspace(0, 1, 900) ** 2 * (2**bits - 1)).astype(int)
    item.add_new("LUTData", "US", lut.tolist())
    path = changed(tmp_path / "a.dcm", VOILUTSequence=[item], WindowCenter=1, WindowWidth=3)
    assert np.abs(images.read(path).pixels[..., 0] - by_pydicom(path)).max() < 1e-6


@pytest.mark.parametrize("implicit", [False, True])
def test_without_a_window_many_bits_show_the_data_without_padding(tmp_path, implicit):
    stored = codecs.pixel_array(pydicom.dcmread(FOLDER / "CT_small.dcm")).astype(float)
    bare = {"WindowCenter": None, "WindowWidth": None, "implicit": implicit}
    path = changed(tmp_path / "a.dcm", PixelPaddingValue=None, **bare)
    low, high = stored.min(), stored.max()
    pixels = images.read(path).pixels[..., 0]
    assert np.abs(pixels - (stored - low) / (high - low)).max() < 1e-6
    path = changed(
        tmp_path / "b.dcm",
        PixelPaddingValue=int(low) + 100,
        PixelPaddingRangeLimit=int(low) - 7,
        **bare,
    )
    low = stored[stored > low + 100].min()
    picture = images.read(path)
    expected = np.clip((stored - low) / (high - low), 0, 1)
    assert np.abs(picture.pixels[..., 0] - expected).max() < 1e-6
    images.write(tmp_path / "c.dcm", picture.pixels, like=picture)
    assert np.abs(images.read(tmp_path / "c.dcm").pixels - picture.pixels).max() < 1e-5


def test_without_a_window_eight_bits_show_their_whole_range():
    pixels = images.read(FOLDER / "image_dfl.dcm").pixels[..., 0]
    stored = codecs.pixel_array(pydicom.dcmread(FOLDER / "image_dfl.dcm"))
    assert np.array_equal(pixels, stored / np.float32(255))


def test_monochrome1_is_given_with_black_as_zero_and_written_as_monochrome2(tmp_path):
    window = {"WindowCenter": 40, "WindowWidth": 400}
    one = images.read(changed(tmp_path / "a.dcm", **window))
    two = images.read(
        changed(tmp_path / "b.dcm", PhotometricInterpretation="MONOCHROME1", **window)
    )
    assert np.abs(two.pixels - (1 - one.pixels)).max() < 1e-6
    images.write(tmp_path / "c.dcm", two.pixels, like=two)
    assert pydicom.dcmread(tmp_path / "c.dcm").PhotometricInterpretation == "MONOCHROME2"
    assert np.abs(by_pydicom(tmp_path / "c.dcm") - two.pixels[..., 0]).max() < 0.51 / 65535


@pytest.mark.parametrize(
    "name",
    ["examples_ybr_color.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_rle_16bit_2frame.dcm"],
)
def test_colour_is_what_pydicom_decodes(name):
    dataset = pydicom.dcmread(FOLDER / name)
    expected = codecs.pixel_array(dataset, raw=False) / (2**dataset.BitsStored - 1)
    assert np.abs(images.read(FOLDER / name).pixels - expected).max() < 1e-6
    one = images.read(FOLDER / name, frame=0)
    assert np.abs(one.pixels - (expected[0] if expected.ndim == 4 else expected)).max() < 1e-6


def test_palette_colour_goes_through_its_table():
    path = FOLDER / "examples_palette.dcm"
    dataset = pydicom.dcmread(path)
    expected = codecs.apply_color_lut(codecs.pixel_array(dataset), dataset) >> 8
    assert np.abs(images.read(path).pixels - expected / 255).max() < 1e-6


def enhanced(path):
    """Two frames with a rescale shared and a window each, as in an Enhanced CT object."""
    dataset = pydicom.dcmread(FOLDER / "CT_small.dcm")
    stored = codecs.pixel_array(dataset)
    for keyword in ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"):
        dataset.pop(keyword, None)
    rescale = Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 2, -1024, "HU"
    shared = Dataset()
    shared.PixelValueTransformationSequence = [rescale]
    frames = []
    for center in (100, 500):
        window, kind, frame = Dataset(), Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = center, 800
        kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
        frame.FrameVOILUTSequence = [window]
        frame.CTImageFrameTypeSequence = [kind]
        frames.append(frame)
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.NumberOfFrames = 2
    dataset.FrameTime = 40
    dataset.PixelData = np.stack([stored, stored[::-1]]).tobytes()
    dataset.save_as(path)
    hu = np.stack([stored, stored[::-1]]) * 2.0 - 1024
    centers = np.array([100, 500]).reshape(2, 1, 1)
    return np.clip((hu - (centers - 0.5)) / 799 + 0.5, 0, 1)[..., None]


def test_frames_go_by_their_own_functional_groups(tmp_path):
    expected = enhanced(tmp_path / "a.dcm")
    picture = images.read(tmp_path / "a.dcm")
    assert np.abs(picture.pixels - expected).max() < 1e-6
    images.write(tmp_path / "b.dcm", picture.pixels, like=picture)
    back = images.read(tmp_path / "b.dcm")
    assert np.abs(back.pixels - picture.pixels).max() <= 0.51 / 65535
    derived = pydicom.dcmread(tmp_path / "b.dcm")
    frame_type = derived.PerFrameFunctionalGroupsSequence[1].CTImageFrameTypeSequence[0].FrameType
    assert list(frame_type) == ["DERIVED", "SECONDARY", "VOLUME", "NONE"]
    second = images.read(tmp_path / "a.dcm", frame=1)
    assert np.abs(second.pixels - expected[1]).max() < 1e-6
    images.write(tmp_path / "c.dcm", second.pixels, like=second)
    derived = pydicom.dcmread(tmp_path / "c.dcm")
    assert derived.NumberOfFrames == 1
    assert len(derived.PerFrameFunctionalGroupsSequence) == 1
    assert derived.SourceImageSequence[0].ReferencedFrameNumber == 2
    assert "FrameTime" not in derived
    assert np.abs(images.read(tmp_path / "c.dcm").pixels - expected[1]).max() <= 0.51 / 65535


def test_a_derived_object_is_new_says_so_and_keeps_patient_and_study(tmp_path):
    source = pydicom.dcmread(FOLDER / "CT_small.dcm")
    picture = images.read(FOLDER / "CT_small.dcm")
    outputs = []
    for name in ("a.dcm", "b.dcm"):
        images.write(tmp_path / name, picture.pixels, like=picture, description="Brightened")
        outputs.append(pydicom.dcmread(tmp_path / name))
    derived = outputs[0]
    meta = derived.file_meta
    assert meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert meta.MediaStorageSOPInstanceUID == derived.SOPInstanceUID
    assert meta.MediaStorageSOPClassUID == derived.SOPClassUID == source.SOPClassUID
    assert derived.SOPInstanceUID.is_valid
    assert len({source.SOPInstanceUID, *(output.SOPInstanceUID for output in outputs)}) == 3
    series = {output.SeriesInstanceUID for output in outputs}
    assert len(series) == 1
    assert source.SeriesInstanceUID not in series
    assert list(derived.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
    assert derived.DerivationDescription == "Brightened"
    reference = derived.SourceImageSequence[0]
    assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert reference.ReferencedSOPClassUID == source.SOPClassUID
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "Modality"):
        assert derived[keyword] == source[keyword]
    for keyword in ("ImagePositionPatient", "PixelSpacing", "FrameOfReferenceUID"):
        assert derived[keyword] == source[keyword]
    assert (derived.BitsAllocated, derived.BitsStored, derived.HighBit) == (16, 16, 15)
    assert (derived.PixelRepresentation, derived.SamplesPerPixel) == (0, 1)
    assert (derived.RescaleSlope, derived.RescaleIntercept) == (1, 0)
    assert "PixelPaddingValue" not in derived
    assert "LossyImageCompression" not in derived
    # the source handed in is left alone
    assert picture.dataset.SOPInstanceUID == source.SOPInstanceUID
    assert "PixelData" not in picture.dataset


def test_lossy_compression_is_not_forgotten(tmp_path):
    picture = images.read(FOLDER / "SC_rgb_jpeg_dcmtk.dcm")
    images.write(tmp_path / "a.dcm", picture.pixels, like=picture)
    derived = pydicom.dcmread(tmp_path / "a.dcm")
    assert derived.LossyImageCompression == "01"
    assert derived.LossyImageCompressionMethod == "ISO_10918_1"
    assert float(derived.LossyImageCompressionRatio) > 1
    assert not derived.file_meta.TransferSyntaxUID.is_compressed
    again = images.read(tmp_path / "a.dcm")
    images.write(tmp_path / "b.dcm", again.pixels, like=again)
    assert pydicom.dcmread(tmp_path / "b.dcm").LossyImageCompression == "01"


def test_big_endian_words_are_turned_round(tmp_path):
    little, big = (
        images.read(FOLDER / name) for name in ("MR_small.dcm", "MR_small_bigendian.dcm")
    )
    assert np.array_equal(little.pixels, big.pixels)
    overlay = np.arange(256, dtype="<u2").tobytes()
    dataset = pydicom.dcmread(FOLDER / "MR_small_bigendian.dcm")
    dataset.add_new((0x6000, 0x3000), "OW", np.arange(256, dtype=">u2").tobytes())
    dataset.add_new((0x6002, 0x0100), "US", 16)  # an overlay in unused bits of the pixels
    dataset.save_as(tmp_path / "a.dcm")
    picture = images.read(tmp_path / "a.dcm")
    images.write(tmp_path / "b.dcm", picture.pixels, like=picture)
    derived = pydicom.dcmread(tmp_path / "b.dcm")
    assert derived[0x6000, 0x3000].value == overlay
    assert (0x6002, 0x0100) not in derived
    assert derived.EchoTime == dataset.EchoTime


def test_dicom_goes_to_sixteen_bit_png_and_is_derived_only_from_dicom(tmp_path):
    picture = images.read(FOLDER / "CT_small.dcm")
    images.write(tmp_path / "a.png", picture.pixels, like=picture)
    png = images.read(tmp_path / "a.png")
    assert png.bits == 16
    assert np.abs(png.pixels - picture.pixels).max() <= 0.51 / 65535
    for like in (None, png):
        with pytest.raises(images.ImageError, match="derived from a DICOM image"):
            images.write(tmp_path / "b.dcm", picture.pixels, like=like)
    with pytest.raises(images.ImageError, match="as many frames and channels"):
        images.write(tmp_path / "b.dcm", np.repeat(picture.pixels, 3, -1), like=picture)


def test_sizes_may_change_in_a_derived_object(tmp_path):
    picture = images.read(FOLDER / "CT_small.dcm")
    images.write(tmp_path / "a.dcm", picture.pixels[:100, :90], like=picture)
    assert np.abs(images.read(tmp_path / "a.dcm").pixels - picture.pixels[:100, :90]).max() < 1e-5


def test_nothing_about_the_patient_is_printed(tmp_path, capfd):
    secret = "Doe^Jane^Secret"
    path = changed(
        tmp_path / "a.dcm",
        PatientName=secret,
        PatientID=secret,
        WindowCenter=None,
        RescaleSlope="1e400",
    )
    with pytest.raises(images.ImageError) as caught:
        images.read(path)
    assert "Secret" not in "".join(traceback.format_exception(caught.value))
    picture = images.read(changed(path, PatientName=secret))
    assert "Secret" not in repr(picture)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("frames", [10**6, -1])
def test_frame_numbers_are_checked_before_decoding(tmp_path, frames):
    path = changed(tmp_path / "a.dcm", NumberOfFrames=frames)
    with pytest.raises(images.ImageError, match=r"more than the limit|empty image"):
        images.read(path)


def test_a_deflated_bomb_is_refused(tmp_path):
    dataset = pydicom.dcmread(FOLDER / "image_dfl.dcm")
    dataset.add_new((0x0009, 0x1001), "OB", bytes(30_000_000))
    dataset.save_as(tmp_path / "a.dcm")
    assert (tmp_path / "a.dcm").stat().st_size < 10**6
    images.read(tmp_path / "a.dcm")
    with pytest.raises(images.ImageError, match="larger than its header says"):
        images.read(tmp_path / "a.dcm", max_pixels=800_000)


@pytest.mark.parametrize("kind", ["no preamble", "another length", "group 0 in between"])
def test_a_deflated_bomb_is_refused_wherever_its_header_says_that_it_begins(tmp_path, kind):
    dataset = pydicom.dcmread(FOLDER / "image_dfl.dcm")
    dataset.add_new((0x0009, 0x1001), "OB", bytes(30_000_000))
    dataset.save_as(tmp_path / "a.dcm")
    data = (tmp_path / "a.dcm").read_bytes()
    length = struct.pack("<I", dataset.file_meta.FileMetaInformationGroupLength)
    start = 144 + dataset.file_meta.FileMetaInformationGroupLength
    assert data[140:144] == length
    if kind == "no preamble":
        data = data[132:]
    elif kind == "another length":
        data = data[:140] + struct.pack("<I", len(data)) + data[144:]
    else:  # an empty block of deflate that is also an element of a command set, and a last block
        block = zlib.compressobj(0, wbits=-15)
        small = block.compress(b"small") + block.flush()
        empty = bytes(4) + struct.pack("<I", len(small)) + small
        data = data[:start] + empty + data[start:]
    (tmp_path / "a.dcm").write_bytes(data)
    images.read(tmp_path / "a.dcm")
    with pytest.raises(images.ImageError, match="larger than its header says"):
        images.read(tmp_path / "a.dcm", max_pixels=800_000)


def test_an_element_that_cannot_be_parsed_is_named_and_not_quoted(tmp_path):
    """Nor is its file anonymised in part."""
    dataset = pydicom.dcmread(FOLDER / "CT_small.dcm")
    dataset.add_new("AcquisitionDuration", "OB", b"SECRET")
    dataset.save_as(tmp_path / "a.dcm")
    data = (tmp_path / "a.dcm").read_bytes()  # the VR FD has values of 8 bytes, in a shorter header
    found = b"\x18\x00\x73\x90OB\0\0\x06\0\0\0SECRET"
    assert data.count(found) == 1
    (tmp_path / "a.dcm").write_bytes(data.replace(found, b"\x18\x00\x73\x90FD\x0a\0SECRET...."))
    picture = images.read(tmp_path / "a.dcm")
    with pytest.raises(images.ImageError, match=r"a\.dcm: its AcquisitionDuration") as caught:
        anonymise(picture)
    assert "SECRET" not in str(caught.value)


def test_dates_in_another_calendar_go_too(tmp_path):
    path = changed(
        tmp_path / "a.dcm",
        PatientBirthDateInAlternativeCalendar="SECRET",
        PatientDeathDateInAlternativeCalendar="SECRET",
        PatientAlternativeCalendar="SECRET",
    )
    picture = anonymise(images.read(path))
    assert not [element for element in picture.dataset.iterall() if element.value == "SECRET"]


@pytest.mark.parametrize(
    ("depth", "refusal"),
    [(20, None), (40, "more than 32 deep"), (300, "more than 32 deep|not a value of its kind")],
)
def test_deep_nesting_is_refused_and_not_written_for_ever(tmp_path, depth, refusal):
    start, end = b"\xfe\xff\x00\xe0" + b"\xff" * 4, b"\xfe\xff\x0d\xe0" + bytes(4)  # of an item
    inner = b""
    for _ in range(depth):
        if inner:
            inner = b"\x08\x00\x40\x11" + b"\xff" * 4 + inner + b"\xfe\xff\xdd\xe0" + bytes(4)
        inner = start + inner + end
    header = b"\x08\x00\x40\x11UN\0\0" + struct.pack("<I", len(inner))
    path = tmp_path / "a.dcm"  # where its place in the order is does not matter to a reader
    path.write_bytes((FOLDER / "CT_small.dcm").read_bytes() + header + inner)
    picture = images.read(path)
    if refusal:
        with pytest.raises(images.ImageError, match=refusal):
            images.write(tmp_path / "b.dcm", picture.pixels, like=picture)
    else:
        images.write(tmp_path / "b.dcm", picture.pixels, like=picture)
    assert (tmp_path / "b.dcm").exists() == (refusal is None)


@pytest.mark.parametrize(
    "elements",
    [
        {"Rows": 0},
        {"Columns": 65535},
        {"BitsStored": 0},
        {"BitsAllocated": 12},
        {"SamplesPerPixel": 2},
        {"SamplesPerPixel": 3, "PixelData": bytes(3 * 2 * 128 * 128)},
        {"PhotometricInterpretation": "RGB"},
        {"PhotometricInterpretation": "PALETTE COLOR"},
        {"PixelRepresentation": 2},
        {"RescaleSlope": "0"},
        {"RescaleIntercept": "1e308", "RescaleSlope": "1e308"},
        {"name": "SC_rgb_small_odd.dcm", "PixelRepresentation": 1},
        {"name": "SC_rgb_small_odd.dcm", "Rows": 1},
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_headers_that_make_no_sense_are_refused(tmp_path, elements):
    path = changed(tmp_path / "a.dcm", **elements)
    with pytest.raises(images.ImageError) as caught:
        images.read(path)
    assert "\n" not in str(caught.value)
