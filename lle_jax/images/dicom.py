"""Reading DICOM: stored values -> what a viewer displays, in [0, 1].

Greyscale goes through the three steps of PS3.3 C.11 and PS3.4 N.2:

1. Modality LUT: the LUT Sequence, or Rescale Slope and Intercept.
2. VOI: the first VOI LUT, else the first window by its function (LINEAR, LINEAR_EXACT, SIGMOID).
   Without either, images of up to 8 bits show the whole range of their stored bits; images of
   more bits show the lowest to the highest value of the frames read, padding left out.
3. MONOCHROME1 is inverted, so that 0 is always black.

In multi-frame objects with functional groups, each frame goes by its own. Palette colour and YBR
become RGB; the range of colour is that of the stored bits.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom import pixels as codecs
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ParametricMapStorage,
    RLELossless,
    RTDoseStorage,
    SegmentationStorage,
)

from lle_jax.images.errors import ImageError, quiet
from lle_jax.images.picture import (
    Picture,
    check_frame,
    check_inflated,
    check_size,
    palette_to_unit,
    to_unit,
)

_GREY = ("MONOCHROME1", "MONOCHROME2")
# Transfer syntaxes that lose, or (JPEG 2000, HTJ2K) may lose; PS3.3 C.7.6.1.1.5.2
_LOSSY = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}
_MAY_BE_LOSSLESS = ("1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.203")
# Pixel data that are no picture: to process them as one would change what they state.
_NO_PICTURES = {
    SegmentationStorage: "a segmentation",
    RTDoseStorage: "a dose distribution",
    ParametricMapStorage: "a map of measured values",
}
_JPEG_LS = "1.2.840.10008.1.2.4.8"
_JPEG_2000 = ("1.2.840.10008.1.2.4.9", "1.2.840.10008.1.2.4.2")


def read(path: Path, frame: int | None, max_pixels: int) -> Picture:
    """Reads a DICOM image; see the module for what its pixels mean."""
    with quiet():
        _refuse_bomb(path, 32 * max_pixels)
        dataset = pydicom.dcmread(path)
        count = _check(dataset, frame, max_pixels)
        stored = _decode(dataset, frame)
        frames = stored if count > 1 and frame is None else stored[None]
        bits = 8 if dataset.BitsStored <= 8 else 16
        if dataset.PhotometricInterpretation in _GREY:
            numbers = range(count) if frame is None else [frame]
            pixels = display(frames, dataset, numbers)[..., None]
        elif dataset.PhotometricInterpretation == "PALETTE COLOR":
            colours = codecs.apply_color_lut(frames, dataset)
            if colours.dtype == np.uint16:
                pixels, bits = palette_to_unit(colours)
            else:
                pixels, bits = to_unit(colours, 255), 8
        else:
            largest = 2**dataset.BitsStored - 1
            if frames.min() < 0 or frames.max() > largest:
                raise ImageError("its colours do not fit their stored bits; export it again")
            pixels = to_unit(frames, largest)
        if pixels.shape[1:3] != (dataset.Rows, dataset.Columns) or pixels.shape[-1] not in (1, 3):
            raise ImageError("its pixel data do not fit its header; export the object again")
        _mark_lossy(dataset)
        del dataset.PixelData
        return Picture(
            pixels=pixels if len(pixels) > 1 else pixels[0],
            path=path,
            format="dicom",
            bits=bits,
            frame=frame if count > 1 else None,
            dataset=dataset,
        )


def _refuse_bomb(path: Path, limit: int) -> None:
    """Raises ImageError when a deflated data set would grow beyond `limit` bytes."""
    meta = pydicom.filereader.read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        # preamble, "DICM" and the 12 bytes of the group length come first
        start = 144 + meta.FileMetaInformationGroupLength
        check_inflated(path.read_bytes()[start:], limit, -zlib.MAX_WBITS)


def _check(dataset: Dataset, frame: int | None, max_pixels: int) -> int:
    """Returns the number of frames, or raises ImageError if there is no image to decode."""
    if "PixelData" not in dataset:
        raise ImageError("this DICOM object holds no image (PixelData); give an image object")
    if (kind := dataset.get("SOPClassUID")) in _NO_PICTURES:
        raise ImageError(
            f"this DICOM object is {_NO_PICTURES[kind]}, no picture; give an image object"
        )
    count = int(dataset.get("NumberOfFrames") or 1)
    check_frame(frame, count)
    check_size(dataset.Columns, dataset.Rows, count if frame is None else 1, max_pixels)
    return count


def _decode(dataset: Dataset, frame: int | None) -> np.ndarray:
    """Returns the stored values, YBR as RGB: `[H, W]`, `[H, W, 3]`, `[N, H, W]`, `[N, H, W, 3]`."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        try:
            decoder = codecs.get_decoder(syntax)
        except NotImplementedError:
            raise ImageError(
                f"{syntax.name} cannot be decoded; convert the object to an uncompressed one"
            ) from None
        if not decoder.is_available:
            raise ImageError(f"decoding {syntax.name} needs a further package: {_install(syntax)}")
    try:
        return codecs.pixel_array(dataset, index=frame, raw=False)
    except RuntimeError:
        if syntax == RLELossless:  # which pydicom itself decodes
            raise
        raise ImageError(
            f"its {syntax.name} data are damaged or need another decoder: {_install(syntax)}"
        ) from None


def _install(syntax: UID) -> str:
    """The command that installs a decoder for a transfer syntax."""
    if syntax.startswith(_JPEG_LS):
        return "pip install pyjpegls"
    codec = "openjpeg" if syntax.startswith(_JPEG_2000) else "libjpeg"
    return f"pip install pylibjpeg pylibjpeg-{codec}"


def _mark_lossy(dataset: Dataset) -> None:
    """Writes lossy compression, as far as the transfer syntax tells of it, into the data set."""
    syntax = dataset.file_meta.TransferSyntaxUID
    stated = dataset.get("LossyImageCompression")
    if syntax not in _LOSSY or stated == "01" or (stated == "00" and syntax in _MAY_BE_LOSSLESS):
        return
    samples = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel
    size = samples * int(dataset.get("NumberOfFrames") or 1) * dataset.BitsAllocated / 8
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionMethod = _LOSSY[syntax]
    dataset.LossyImageCompressionRatio = f"{size / len(dataset.PixelData):.2f}"


def display(stored: np.ndarray, dataset: Dataset, numbers: Sequence[int]) -> np.ndarray:
    """Greyscale values `[N, H, W]` of the frames `numbers` -> float32 display values in [0, 1]."""
    shown = np.empty(stored.shape, np.float32)
    ends = None
    for i, number in enumerate(numbers):
        values = _modality(stored[i], dataset, number)
        y = _voi_lut(values, dataset)
        if y is None:
            y = _window(values, _group(dataset, number, "FrameVOILUTSequence", "WindowCenter"))
        if y is None:
            low, high = ends = ends or _range(stored, dataset, numbers)
            y = (values - low) / (high - low)
        shown[i] = np.clip(y, 0, 1)
    if not np.isfinite(shown).all():
        raise ImageError("its rescale or window values are not finite; export the object again")
    return 1 - shown if dataset.PhotometricInterpretation == "MONOCHROME1" else shown


def _group(dataset: Dataset, number: int, sequence: str, keyword: str) -> Dataset:
    """Returns the data set with `keyword` for a frame: of its functional groups, else the whole."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for group in (*per_frame[number : number + 1], *shared[:1]):
        for item in group.get(sequence) or []:
            if keyword in item:
                return item
    return dataset


def _modality(stored: np.ndarray, dataset: Dataset, number: int) -> np.ndarray:
    """Stored values -> the modality's units (HU, ...), float64 (PS3.3 C.11.1)."""
    item = _group(dataset, number, "PixelValueTransformationSequence", "RescaleSlope")
    if item is dataset and dataset.get("ModalityLUTSequence"):
        return codecs.apply_modality_lut(stored, dataset).astype(np.float64)
    slope, intercept = (item.get(f"Rescale{name}") for name in ("Slope", "Intercept"))
    return stored * float(1 if slope is None else slope) + float(intercept or 0)


def _voi_lut(values: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    """Applies the first VOI LUT (PS3.3 C.11.2.1.1) -> about [0, 1], None where there is none."""
    if not dataset.get("VOILUTSequence"):
        return None
    indices = np.rint(np.clip(values, -(2**31), 2**31 - 1)).astype(np.int64)
    largest = 2 ** dataset.VOILUTSequence[0].LUTDescriptor[2] - 1
    return codecs.apply_voi(indices, dataset) / largest


def _window(values: np.ndarray, item: Dataset) -> np.ndarray | None:
    """Applies the first window (PS3.3 C.11.2.1.2 and .3) -> about [0, 1], None without a valid one.

    Of several windows, the first is the one to show first (C.11.2.1.2.1).
    """
    center, width = (np.ravel(item.get(f"Window{name}")) for name in ("Center", "Width"))
    if not center.size or not width.size or None in (center[0], width[0]):
        return None
    c, w = float(center[0]), float(width[0])
    function = item.get("VOILUTFunction") or "LINEAR"
    if not np.isfinite((c, w)).all() or w < (1 if function == "LINEAR" else 1e-9):
        return None
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - c) / w, -700, 700)))
    if function == "LINEAR_EXACT":
        return (values - c) / w + 0.5
    if w == 1:
        return (values > c - 0.5).astype(np.float64)
    return (values - (c - 0.5)) / (w - 1) + 0.5


def _range(stored: np.ndarray, dataset: Dataset, numbers: Sequence[int]) -> tuple[float, float]:
    """Lowest and highest value to show where there is neither LUT nor window."""
    if dataset.BitsStored > 8:
        padding = _stored_value(dataset, "PixelPaddingValue")
        limit = _stored_value(dataset, "PixelPaddingRangeLimit")
        low, high = np.inf, -np.inf
        for frame, number in zip(stored, numbers, strict=True):
            if padding is not None:
                other = padding if limit is None else limit
                inside = (frame >= min(padding, other)) & (frame <= max(padding, other))
                frame = frame[~inside]
            if frame.size:
                values = _modality(frame, dataset, number)
                low, high = min(low, values.min()), max(high, values.max())
        if low < high:
            return low, high
    signed = dataset.PixelRepresentation == 1
    first = -(2 ** (dataset.BitsStored - 1)) if signed else 0
    ends = np.array([first, first + 2**dataset.BitsStored - 1])
    values = _modality(ends, dataset, numbers[0])
    if values[0] == values[1]:
        raise ImageError("its rescale slope maps every value to one; export the object again")
    return min(values), max(values)


def _stored_value(dataset: Dataset, keyword: str) -> int | None:
    """An element of VR "US or SS", of which pydicom leaves some as bytes in implicit VR."""
    value = dataset.get(keyword)
    if isinstance(value, bytes):
        return int.from_bytes(value, "little", signed=dataset.PixelRepresentation == 1)
    return value
