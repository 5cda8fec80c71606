"""Taking out of a picture what names a patient, besides the pixels themselves.

By a list of what is kept, since nobody can list everything that may name somebody. Of a DICOM
object that is what is needed to show and measure its pixels; patient, study, people, places, dates,
texts, overlays and private elements go. This is not the Basic Profile of PS3.15 Annex E, which
keeps more: objects lose elements that their kind requires. Names burnt into the pixels stay.
"""

import copy
import dataclasses
import secrets

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from lle_jax.images.errors import quiet
from lle_jax.images.picture import Picture

_KEPT = frozenset(
    """
    SpecificCharacterSet SOPClassUID ImageType Modality ConversionType BodyPartExamined Laterality
    ImageLaterality ViewPosition PatientOrientation InstanceNumber SeriesNumber BurnedInAnnotation
    SamplesPerPixel PhotometricInterpretation Rows Columns NumberOfFrames BitsAllocated BitsStored
    HighBit PixelRepresentation PlanarConfiguration ICCProfile LossyImageCompression
    LossyImageCompressionRatio LossyImageCompressionMethod RescaleSlope RescaleIntercept RescaleType
    PresentationLUTShape PixelSpacing ImagerPixelSpacing NominalScannedPixelSpacing
    PixelSpacingCalibrationType PixelAspectRatio ImagePositionPatient ImageOrientationPatient
    SliceThickness SpacingBetweenSlices SliceLocation FrameIncrementPointer FrameTime
    FrameTimeVector CineRate RecommendedDisplayFrameRate SharedFunctionalGroupsSequence
    PerFrameFunctionalGroupsSequence PixelMeasuresSequence PlanePositionSequence
    PlaneOrientationSequence
    """.split()  # noqa: SIM905
)
# Replaced, alike wherever they are met in one process, so that series stay together.
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
# Required of every object, but may be empty.
_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "StudyID", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
_SALT = secrets.token_hex(16)


def anonymise(picture: Picture) -> Picture:
    """The same pixels without EXIF and, of DICOM, with none but the listed elements."""
    dataset = picture.dataset
    if dataset is not None:
        with quiet():
            dataset = _dataset(dataset)
    return dataclasses.replace(picture, exif=None, dataset=dataset)


def _dataset(source: Dataset) -> Dataset:
    dataset = copy.deepcopy(source)
    _strip(dataset)
    for keyword in _UIDS:
        if source.get(keyword):
            uid = generate_uid(entropy_srcs=[_SALT, str(source.get(keyword))])
            setattr(dataset, keyword, uid)
    for keyword in _EMPTY:
        setattr(dataset, keyword, "")
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "lle_jax: elements kept by a list"
    # without an instance UID the derived object does not refer to the one it was made of
    dataset.file_meta = copy.deepcopy(source.file_meta)
    dataset.file_meta.pop("MediaStorageSOPInstanceUID", None)
    return dataset


def _strip(dataset: Dataset) -> None:
    for element in list(dataset):
        if element.keyword not in _KEPT:
            del dataset[element.tag]
        elif element.VR == "SQ":
            for item in element.value:
                _strip(item)
