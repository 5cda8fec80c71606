"""Segmentation of low-light images before and after enhancement.

    segmenter = segmenters.load("vessels")
    test = tasks.cases("../shared/data", "drive", "test")
    rows = tasks.evaluate_task(test, segmenter, degrade.load("fundus"), classical.METHODS)
    statistics.summarise(rows), tasks.recovered(rows)

A segmenter is any callable image `[H, W, C]` in [0, 1] -> probabilities `[H, W]`; those of
checkpoints/segmenters.py were trained on clean images only.
"""

import csv
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from lle_jax import data, degrade, images, jobs
from lle_jax.evaluation import measures, statistics

Segment = Callable[[np.ndarray], np.ndarray]
Enhance = Callable[[np.ndarray], np.ndarray]


class Case(NamedTuple):
    """A clean image with its truth.

    Attributes:
      name: short, one per image.
      image: `[H, W, C]` float32 in [0, 1].
      mask: `[H, W]` bool, the truth to segment.
      region: `[H, W]` bool, where it counts: the field of view.
      unit: the patient, or other group, that the image is of; "" for a unit of its own.
    """

    name: str
    image: np.ndarray
    mask: np.ndarray
    region: np.ndarray
    unit: str = ""


class Recovery(NamedTuple):
    """The fraction of the loss due to low light that a method recovers: 0 none, 1 all.

    `recovered` is mean (method - low) / mean (clean - low) over units (patients, or images), `low`
    and `high` bound it (95 % BCa bootstrap over units). NaN where the low light took nothing to
    give back; `low` and `high` also where the loss's own 95 % interval has 0 in it, as no ratio is
    bounded then.
    """

    method: str
    metric: str
    recovered: float
    low: float
    high: float
    images: int
    units: int


def cases(root: str | Path, set: str, role: str) -> Iterator[Case]:
    """Reads the images of one set and role that `root`/manifest.csv lists, one at a time.

    Its columns: path, set, role, pair_or_mask_path, where rows with the last are images, and
    optionally patient or group.
    A mask beside a folder `fov` has its field of view there, under the same name.

    Raises:
      ValueError: if there is none, a column is missing, or a mask has not its image's size;
        `images.ImageError` and OSError for files that cannot be read.
    """
    root = Path(root)
    manifest = root / "manifest.csv"
    with open(manifest, newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        columns = ("path", "set", "role", "pair_or_mask_path")
        if missing := [name for name in columns if name not in (rows.fieldnames or ())]:
            raise ValueError(f"{manifest}: no column {', '.join(missing)}; add it")
        listed = [
            (
                root / row["path"],
                root / row["pair_or_mask_path"],
                row.get("patient") or row.get("group") or "",
            )
            for row in rows
            if (row["set"], row["role"]) == (set, role) and row["pair_or_mask_path"]
        ]
    if not listed:
        raise ValueError(f"{manifest}: no image with a mask has set {set}, role {role}")
    for path, mask_path, unit in listed:
        image = images.read(path).pixels
        mask = _mask(mask_path, image)
        view = mask_path.parents[1] / "fov" / mask_path.name
        region = _mask(view, image) if view.exists() else np.ones_like(mask)
        yield Case(images.stem(path).name, image, mask, region, unit)


def _mask(path: Path, image: np.ndarray) -> np.ndarray:
    mask = images.read(path).pixels
    if mask.shape[:2] != image.shape[:2]:
        raise ValueError(f"{path}: {mask.shape[:2]} pixels for an image of {image.shape[:2]}")
    return mask[..., 0] > 0.5


def dice(segmented: np.ndarray, mask: np.ndarray, region: np.ndarray) -> float:
    """2 |segmented and mask| / (|segmented| + |mask|), inside the region. All arrays bool `[H, W]`.

    Dice, "Measures of the amount of ecologic association between species", Ecology 26(3), 1945.

    Raises:
      ValueError: if shapes differ, an array is not bool, or the mask is empty or everywhere in the
        region.
    """
    segmented, truth = _segmented_inside(segmented, mask, region)
    return float(2 * np.sum(segmented & truth) / (np.sum(segmented) + np.sum(truth)))


def sensitivity(segmented: np.ndarray, mask: np.ndarray, region: np.ndarray) -> float:
    """Computes the share of the mask that is segmented; arguments and errors as of `dice`."""
    segmented, truth = _segmented_inside(segmented, mask, region)
    return float(np.mean(segmented[truth]))


def specificity(segmented: np.ndarray, mask: np.ndarray, region: np.ndarray) -> float:
    """Computes the share of the rest that is not segmented; arguments and errors as of `dice`."""
    segmented, truth = _segmented_inside(segmented, mask, region)
    return float(1 - np.mean(segmented[~truth]))


def auc(probability: np.ndarray, mask: np.ndarray, region: np.ndarray) -> float:
    """Computes the area under the receiver operating characteristic: of the pixels in the region.

    The chance that a pixel of the mask has a higher probability than one outside, ties counting
    half: Mann and Whitney's U over the number of pairs (Hanley and McNeil, Radiology 143, 1982,
    doi:10.1148/radiology.143.1.7063747).

    Raises:
      ValueError: as `dice`, or if a probability is NaN.
    """
    values, truth = _inside(probability, mask, region)
    if np.isnan(values).any():
        raise ValueError("probability has NaN; expected numbers")
    _, rank, counts = np.unique(values, return_inverse=True, return_counts=True)
    positive = np.bincount(rank, weights=truth, minlength=len(counts))
    negative = counts - positive
    below = np.cumsum(negative) - negative
    wins = np.sum(positive * (below + negative / 2))
    return float(wins / (positive.sum() * negative.sum()))


def _segmented_inside(
    segmented: np.ndarray, mask: np.ndarray, region: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """As `_inside`, of a segmentation."""
    segmented = np.asarray(segmented)
    if segmented.dtype != bool:
        raise ValueError(f"the segmentation is {segmented.dtype}; expected bool, of a threshold")
    return _inside(segmented, mask, region)


def _inside(
    values: np.ndarray, mask: np.ndarray, region: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Values and truth of the region's pixels, `[n]`; checks everything the measures need."""
    values, mask, region = map(np.asarray, (values, mask, region))
    if not values.shape == mask.shape == region.shape:
        raise ValueError(
            f"prediction, mask and region have shapes {values.shape}, {mask.shape} and "
            f"{region.shape}; they must be equal"
        )
    if mask.dtype != bool or region.dtype != bool:
        raise ValueError(f"mask and region are {mask.dtype} and {region.dtype}; expected bool")
    truth = mask[region]
    if not truth.any() or truth.all():
        raise ValueError(
            f"the mask covers {truth.sum()} of the region's {truth.size} pixels; expected some, "
            "and not all"
        )
    return values[region], truth


def measure(
    probability: np.ndarray, mask: np.ndarray, region: np.ndarray, threshold: float
) -> dict[str, float]:
    """Dice, AUC, sensitivity and specificity of one image; raises as they do."""
    segmented = np.asarray(probability) > threshold
    return {
        "dice": dice(segmented, mask, region),
        "auc": auc(probability, mask, region),
        "sensitivity": sensitivity(segmented, mask, region),
        "specificity": specificity(segmented, mask, region),
    }


def evaluate_task(
    cases: Iterable[Case],
    segmenter: Segment,
    preset: degrade.Preset,
    methods: Mapping[str, Enhance],
    *,
    threshold: float | None = None,
    realisations: int = 2,
    seed: int = 0,
) -> list[statistics.Row]:
    """Segments clean images, the same in low light, and the same after each method.

    Args:
      cases: test images with their truth.
      segmenter: image -> probabilities.
      preset: of the low light.
      methods: name -> function `[H, W, C] -> [H, W, C]`; "clean" and "low" are added.
      threshold: probabilities above it count as segmented; default: the segmenter's own.
      realisations: low-light realisations of each image.
      seed: of the realisations; with an image's content it decides each, whatever the other images.

    Returns:
      rows of the metrics of `measure` for clean, low and each method, image and realisation; and,
      beside them, of the dark spots and lines that each adds (`measures.INVENTION`), since a
      segmenter can be pleased by structures that do not exist.

    Raises:
      ValueError: for a method called clean or low, a segmenter without threshold, a mask that is
        empty or of another shape; the message names image and method.
    """
    if reserved := {"clean", "low"} & methods.keys():
        raise ValueError(f"methods has {', '.join(sorted(reserved))}, which are added; rename it")
    if threshold is None:
        threshold = getattr(segmenter, "threshold", None)
        if threshold is None:
            raise ValueError("threshold is missing, and the segmenter has none of its own")
    if realisations < 1:
        raise ValueError(f"realisations is {realisations}; expected at least 1")
    rows = []
    listed = list(cases)
    with jobs.progress("task", len(listed), "image") as bar:
        for case in listed:
            clean = _measured(case, "clean", case.image, segmenter, threshold)
            for number, low in enumerate(_degrade(case.image, preset, realisations, seed)):
                outputs = {"low": low} | {name: run(low) for name, run in methods.items()}
                values = {"clean": clean} | {
                    name: _measured(case, name, image, segmenter, threshold)
                    for name, image in outputs.items()
                }
                rows += [
                    statistics.Row(case.name, method, metric, value, str(number), case.unit)
                    for method, measured in values.items()
                    for metric, value in measured.items()
                ]
            bar.update()
    return rows


def _degrade(
    image: np.ndarray, preset: degrade.Preset, realisations: int, seed: int
) -> Iterator[np.ndarray]:
    digest = hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
    image_key = data.image_key(seed, digest)
    for number in range(realisations):
        key = jax.random.fold_in(image_key, number)
        low, _ = degrade.sample_and_apply(key, preset, jnp.asarray(image))
        yield np.asarray(low)


def _measured(
    case: Case, method: str, image: np.ndarray, segmenter: Segment, threshold: float
) -> dict[str, float]:
    try:
        probability = segmenter(np.clip(image, 0, 1).astype(np.float32))
        measured = measure(probability, case.mask, case.region, threshold)
        return measured | measures.measure_invention(image, case.image)
    except ValueError as error:
        raise ValueError(f"image {case.name!r}, method {method!r}: {error}") from None


def recovered(rows: Iterable[statistics.Row], *, seed: int = 0) -> list[Recovery]:
    """Computes (method - low) / (clean - low) of means over images, by method and metric.

    A ratio per image would explode where the low light hardly matters, so the means are divided.

    Args:
      rows: of `evaluate_task`.
      seed: of the bootstrap.

    Raises:
      ValueError: if there are no values of clean or low, or as of `statistics.per_unit`.
    """
    # by name, as the bootstrap depends on the order of the images
    table = statistics.per_unit(sorted(rows, key=lambda row: row.image))
    result = []
    for metric, (methods, count) in table.items():
        if missing := {"clean", "low"} - methods.keys():
            raise ValueError(f"{metric} has no values of {', '.join(sorted(missing))}")
        loss = methods["clean"] - methods["low"]
        for method, values in methods.items():
            if method not in ("clean", "low"):
                estimate = _ratio(values - methods["low"], loss, seed)
                result.append(Recovery(method, metric, *estimate, count, len(loss)))
    return result


def _ratio(gain: np.ndarray, loss: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Ratio of the means and its interval; NaN where the mean loss is not above 0."""
    if not np.mean(loss) > 0:
        return math.nan, math.nan, math.nan
    ratio = float(np.mean(gain) / np.mean(loss))
    if len(loss) < 2 or np.array_equal(gain, ratio * loss):
        return ratio, *((math.nan,) * 2 if len(loss) < 2 else (ratio,) * 2)
    if not statistics.interval(loss, seed=seed)[0] > 0:
        return ratio, math.nan, math.nan  # resamples would divide by about 0
    ends = scipy.stats.bootstrap(
        (gain, loss),
        lambda gain, loss, axis: np.mean(gain, axis) / np.mean(loss, axis),
        paired=True,
        n_resamples=statistics.RESAMPLES,
        batch=1000,  # bounds the memory
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return ratio, float(ends.low), float(ends.high)
