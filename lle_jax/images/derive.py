"""Writing DICOM: processed pixels -> a derived object of the same patient and study.

What PS3.3 asks of a derived image (C.7.6.1.1.2 to .5, C.12.4.1): new SOP Instance UID, Image Type
DERIVED\\SECONDARY (\\PRIMARY in classes that allow nothing else), Derivation Description, and
Source Image Sequence. It goes to a series of its own, the same for all images of one source series
and description, so that it cannot be taken for the original. Patient, study, equipment and geometry
stay as they were. What was made for processing becomes an object for presentation.

Pixels are display values: greyscale is MONOCHROME2 with a window over all its levels, and the
rescale, LUTs and real-world values of the source, which no longer hold, are taken out. Explicit VR
little endian, uncompressed. Once compressed with loss, an image stays marked as such.
"""

import copy
import datetime
import io

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from lle_jax.images.dicom import naming_elements
from lle_jax.images.errors import ImageError, quiet
from lle_jax.images.picture import Picture, to_levels

_DEEPEST = 32  # sequences within each other
# No longer true of the derived pixels, or a second copy of the original ones.
_STALE = (
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "VOILUTSequence",
    "VOILUTFunction",
    "WindowCenter",
    "WindowWidth",
    "WindowCenterWidthExplanation",
    "RealWorldValueMappingSequence",
    "PresentationLUTShape",
    "PresentationLUTSequence",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "PaletteColorLookupTableUID",
    "IconImageSequence",
    "HistogramSequence",
    "DigitalSignaturesSequence",
    "MACParametersSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "DataSetTrailingPadding",
    "PlanarConfiguration",
)
_TRANSFORMATION = "PixelValueTransformationSequence"
_STALE_IN_FRAMES = (
    _TRANSFORMATION,
    "FrameVOILUTSequence",
    "RealWorldValueMappingSequence",
)
_STALE_FOR_ONE_FRAME = (
    "FrameIncrementPointer",
    "FrameTime",
    "FrameTimeVector",
    "FrameLabelVector",
    "StartTrim",
    "StopTrim",
)

# Classes whose Image Type and Frame Type allow no other second value than PRIMARY, which then says
# that the pixels show the patient and not that they are the first ones: PS3.3 C.8.4.9 (NM), C.8.9.1
# (PET), C.8.12.4 (whole slides), C.8.16.1 (enhanced CT, MR, PET and their legacy conversions),
# C.8.17 (ophthalmic), C.8.21.1 (X-ray 3D), C.8.24.3 (US volumes), C.8.27.1 (IVOCT).
_PRIMARY_ONLY = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{number}"
    for number in (
        "2.1", "2.2", "4.1", "4.3", "4.4", "6.2", "6.3", "13.1.1", "13.1.2", "13.1.3", "14.1",
        "14.2", "20", "77.1.5.1", "77.1.5.2", "77.1.5.4", "77.1.5.7", "77.1.6", "77.1.8", "77.1.9",
        "128", "128.1", "130",
    )
)  # fmt: skip
# Ophthalmic photographs have a third value only where they are derived; any term is allowed.
_THIRD_IF_DERIVED = ("1.2.840.10008.5.1.4.1.1.77.1.5.1", "1.2.840.10008.5.1.4.1.1.77.1.5.2")

# Classes "for processing", whose pixels are no display values -> those "for presentation".
_FOR_PRESENTATION = {
    f"1.2.840.10008.5.1.4.1.1.{old}": f"1.2.840.10008.5.1.4.1.1.{new}"
    for old, new in {
        "1.1.1": "1.1",
        "1.2.1": "1.2",
        "1.3.1": "1.3",
        "13.1.5": "13.1.4",
        "14.2": "14.1",
    }.items()
}
_RADIOGRAPHS = tuple(f"1.2.840.10008.5.1.4.1.1.{number}" for number in ("1.1", "1.2", "1.3"))
# Classes that list the instances they refer to once more, by series (PS3.3 C.12.2).
_LIST_REFERENCES = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{number}" for number in ("14.1", "77.1.6", "77.1.8", "77.1.9")
)


def encode(pixels: np.ndarray, like: Picture | None, description: str, note: str = "") -> bytes:
    """Float pixels `[H, W, C]` or `[N, H, W, C]` -> bytes of a derived DICOM file.

    Args:
      pixels: display values in [0, 1].
      like: what they were made from.
      description: the processing, by which images of one series are in one series again.
      note: what of it is particular to this image.

    Raises:
      ImageError: if `like` is not a DICOM picture or has another number of channels or frames.
    """
    if like is None or like.dataset is None:
        raise ImageError(
            "a DICOM file is derived from a DICOM image (in Python like=); write PNG instead"
        )
    if pixels.shape[-1] != like.pixels.shape[-1] or pixels.shape[:-3] != like.pixels.shape[:-3]:
        raise ImageError(
            f"pixels have shape {pixels.shape} and their source {like.pixels.shape}; a derived "
            "object has as many frames and channels"
        )
    source = like.dataset
    with quiet():
        dataset = copy.deepcopy(source)
    with quiet(), naming_elements(dataset):
        _decode_elements(dataset, source.original_encoding[1])
        _check_nesting(dataset, _DEEPEST)
        _identify(dataset, source, like.frame, description, note)
        had = [keyword for keyword in _STALE if keyword in dataset]
        if any(_TRANSFORMATION in group for group in _groups(dataset)):
            had.append(_TRANSFORMATION)
        for keyword in had:
            dataset.pop(keyword, None)
        _drop_embedded_overlays(dataset)
        _set_pixels(dataset, pixels, like.bits)
        _set_frames(dataset, pixels, like.frame)
        if pixels.shape[-1] == 1:
            _set_display(dataset, had)
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta = meta
        dataset.preamble = bytes(128)
        file = io.BytesIO()
        pydicom.dcmwrite(file, dataset, enforce_file_format=True)
        return file.getvalue()


def _check_nesting(dataset: Dataset, levels: int) -> None:
    """Raises ImageError for sequences in more than so many others; pydicom would write for ever."""
    for element in dataset:
        if element.VR == "SQ" and element.value:
            if not levels:
                raise ImageError(
                    f"its sequences are nested more than {_DEEPEST} deep; do not trust the file"
                )
            for item in element.value:
                _check_nesting(item, levels - 1)


def _decode_elements(dataset: Dataset, little_endian: bool) -> None:
    """Gives every element its type and byte order while the source's encoding is still known."""
    correct_ambiguous_vr(dataset, little_endian)
    for element in dataset.iterall():
        if " or " in element.VR:  # pydicom cannot tell which
            element.VR = "OW" if isinstance(element.value, bytes) else "US"
        if element.VR == "OW" and isinstance(element.value, bytes) and not little_endian:
            element.value = np.frombuffer(element.value, "<u2").byteswap().tobytes()


def _identify(
    dataset: Dataset, source: Dataset, frame: int | None, description: str, note: str
) -> None:
    """Makes it an instance of its own, that says what it was derived from."""
    meta = source.file_meta
    class_uid = source.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID")
    instance_uid = source.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID")
    dataset.SOPClassUID = class_uid or SecondaryCaptureImageStorage
    if class_uid in _FOR_PRESENTATION:
        dataset.SOPClassUID = UID(_FOR_PRESENTATION[class_uid])
        dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.SOPInstanceUID = generate_uid()
    series = source.get("SeriesInstanceUID") or instance_uid
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[str(series), description])
    now = datetime.datetime.now()
    dataset.InstanceCreationDate = now.strftime("%Y%m%d")
    dataset.InstanceCreationTime = now.strftime("%H%M%S")
    dataset.ImageType = _derived(source.get("ImageType"), dataset.SOPClassUID)
    dataset.DerivationDescription = (description + note)[:1024]
    dataset.pop("SourceImageSequence", None)
    if class_uid and instance_uid:
        purpose = Dataset()
        purpose.CodeValue = "121322"
        purpose.CodingSchemeDesignator = "DCM"
        purpose.CodeMeaning = "Source image for image processing operation"
        item = Dataset()
        item.ReferencedSOPClassUID = class_uid
        item.ReferencedSOPInstanceUID = instance_uid
        if frame is not None:
            item.ReferencedFrameNumber = frame + 1
        item.PurposeOfReferenceCodeSequence = [purpose]
        dataset.SourceImageSequence = [item]
        if dataset.SOPClassUID in _LIST_REFERENCES and series != instance_uid:
            instance, references = Dataset(), Dataset()
            instance.ReferencedSOPClassUID = class_uid
            instance.ReferencedSOPInstanceUID = instance_uid
            references.SeriesInstanceUID = series
            references.ReferencedInstanceSequence = [instance]
            dataset.ReferencedSeriesSequence = [references]


def _derived(image_type, class_uid: str) -> list[str]:
    """Image or Frame Type with its first two values replaced by those of a derived object."""
    values = [image_type] if isinstance(image_type, str) else list(image_type or [])
    rest = values[2:]
    if class_uid in _THIRD_IF_DERIVED and not any(rest):
        rest = ["PROCESSED"]
    return ["DERIVED", "PRIMARY" if class_uid in _PRIMARY_ONLY else "SECONDARY", *rest]


def _drop_embedded_overlays(dataset: Dataset) -> None:
    """Removes overlays kept in unused bits of the original pixels, which are gone."""
    overlays = [e.tag for e in dataset if 0x6000 <= e.tag.group <= 0x60FE]
    for tag in overlays:
        if (tag.group, 0x3000) not in dataset:
            del dataset[tag]


def _set_pixels(dataset: Dataset, pixels: np.ndarray, bits: int) -> None:
    colour = pixels.shape[-1] == 3
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1]
    dataset.SamplesPerPixel = pixels.shape[-1]
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = 0
    data = to_levels(pixels, bits).astype(f"<u{bits // 8}").tobytes()
    dataset.add_new("PixelData", "OW" if bits == 16 else "OB", data + bytes(len(data) % 2))


def _set_frames(dataset: Dataset, pixels: np.ndarray, frame: int | None) -> None:
    """Keeps the number of frames and what belongs to them true."""
    if "NumberOfFrames" in dataset:
        dataset.NumberOfFrames = len(pixels) if pixels.ndim == 4 else 1
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if frame is not None:
        for keyword in _STALE_FOR_ONE_FRAME:
            dataset.pop(keyword, None)
        if per_frame:
            dataset.PerFrameFunctionalGroupsSequence = [per_frame[frame]]
    for group in _groups(dataset):
        for keyword in _STALE_IN_FRAMES:
            group.pop(keyword, None)
        for element in group:
            for item in element.value if element.VR == "SQ" else []:
                if "FrameType" in item:
                    item.FrameType = _derived(item.FrameType, dataset.SOPClassUID)


def _groups(dataset: Dataset) -> list[Dataset]:
    """The functional groups of all frames and of each."""
    names = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
    return [group for name in names for group in dataset.get(name) or []]


def _set_display(dataset: Dataset, had: list[str]) -> None:
    """Gives greyscale an identity rescale and a window over all levels.

    The rescale and the presentation shape are set only where the source had them: its kind of
    object then asks for them.
    """
    rescaled = bool({"RescaleSlope", "ModalityLUTSequence", _TRANSFORMATION}.intersection(had))
    radiograph = dataset.SOPClassUID in _RADIOGRAPHS  # which ask for both
    voi, rescale = Dataset(), Dataset()
    # level 0 -> 0 and 2^bits - 1 -> 1 by the LINEAR function (PS3.3 C.11.2.1.2.1)
    voi.WindowCenter = 2 ** (dataset.BitsStored - 1)
    voi.WindowWidth = 2**dataset.BitsStored
    rescale.RescaleIntercept, rescale.RescaleSlope, rescale.RescaleType = 0, 1, "US"
    shared = dataset.get("SharedFunctionalGroupsSequence")
    if shared:
        if rescaled:
            shared[0].PixelValueTransformationSequence = [rescale]
        shared[0].FrameVOILUTSequence = [voi]
    else:
        dataset.update(voi)
        if rescaled or radiograph:
            dataset.update(rescale)
    if "PresentationLUTShape" in had or radiograph:
        dataset.PresentationLUTShape = "IDENTITY"
