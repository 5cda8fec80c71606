"""Where images come from, split into train, validation and test by image.

Clean images: the embedded `samples`, any folder of well-lit images, and a manifest, which also says
of what modality each image is. Measured pairs of a low-light and a clean image: see `data.pairs`.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Collection
from pathlib import Path

from lle_jax import images
from lle_jax.data import manifest, roles, samples
from lle_jax.data.manifest import MODALITIES, ROLES, DataError
from lle_jax.data.pairs import load as load_pairs
from lle_jax.data.pairs import refuse
from lle_jax.data.roles import NO_FOLDS, Folds
from lle_jax.data.splits import (
    Entry,
    Splits,
    check_disjoint,
    examine_all,
    join,
    join_splits,
    splits_of,
)
from lle_jax.images.files import refusal


def load(
    source: str,
    *,
    crop: int,
    pairs: str = "",
    pairs_weight: float = 1.0,
    folds: Folds = NO_FOLDS,
    needed: Collection[str] = ROLES,
) -> Splits:
    """Loads the images that `config.data.source` or the pairs that `config.data.pairs` names.

    Args:
      source: "samples", a folder, a manifest (a CSV file), or several of these, separated by
        commas. A folder's sub-folders named train, validation (or val) and test give the roles
        where there is a training and another one; otherwise each image's content decides its role
        (a tenth test, a tenth validation, at least one each), so that renaming files moves none to
        another role. A manifest has the columns path, modality, role and patient (see
        `data.manifest`); rows of other modalities than MODALITIES, such as masks, are rejected.
        Without a column of roles each patient's images decide its role by their content.
      crop: training and validation images must be at least this high and wide.
      pairs: measured pairs in place of the clean images, see `pairs.load`.
      pairs_weight: below 1, clean images of `source` are added to the training pairs; validation
        and test stay the pairs'.
      folds: divides a source without roles for a cross-validation instead.
      needed: those of ROLES that must have an image.

    Raises:
      DataError: if the folder is missing, empty or without readable images, if a needed role
        would have no image, if an image or a patient is in two roles, if an image is smaller than
        the crop, or if the images of a pair do not fit together.
    """
    if not pairs:
        return _load_clean(source, crop, folds, needed)
    measured = _checked(pairs, load_pairs(pairs, folds), crop, needed)
    if pairs_weight == 1:
        return measured
    clean = _load_clean(source, crop, NO_FOLDS, needed)
    mixed = dataclasses.replace(
        measured,
        train=join(measured.train, clean.train),
        rejected=measured.rejected + clean.rejected,
    )
    check_disjoint(f"{pairs} and {source}", mixed)
    return mixed


def _load_clean(source: str, crop: int, folds: Folds, needed: Collection[str]) -> Splits:
    if source and Path(source).exists():
        sources = [source]
    elif not all(map(str.strip, sources := source.split(","))):
        # The path of no name is the current directory.
        raise DataError(
            f"data.source has an empty name ({source!r}); remove a comma, or set it to a folder, a "
            "manifest or samples"
        )
    splits = functools.reduce(join_splits, (_load(one, folds) for one in sources))
    return _checked(source, splits, crop, needed)


def _checked(source: str, splits: Splits, crop: int, needed: Collection[str]) -> Splits:
    """Returns the images if they can be used as they are; raises DataError where not."""
    check_disjoint(source, splits)
    for role in ROLES:
        if role in needed and not len(getattr(splits, role)):
            raise DataError(
                f"{source}: no image is left for {role}; add images or make sub-folders "
                "train, validation and test"
            )
    for part in (splits.train, splits.validation):
        for name, size in zip(part.names, part.sizes, strict=True):
            if min(size) < crop:
                raise DataError(
                    f"{name} is {size[0]}x{size[1]} pixels, smaller than the crop of {crop}; "
                    f"remove it or set --config.data.crop={min(size)}"
                )
    return splits


def _load(source: str, folds: Folds) -> Splits:
    if source == "samples":
        return _load_samples(folds)
    load = _load_manifest if source.casefold().endswith(".csv") else _load_folder
    return load(Path(source), folds)


def _load_samples(folds: Folds) -> Splits:
    if folds.number:
        raise DataError("samples: these images have roles; folds need a folder or a manifest")
    entries: dict[str, list[Entry]] = {role: [] for role in ROLES}
    for package, name, modality, role in samples.SAMPLES:
        image = samples.load(package, name)
        digest = hashlib.sha256(image.tobytes()).hexdigest()
        loader = functools.partial(samples.load, package, name)
        short = name.replace(".dcm", "").replace(":", "_")
        modality = modality if modality in MODALITIES else ""
        entries[role].append(Entry(short, digest, image.shape[:2], loader, modality))
    return splits_of(entries)


def _load_folder(root: Path, folds: Folds) -> Splits:
    if not root.is_dir():
        raise DataError(
            f"{root}: no such folder; set --config.data.source to a folder of images or to samples"
        )
    try:
        paths, others = images.scan(root)
    except images.ImageError as error:
        raise DataError(str(error)) from None
    refuse(root, paths)
    usable, rejected = examine_all(root, root, paths)
    rejected += [(str(path), refusal(path)) for path in others]
    groups = {str(path): [entry] for path, entry in usable}
    given, outside = roles.by_folder(root, [path for path, _ in usable])
    for path, _ in outside:
        del groups[path]
    parts = roles.fill(str(root), roles.assign(str(root), groups, given, folds))
    return splits_of(parts, [*outside, *rejected])


def _load_manifest(path: Path, folds: Folds) -> Splits:
    rows, skipped = manifest.read(path)
    if any(row.low for row in rows):
        raise DataError(
            f"{path}: it lists pairs, in the column low_path; give it as --config.data.pairs"
        )
    listed = {row.image: row for row in rows}
    usable, rejected = examine_all(path, path.parent, list(listed))
    entries = {
        image: dataclasses.replace(
            entry, modality=listed[image].modality, group=listed[image].group
        )
        for image, entry in usable
    }
    groups, given = roles.by_rows([(listed[image], entry) for image, entry in entries.items()])
    return splits_of(roles.assign(str(path), groups, given, folds), [*skipped, *rejected])
