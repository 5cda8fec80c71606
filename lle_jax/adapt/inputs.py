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
from lle_jax.data import splits
from lle_jax.evaluation import statistics
from lle_jax.fit import preset
from lle_jax.images.files import refusal

MIN_IMAGES = 30  # of each kind
# Fewer images than this cannot reach p < 0.05 in the signed-rank test.
MIN_TEST, MAX_TEST = statistics.MIN_IMAGES, 40
MIN_VALIDATION = 3
_SHARE = 10  # a tenth each to test and to validate, as of `data.load`
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
      dark, clean: files and folders.
      trained_on: SHA-256 of images that the model to start from was trained or validated on. They
        are not held back, since that model would be compared on images it knows.

    Raises:
      ValueError: for fewer than `MIN_IMAGES` of a kind, an image of both kinds, or too few clean
        images that the model does not know.
    """
    usable, rejected = zip(*(_usable(kind) for kind in (dark, clean)), strict=True)
    for name, entries, unusable in zip(("dark", "clean"), usable, rejected, strict=True):
        if len(entries) < MIN_IMAGES:
            reason = f", {len(unusable)} skipped ({unusable[0][1]})" if unusable else ""
            raise ValueError(
                f"{len(entries)} {name} images{reason}; at least {MIN_IMAGES} different ones of at "
                f"least {preset.MIN_SIDE} pixels a side are needed"
            )
    paths = {entry.digest: path for path, entry in usable[0]}
    for path, entry in usable[1]:
        if entry.digest in paths:
            raise ValueError(f"{path}: the same image as the dark {paths[entry.digest]}")
    roles = divide([entry for _, entry in usable[1]], trained_on)
    training = {entry.digest for entry in roles["train"]}
    by_role = splits.splits_of(roles, rejected[1])
    return Inputs(
        middle(splits.images_of([entry for _, entry in usable[0]])),
        tuple(path for path, _ in usable[0]),
        dataclasses.replace(by_role, test=middle(by_role.test)),
        tuple(path for path, entry in usable[1] if entry.digest in training),
        (*rejected[0], *rejected[1]),
    )


def _usable(
    given: Iterable[Path],
) -> tuple[list[tuple[Path, splits.Entry]], list[tuple[str, str]]]:
    """Returns the images that can be used, each content once, and (path, reason) of the others."""
    found = images.scan(given)
    paths = [path.absolute() for path in found.images]
    root = Path(os.path.commonpath([path.parent for path in paths]))
    entries, rejected = splits.examine_all(root, root, paths)
    rejected += [(str(path), refusal(path)) for path in found.others]
    small = [path for path, entry in entries if min(entry.size) < preset.MIN_SIDE]
    reason = f"smaller than {preset.MIN_SIDE} pixels"
    rejected += [(str(path), f"{path}: {reason}") for path in small]
    return [(path, entry) for path, entry in entries if path not in small], rejected


def divide(
    entries: Sequence[splits.Entry], trained_on: Collection[str]
) -> dict[str, list[splits.Entry]]:
    """Gives each image a role by its content, so that renaming files moves none to another role.

    Raises:
      ValueError: if too few are unknown to the model to start from.
    """
    share = math.ceil(len(entries) / _SHARE)
    test, validation = min(max(share, MIN_TEST), MAX_TEST), max(share, MIN_VALIDATION)
    ordered = sorted(entries, key=lambda entry: (entry.digest in trained_on, entry.digest))
    unknown = sum(entry.digest not in trained_on for entry in entries)
    if unknown < test + validation:
        raise ValueError(
            f"the model was trained on {len(entries) - unknown} of the {len(entries)} clean "
            f"images; at least {test + validation} others are needed to validate and to compare on"
        )
    return {
        "test": ordered[:test],
        "validation": ordered[test : test + validation],
        "train": ordered[test + validation :],
    }


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
