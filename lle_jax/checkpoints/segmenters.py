"""Segmenters that find what a clinician looks for; `vessels` and `polyps` are bundled.

A segmenter is a small U-Net trained by tools/train_tasks.py on clean images only, so that what it
misses in a low-light image is what the light hid. It measures images and is no medical device;
docs/tasks.md says how good it is. It is stored as a release (`checkpoints.release`), whose record
has the threshold.

The bundled ones are evaluation segmenters: nothing may be trained by them.
"""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import nnx

from lle_jax import checks
from lle_jax.checkpoints import release
from lle_jax.models import segmenter

FOLDER = Path(__file__).resolve().parents[1] / "segmenters"


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """A callable `[H, W, C]` in [0, 1] -> probabilities `[H, W]`, float32.

    Attributes:
      name: of its folder.
      threshold: probabilities above it count as segmented; chosen on validation images.
      record: how it was trained.
      digest: SHA-256 of its parameters' file.
      apply: the same, to be traced.
    """

    name: str
    threshold: float
    record: dict[str, Any]
    digest: str
    apply: Callable[[jax.Array], jax.Array]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        checked = checks.image(image)
        if checked.ndim != 3:
            raise ValueError(f"image has shape {checked.shape}; expected [H, W, C]")
        return np.asarray(self.apply(checked))


def bundled() -> list[str]:
    """Returns the names of the bundled segmenters."""
    return sorted(path.parent.name for path in FOLDER.glob("*/release.json"))


def load(name_or_folder: str | os.PathLike) -> Segmenter:
    """Loads a bundled segmenter by its name, or one from a folder.

    Raises:
      ReleaseError: if there is none, or something about it is wrong.
    """
    text = os.fspath(name_or_folder)
    folder = FOLDER / text if text in bundled() else Path(text)
    if not folder.is_dir():
        raise release.ReleaseError(
            f"{text}: no such folder; bundled segmenters: {', '.join(bundled())}"
        )
    config, params = release.load(folder, shapes=segmenter.shapes)
    record = release.record(folder)
    threshold = record.get("threshold")
    if not isinstance(threshold, float | int) or not 0 <= threshold <= 1:
        raise release.ReleaseError(
            f"{folder / 'config.json'}: the record of a segmenter needs a threshold in [0, 1]"
        )
    graph, _ = segmenter.declare(config)
    digest = release.digests(folder)["params.npz"]
    apply = segmenter.probabilities(graph, params)
    return Segmenter(folder.resolve().name, float(threshold), record, digest, apply)


def save(folder: Path, network: dict[str, Any], params: nnx.State, record: dict[str, Any]) -> None:
    """Writes a segmenter as a release, its parameters in float16.

    Raises:
      ReleaseError: if a parameter is too large for float16.
    """
    config = ml_collections.ConfigDict({"name": "segmenter", **network})
    release.save(folder, config, params, record, dtype="float16", shapes=segmenter.shapes)


def is_bundled(loaded: Segmenter) -> bool:
    """Tells an evaluation segmenter, under whatever name, by its parameters."""
    return loaded.digest in {release.digests(FOLDER / name)["params.npz"] for name in bundled()}
