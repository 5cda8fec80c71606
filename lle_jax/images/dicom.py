"""Reading DICOM: stored values -> what a viewer displays, in [0, 1].

Greyscale goes through the steps of `lle_jax.images.dicom_display`. Palette colour and YBR become
RGB; the range of colour is that of the stored bits.
"""

import contextlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
from pydicom import pixels as codecs
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ParametricMapStorage,
    RLELossless,
    RTDoseStorage,
    SegmentationStorage,
    UID_dictionary,
)

from lle_jax.images import dicom_display, extra
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
_COLOURS = (
    *_GREY, "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT",
)  # fmt: skip
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
    UID("1.2.840.10008.5.1.4.1.1.66.7"): "a segmentation",  # label map
    UID("1.2.840.10008.5.1.4.1.1.66.8"): "a segmentation",  # height map
    UID("1.2.840.10008.5.1.4.1.1.81.1"): "a map of measured values",  # ophthalmic thickness
    UID("1.2.840.10008.5.1.4.1.1.82.1"): "a map of measured values",  # corneal topography
}
_NEEDED = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)


def read(path: Path, frame: int | None, max_pixels: int) -> Picture:
    """Reads a DICOM image; see the module for what its pixels mean."""
    with quiet():
        with _File(io.FileIO(path), 32 * max_pixels) as file:
            dataset = pydicom.dcmread(file, force=True)  # `read` has seen that it is DICOM
        with naming_elements(dataset):
            return _read(dataset, path, frame, max_pixels)


def _read(dataset: Dataset, path: Path, frame: int | None, max_pixels: int) -> Picture:
    """The same for a data set of the file `path`."""
    count = _check(dataset, frame, max_pixels)
    stored = _decode(dataset, frame)
    frames = stored if count > 1 and frame is None else stored[None]
    bits = 8 if dataset.BitsStored <= 8 else 16
    if dataset.PhotometricInterpretation in _GREY:
        numbers = range(count) if frame is None else [frame]
        pixels = dicom_display.display(frames, dataset, numbers)[..., None]
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
        frame_rate=_frame_rate(dataset) if count > 1 else None,
        dataset=dataset,
    )


def _frame_rate(dataset: Dataset) -> float | None:
    """Frames per second, of the time between frames (ms) or of the rate to display them at."""
    intervals = list(_numbers(dataset, "FrameTime")[:1])
    if len(times := _numbers(dataset, "FrameTimeVector")[1:]):  # before the first frame it is 0
        intervals.append(np.median(times))
    rates = [1000 / interval for interval in intervals if 1 <= interval <= 100_000]
    for keyword in ("RecommendedDisplayFrameRate", "CineRate"):
        rates += [rate for rate in _numbers(dataset, keyword)[:1] if 0.01 <= rate <= 1000]
    return float(rates[0]) if rates else None


def _numbers(dataset: Dataset, keyword: str) -> np.ndarray:
    """The values of an element that can be done without: none where it is empty or no number."""
    try:
        return np.ravel(dataset.get(keyword) or []).astype(float)
    except (TypeError, ValueError):
        return np.empty(0)


class _File(io.BufferedReader):
    """A file that refuses to be read whole where it would inflate beyond `limit` bytes.

    Of a deflated data set pydicom takes all that follows the file meta information at once, and
    inflates it. Where that begins is not always where the header says.
    """

    def __init__(self, raw: io.FileIO, limit: int):
        super().__init__(raw)
        self._limit = limit

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if size is None or size < 0:
            check_inflated(data, self._limit, -zlib.MAX_WBITS)
        return data


@contextlib.contextmanager
def naming_elements(dataset: Dataset) -> Iterator[None]:
    """Turns a failure over an element whose value cannot be parsed into an ImageError naming it."""
    try:
        yield
    except ImageError:
        raise
    except Exception:
        if (tag := _unreadable(dataset)) is not None:
            raise ImageError(
                f"its {keyword_for_tag(tag) or tag} is not a value of its kind; correct it, or "
                "export the object again"
            ) from None
        raise


def _unreadable(dataset: Dataset) -> BaseTag | None:
    """Finds the first element whose value is not what its VR says, also in sequences."""
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]  # pydicom parses a value when it is first asked for
            if element.VR in ("DS", "IS") and element.VM:
                np.ravel(element.value).astype(float)
        except Exception:
            return tag
        for item in element.value if element.VR == "SQ" else ():
            if (inner := _unreadable(item)) is not None:
                return inner
    return None


def _check(dataset: Dataset, frame: int | None, max_pixels: int) -> int:
    """Returns the number of frames, or raises ImageError if there is no image to decode."""
    _check_class(dataset)
    for keyword in _NEEDED:
        if dataset.get(keyword) is None:
            raise ImageError(f"its header lacks {keyword}; export the object again")
    _set_syntax(dataset)
    colours = dataset.PhotometricInterpretation
    if colours not in _COLOURS:
        raise ImageError(
            f"its photometric interpretation is none of {' '.join(_COLOURS)}; convert it to RGB"
        )
    samples = 1 if colours in (*_GREY, "PALETTE COLOR") else 3
    if dataset.SamplesPerPixel != samples:
        raise ImageError(
            f"{colours} has {samples} samples per pixel, not {dataset.SamplesPerPixel}; export the "
            "object again"
        )
    if colours in _GREY and dataset.get("PixelPresentation") in ("COLOR", "MIXED"):
        raise ImageError(
            "it shows some of its values in colours (Supplemental Palette Color LUT); export it "
            "in RGB, or without them"
        )
    if dataset.BitsAllocated not in (1, 8, 16, 32):
        raise ImageError(f"{dataset.BitsAllocated} bits allocated are not read; save it with 16")
    shift = _shift(dataset)
    if not 0 < dataset.BitsStored <= dataset.BitsAllocated - shift or shift < 0:
        raise ImageError(
            "its bits stored do not fit into the bits allocated; export the object again"
        )
    if shift and _encapsulated(dataset) and dataset.file_meta.TransferSyntaxUID != RLELossless:
        raise ImageError("its High Bit is not Bits Stored - 1; convert it to an uncompressed one")
    count = int(dataset.get("NumberOfFrames") or 1)
    check_frame(frame, count)
    check_size(dataset.Columns, dataset.Rows, count if frame is None else 1, max_pixels)
    return count


def _check_class(dataset: Dataset) -> None:
    """Raises ImageError for an object that is no picture."""
    kind = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    name = f" ({kind.name})" if kind in UID_dictionary else ""
    if kind in _NO_PICTURES:
        raise ImageError(
            f"this DICOM object{name} is {_NO_PICTURES[kind]}, no picture; give an image object"
        )
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise ImageError(
            f"this DICOM object{name} holds measured values in floating point, no picture; give "
            "an image object"
        )
    if "PixelData" not in dataset:
        raise ImageError(
            f"this DICOM object{name} holds no image (PixelData); give an image object"
        )


def _set_syntax(dataset: Dataset) -> None:
    """Writes the transfer syntax that pydicom has guessed into a data set that states none."""
    if dataset.file_meta.get("TransferSyntaxUID"):
        return
    if dataset["PixelData"].is_undefined_length:
        raise ImageError(
            "its pixels are compressed and no Transfer Syntax UID says how; export the object again"
        )
    implicit, little = dataset.original_encoding
    dataset.file_meta.TransferSyntaxUID = (
        ImplicitVRLittleEndian
        if implicit
        else ExplicitVRLittleEndian
        if little
        else ExplicitVRBigEndian
    )


def _encapsulated(dataset: Dataset) -> bool:
    return dataset.file_meta.TransferSyntaxUID.is_encapsulated


def _shift(dataset: Dataset) -> int:
    """Bits below the stored ones, which older objects have (PS3.5 8.1.1 no longer allows them)."""
    high = dataset.get("HighBit")
    return 0 if high is None else int(high) + 1 - dataset.BitsStored


def _decode(dataset: Dataset, frame: int | None) -> np.ndarray:
    """Returns the stored values, YBR as RGB: `[H, W]`, `[H, W, 3]`, `[N, H, W]`, `[N, H, W, 3]`."""
    shift, stored = _shift(dataset), dataset.BitsStored
    if not shift:
        return _decode_low(dataset, frame)
    dataset.BitsStored = stored + shift  # pydicom looks for them in the lowest bits
    try:
        return _decode_low(dataset, frame) >> shift
    finally:
        dataset.BitsStored = stored


def _decode_low(dataset: Dataset, frame: int | None) -> np.ndarray:
    """The same for values in the lowest of the allocated bits."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        try:
            decoder = codecs.get_decoder(syntax)
        except NotImplementedError:
            raise ImageError(
                f"{syntax.name} cannot be decoded; convert the object to an uncompressed one"
            ) from None
        if not decoder.is_available:
            raise ImageError(f"decoding {syntax.name} needs a further package: {extra.INSTALL}")
    try:
        return codecs.pixel_array(dataset, index=frame, raw=False)
    except RuntimeError:
        if syntax == RLELossless:  # which pydicom itself decodes
            raise
        remedy = "convert it to uncompressed" if extra.has("pylibjpeg") else extra.INSTALL
        raise ImageError(
            f"its {syntax.name} data are damaged or need another decoder: {remedy}"
        ) from None


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
