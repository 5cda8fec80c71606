"""The images of an adaptation: examined, counted, and divided by content."""

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lle_jax import data, images
from lle_jax.data import manifest, splits
from lle_jax.evaluation import statistics
from lle_jax.fit import preset
from lle_jax.images.files import refusal

MIN_IMAGES = 30  # of each kind
# Fewer patients than this, or images where those are unknown, cannot reach p < 0.05 in the
# signed-rank test.
MIN_TEST, MAX_TEST = statistics.MIN_UNITS, 40
MIN_VALIDATION = 3
# A sixth to compare on, so that one image that loses decides nothing; a tenth to validate.
_SHARES = {"test": 6, "validation": 10}
MAX_SIDE = 512  # of the images that are compared, whose middle is taken: it bounds the time


class Inputs(NamedTuple):
    """The images of an adaptation.

    Attributes:
      dark: the low-light images, whose middle is decoded.
      dark_paths: their files.
      clean: the well-lit ones; the middle of each test image is decoded.
      train_paths: files of the training images among them.
      rejected: (path, reason) of files that are not used.
    """

    dark: data.Images
    dark_paths: tuple[Path, ...]
    clean: data.Splits
    train_paths: tuple[Path, ...]
    rejected: tuple[tuple[str, str], ...]


def read(dark: Sequence[Path], clean: Sequence[Path], trained_on: Collection[str]) -> Inputs:
    """Finds the images and divides the clean ones.

    Args:
      dark: files and folders.
      clean: the same, or a manifest (a CSV file), whose patients or groups are not divided.
      trained_on: SHA-256 of images that the model to start from was trained or validated on. They
        are not held back, since that model would be compared on images it knows.

    Raises:
      ValueError: for fewer than `MIN_IMAGES` of a kind, an image of both kinds, or too few clean
        images that the model does not know.
    """
    dark_images, rejected_dark = _usable(*_found(dark))
    is_manifest = len(clean) == 1 and clean[0].suffix.lower() == ".csv"
    if is_manifest:
        rows, skipped = manifest.read(clean[0])
        groups = {row.image.absolute(): row.group for row in rows if row.group}
        found, rejected_clean = _usable([row.image.absolute() for row in rows], skipped)
        clean_images = {
            path: dataclasses.replace(entry, group=groups.get(path, ""))
            for path, entry in found.items()
        }
    else:
        clean_images, rejected_clean = _usable(*_found(clean))
    for name, usable, unusable in (
        ("dark", dark_images, rejected_dark),
        ("clean", clean_images, rejected_clean),
    ):
        if len(usable) < MIN_IMAGES:
            reason = f", {len(unusable)} skipped ({unusable[0][1]})" if unusable else ""
            raise ValueError(
                f"{len(usable)} {name} images{reason}; at least {MIN_IMAGES} different ones of at "
                f"least {preset.MIN_SIDE} pixels a side are needed"
            )
    paths = {entry.digest: path for path, entry in dark_images.items()}
    for path, entry in clean_images.items():
        if entry.digest in paths:
            raise ValueError(f"{path}: the same image as the dark {paths[entry.digest]}")
    units: dict[str, list[splits.Entry]] = {}
    for path, entry in clean_images.items():
        unit = f"group {entry.group}" if entry.group else str(path)
        units.setdefault(unit, []).append(entry)
    by_role = splits.splits_of(divide(list(units.values()), trained_on))
    training = set(by_role.train.hashes)
    return Inputs(
        middle(splits.images_of(list(dark_images.values()))),
        tuple(dark_images),
        dataclasses.replace(by_role, test=middle(by_role.test)),
        tuple(path for path, entry in clean_images.items() if entry.digest in training),
        (*rejected_dark, *rejected_clean),
    )


def _found(given: Iterable[Path]) -> tuple[list[Path], list[tuple[str, str]]]:
    """Lists image files, and (path, reason) of pictures of other formats."""
    found = images.scan(given)
    others = [(str(path), refusal(path)) for path in found.others]
    return [path.absolute() for path in found.images], others


def _usable(
    paths: Sequence[Path], rejected: Sequence[tuple[str, str]]
) -> tuple[dict[Path, splits.Entry], list[tuple[str, str]]]:
    """Returns the images that can be used, each content once, and (path, reason) of the others."""
    root = Path(os.path.commonpath([path.parent for path in paths]))
    entries, unusable = splits.examine_all(root, root, paths)
    large = {path: entry for path, entry in entries if min(entry.size) >= preset.MIN_SIDE}
    small = [path for path, _ in entries if path not in large]
    reason = f"smaller than {preset.MIN_SIDE} pixels"
    return large, [*rejected, *unusable, *((str(p), f"{p}: {reason}") for p in small)]


def divide(
    units: Sequence[Sequence[splits.Entry]], trained_on: Collection[str]
) -> dict[str, list[splits.Entry]]:
    """Gives images roles by their content, so that renaming files moves none to another role.

    Args:
      units: images that must have one role, such as all of one patient.
      trained_on: SHA-256 of images whose units are for training.

    Raises:
      ValueError: if too few are left to hold back: images, or units to compare on.
    """
    count = sum(map(len, units))
    wanted = {
        role: min(max(math.ceil(count / _SHARES[role]), least), MAX_TEST)
        for role, least in (("test", MIN_TEST), ("validation", MIN_VALIDATION))
    }
    known = [unit for unit in units if any(entry.digest in trained_on for entry in unit)]
    # Small units first: a patient of many images is for training where possible.
    unknown = sorted(
        (unit for unit in units if not any(entry.digest in trained_on for entry in unit)),
        key=lambda unit: (len(unit) > wanted["validation"], min(e.digest for e in unit)),
    )
    roles = {role: list[splits.Entry]() for role in data.ROLES}
    for role, least in (("test", MIN_TEST), ("validation", 1)):
        taken = 0
        while unknown and (taken < least or len(roles[role]) < wanted[role]):
            roles[role] += unknown.pop(0)
            taken += 1
    for unit in (*known, *unknown):
        roles["train"] += unit
    if len(roles["validation"]) < MIN_VALIDATION or not roles["train"]:
        seen = sum(map(len, known))
        trained = f", {seen} of them known to the model" if seen else ""
        grouped, of_whom = "", ""
        if len(units) < count:
            grouped, of_whom = f" of {len(units)} patients", f" of {MIN_TEST} patients"
        raise ValueError(
            f"{count} clean images{grouped}{trained}; unknown ones are needed to compare on (at "
            f"least {wanted['test']}{of_whom}), to validate (at least {wanted['validation']}), "
            "and others to train on"
        )
    return roles


def middle(pictures: data.Images, side: int = MAX_SIDE) -> data.Images:
    """Returns the images cut to their middle, at most `side` pixels high and wide."""
    return dataclasses.replace(
        pictures,
        sizes=tuple((min(h, side), min(w, side)) for h, w in pictures.sizes),
        loaders=tuple(functools.partial(_middle, load, side) for load in pictures.loaders),
    )


def _middle(load: Callable[[], np.ndarray], side: int) -> np.ndarray:
    image = load()
    top, left = (max(whole - side, 0) // 16 * 8 for whole in image.shape[:2])
    return image[top : top + side, left : left + side]
