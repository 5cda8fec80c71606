"""Provenance of parameters: what they are, and on which images they were trained."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Provenance(NamedTuple):
    """Where the parameters of a model come from.

    Attributes:
      record: what they are: kind, the run's step or the release's SHA-256.
      images: SHA-256 of the images by role, "train" and "validation"; without "train" where they
        are not known. "incomplete" is True where there were others.
    """

    record: dict[str, Any]
    images: dict[str, Any]

    @property
    def training_hashes(self) -> frozenset[str]:
        """SHA-256 of the images they are known to have been trained on."""
        return frozenset(self.images.get("train", ()))

    @property
    def validation_hashes(self) -> frozenset[str]:
        """SHA-256 of the images they were validated on while training."""
        return frozenset(self.images.get("validation", ()))

    @property
    def complete(self) -> bool:
        """True where all training images are known; False for weights from elsewhere."""
        return "train" in self.images and not self.images.get("incomplete")


def merge_provenance(record: Mapping[str, list[str]], start: Provenance) -> dict[str, Any]:
    """Adds to a run's images by role those of the model that it starts from."""
    roles = {
        role: sorted(set(record[role]) | set(start.images.get(role, ())))
        for role in ("train", "validation")
    }
    return dict(record) | roles | ({} if start.complete else {"incomplete": True})
