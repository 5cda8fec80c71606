"""Greyscale DICOM: stored values -> what a viewer displays, in [0, 1].

The three steps of PS3.3 C.11 and PS3.4 N.2:

1. Modality LUT: the LUT Sequence, or Rescale Slope and Intercept.
2. VOI: the first VOI LUT, else the first window by its function (LINEAR, LINEAR_EXACT, SIGMOID).
   Without either, images of up to 8 bits show the whole range of their stored bits; images of
   more bits show the lowest to the highest value of the frames read, padding left out.
3. MONOCHROME1 is inverted, so that 0 is always black.

In multi-frame objects with functional groups, each frame goes by its own.
"""

from collections.abc import Sequence

import numpy as np
from pydicom import pixels as codecs
from pydicom.dataset import Dataset

from lle_jax.images.errors import ImageError


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
