"""One change of light for all images of a DICOM series, of a multi-frame object or of a folder.

Each image by itself would get the brightness that suits it, so that two slices of one series were
no longer to be compared. The median of the stops of light that they would get is given to all.
"""

import statistics
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lle_jax import images, jobs
from lle_jax.images.dicom import naming_elements
from lle_jax.inference import defects, exposure, tiles

_FRAMES = 9  # of an object of several frames, evenly spaced, that are measured


def gains(
    net: tiles.Network, sources: Iterable[Path], wish: exposure.Wish, progress: bool = True
) -> dict[Path, float]:
    """Computes the stops of light of each file: the median over its series, or its folder.

    A file that cannot be read has none; whoever enhances it says why. What is all black tells
    nothing, and stays black.

    Args:
      net: from `enhance.load`.
      sources: image files.
      wish: the brightness that each would get by itself.
      progress: show it.
    """
    sources = list(sources)
    groups: dict[str, list[Path]] = {}
    alone: dict[Path, float] = {}
    bar = jobs.track(sources, len(sources), unit="image", show=progress, description="measure")
    for source in bar:
        try:
            picture = images.read(source)
            series = _series(picture)
        except images.ImageError:
            continue
        groups.setdefault(str(series or source.parent), []).append(source)
        if found := _gains(net, picture.pixels, wish):
            alone[source] = statistics.median(found)
    shared: dict[Path, float] = {}
    for group in groups.values():
        if known := [alone[source] for source in group if source in alone]:
            shared |= dict.fromkeys(group, statistics.median(known))
    return shared


def _series(picture: images.Picture) -> str | None:
    """Returns the UID of a DICOM object's series; raises ImageError if it cannot be read."""
    if picture.dataset is None:
        return None
    with naming_elements(picture.dataset):
        return picture.dataset.get("SeriesInstanceUID")


def _gains(net: tiles.Network, pixels: np.ndarray, wish: exposure.Wish) -> list[float]:
    stack = pixels if pixels.ndim == 4 else pixels[None]
    picked = np.unique(np.linspace(0, len(stack) - 1, min(len(stack), _FRAMES)).astype(int))
    found = []
    for frame in stack[picked]:
        measured = exposure.measure(defects.mended(frame))
        if not exposure.is_black(measured):
            correction = exposure.decide(net, measured, wish)
            found.append(exposure.gain(net, measured, correction))
    return found
