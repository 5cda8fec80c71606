"""The Image Type of derived objects is one that their class allows, as dciodvfy judges."""

import re
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from lle_jax import images

PREFIX = "1.2.840.10008.5.1.4.1.1."
# class -> keyword of the functional group with the Frame Type, Image Type of an original
FRAMED = {
    "2.1": ("CTImageFrameTypeSequence", "ORIGINAL\\PRIMARY\\VOLUME\\NONE"),
    "2.2": ("CTImageFrameTypeSequence", "ORIGINAL\\PRIMARY\\VOLUME\\NONE"),
    "4.1": ("MRImageFrameTypeSequence", "ORIGINAL\\PRIMARY\\VOLUME\\NONE"),
    "4.3": ("MRImageFrameTypeSequence", "ORIGINAL\\PRIMARY\\VOLUME\\NONE"),
    "4.4": ("MRImageFrameTypeSequence", "ORIGINAL\\PRIMARY\\VOLUME\\NONE"),
    "6.2": ("USImageDescriptionSequence", "ORIGINAL\\PRIMARY\\VOLUME\\NONE"),
    "12.1.1": ("XAXRFFrameCharacteristicsSequence", "ORIGINAL\\PRIMARY\\SINGLE PLANE\\NONE"),
    "12.2.1": ("XAXRFFrameCharacteristicsSequence", "ORIGINAL\\PRIMARY\\SINGLE PLANE\\NONE"),
    "13.1.1": ("XRay3DFrameTypeSequence", "ORIGINAL\\PRIMARY\\VOLUME\\NONE"),
    "13.1.2": ("XRay3DFrameTypeSequence", "ORIGINAL\\PRIMARY\\VOLUME\\NONE"),
    "13.1.3": ("XRay3DFrameTypeSequence", "ORIGINAL\\PRIMARY\\VOLUME\\NONE"),
    "14.1": ("IntravascularOCTFrameTypeSequence", "ORIGINAL\\PRIMARY\\CORONARY\\NONE"),
    "77.1.6": ("WholeSlideMicroscopyImageFrameTypeSequence", "ORIGINAL\\PRIMARY\\VOLUME\\NONE"),
    "128.1": ("PETFrameTypeSequence", "ORIGINAL\\PRIMARY\\VOLUME\\NONE"),
    "130": ("PETFrameTypeSequence", "ORIGINAL\\PRIMARY\\VOLUME\\NONE"),
}
PLAIN = {
    "1": "ORIGINAL\\PRIMARY",
    "1.1": "ORIGINAL\\PRIMARY",
    "1.2": "ORIGINAL\\PRIMARY",
    "2": "ORIGINAL\\PRIMARY\\AXIAL",
    "3.1": "ORIGINAL\\PRIMARY\\\\0001",
    "4": "ORIGINAL\\PRIMARY\\OTHER",
    "6.1": "ORIGINAL\\PRIMARY",
    "7": "ORIGINAL\\PRIMARY",
    "7.2": "ORIGINAL\\PRIMARY",
    "7.3": "ORIGINAL\\PRIMARY",
    "7.4": "ORIGINAL\\PRIMARY",
    "12.1": "ORIGINAL\\PRIMARY\\SINGLE PLANE",
    "12.2": "ORIGINAL\\PRIMARY\\SINGLE PLANE",
    "20": "ORIGINAL\\PRIMARY\\STATIC\\EMISSION",
    "77.1.1": "ORIGINAL\\PRIMARY",
    "77.1.4": "ORIGINAL\\PRIMARY",
    "77.1.5.1": "ORIGINAL\\PRIMARY",
    "77.1.5.2": "ORIGINAL\\PRIMARY",
    "77.1.5.4": "ORIGINAL\\PRIMARY",
    "77.1.7": "ORIGINAL\\PRIMARY",
    "128": "ORIGINAL\\PRIMARY",
}

FOR_PROCESSING = {"1.1.1": "1.1", "1.2.1": "1.2"}
PLAIN |= dict.fromkeys(FOR_PROCESSING, "ORIGINAL\\PRIMARY")
# The values are display values and no Hounsfield units, which alone dciodvfy knows here.
KNOWN = {"Error - Unrecognized enumerated value <US> for value 1 of attribute <Rescale Type>"}


def original(path, kind, image_type, frames):
    """A small object of the class, of which only Image Type and Frame Type are as they should."""
    dataset = Dataset()
    dataset.SOPClassUID = UID(PREFIX + kind)
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[kind])
    dataset.ImageType = image_type.split("\\")
    dataset.Modality = "OT"
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["series", kind])
    if kind in FOR_PROCESSING:
        dataset.PresentationIntentType = "FOR PROCESSING"
    elif kind in FOR_PROCESSING.values():
        dataset.PresentationIntentType = "FOR PRESENTATION"
    colour = kind in ("7.4", "77.1.1", "77.1.4", "77.1.6", "77.1.7")
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.Rows = dataset.Columns = 4
    dataset.BitsAllocated = dataset.BitsStored = 16 if kind in ("7.3", "77.1.5.2") else 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 0
    if frames:
        frame_type, shared = Dataset(), Dataset()
        frame_type.FrameType = dataset.ImageType
        setattr(shared, frames, [frame_type])
        dataset.SharedFunctionalGroupsSequence = [shared]
        dataset.PerFrameFunctionalGroupsSequence = [Dataset(), Dataset()]
        dataset.NumberOfFrames = 2
    size = 16 * dataset.SamplesPerPixel * (2 if frames else 1) * dataset.BitsAllocated // 8
    dataset.PixelData = np.arange(size, dtype=np.uint8).tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)


def complaints(path):
    """The errors; of what the object lacks, the small ones here lack much."""
    command = ["dciodvfy", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60)
    return {
        re.sub(r"<[\d.]{10,}>", "<UID>", line)
        for line in result.stderr.splitlines()
        if line.startswith("Error")
    }


@pytest.mark.parametrize("kind", [*FRAMED, *PLAIN])
def test_image_type_and_frame_type_are_allowed(tmp_path, kind):
    frames, image_type = FRAMED.get(kind, (None, PLAIN.get(kind)))
    original(tmp_path / "a.dcm", kind, image_type, frames)
    picture = images.read(tmp_path / "a.dcm")
    images.write(tmp_path / "b.dcm", picture.pixels, like=picture)
    derived = pydicom.dcmread(tmp_path / "b.dcm")
    assert derived.ImageType[0] == "DERIVED"
    assert list(derived.ImageType)[2:4] == image_type.split("\\")[2:4] or kind.startswith("77.1.5")
    if frames:
        item = derived.SharedFunctionalGroupsSequence[0][frames].value[0]
        assert item.FrameType == derived.ImageType
    if shutil.which("dciodvfy") is None:
        pytest.skip("needs dciodvfy (Debian: dicom3tools)")
    if kind in FOR_PROCESSING:  # an object of another class
        assert derived.SOPClassUID == PREFIX + FOR_PROCESSING[kind]
        original(tmp_path / "a.dcm", FOR_PROCESSING[kind], image_type, frames)
    new = complaints(tmp_path / "b.dcm") - complaints(tmp_path / "a.dcm")
    assert not new - KNOWN
