"""Provenance of parameters: their origin and their training images."""

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
        """Returns the SHA-256 of the recorded training images."""
        return frozenset(self.images.get("train", ()))

    @property
    def validation_hashes(self) -> frozenset[str]:
        """Returns the SHA-256 of the recorded validation images."""
        return frozenset(self.images.get("validation", ()))

    @property
    def complete(self) -> bool:
        """Tells whether all training images are recorded; False for imported weights."""
        return "train" in self.images and not self.images.get("incomplete")


def merge_provenance(record: Mapping[str, list[str]], start: Provenance) -> dict[str, Any]:
    """Adds to a run's images by role those of the model that it starts from."""
    roles = {
        role: sorted(set(record[role]) | set(start.images.get(role, ())))
        for role in ("train", "validation")
    }
    return dict(record) | roles | ({} if start.complete else {"incomplete": True})
