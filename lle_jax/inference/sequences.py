"""Enhances video files and folders of frames, frame by frame, with one exposure over time.

Each is read twice: once up to a second ahead for the context (`inference.frames`), once for its
frames. No more frames than those of about a second are in memory.
"""

import collections
import dataclasses
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import lle_jax
from lle_jax import files, images, jobs
from lle_jax.images import video
from lle_jax.images.anonymise import anonymise
from lle_jax.images.errors import ImageError, shown
from lle_jax.images.files import copy_name
from lle_jax.images.plan import Pair, Plan
from lle_jax.inference import frames, tiles

if TYPE_CHECKING:
    from lle_jax.inference.files import Settings


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Orders names as people do: "frame_2" before "frame_10"."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def group(plan: Plan) -> Plan:
    """Replaces the images of each folder by a pair of folders; videos stay.

    Raises:
      ImageError: if an image stands alone, would have the name of another's output, or is not
        given where others of its folder are.
    """
    if plan.failed:  # a sequence with a gap is none
        raise ImageError(plan.failed[0][1])
    pairs: dict[Pair, None] = {}
    given = {source.resolve() for source, _ in plan.pairs}
    for source, target in plan.pairs:
        if video.is_video(source):
            pairs[source, target] = None
            continue
        if target.name != copy_name(source).name:
            raise ImageError(f"{shown(target)}: one file for several frames; give -o a folder")
        if (source.parent, target.parent) not in pairs:
            _refuse_part(source.parent, given)
        pairs[source.parent, target.parent] = None
    return plan._replace(pairs=list(pairs))


def _refuse_part(folder: Path, given: Collection[Path]) -> None:
    """Raises ImageError if a folder has images that are not given."""
    found = [path for path, _ in frame_pairs(folder, folder)]
    if others := [path for path in found if path.resolve() not in given]:
        raise ImageError(
            f"{shown(folder)}: --video takes whole folders, of which {len(others)} of {len(found)} "
            f"images are not given (as {shown(others[0].name)}); give the folder, or move them out"
        )


def frame_pairs(source: Path, target: Path) -> list[Pair]:
    """Lists a folder's images in natural order, each with the file to write."""
    found = sorted(images.find(source, recursive=False), key=natural_key)
    return [(path, target / copy_name(path).name) for path in found]


def sha256(source: Path) -> str:
    """Computes the SHA-256 of a file, or of names and SHA-256 of a folder's images."""
    if not source.is_dir():
        return images.sha256(source)
    found = frame_pairs(source, source)
    return files.combined_sha256((path.name, images.sha256(path)) for path, _ in found)


def description(digest: str, settings: "Settings") -> str:
    """Says what was done, for the metadata of an output."""
    options = [
        f"exposure {settings.exposure}" * (settings.exposure != "auto"),
        "always" * settings.always,
        "consistent" * settings.consistent,
        "" if settings.frame_rate is None else f"{settings.frame_rate:g} frames per second",
    ]
    parts = [f"model {digest[:12]}", f"strength {settings.strength:g}", *filter(None, options)]
    return f"Enhanced with lle_jax {lle_jax.__version__}, {', '.join(parts)}"


def enhance_sequence(
    net: tiles.Network,
    source: Path,
    target: Path,
    settings: "Settings",
    digest: str,
    progress: bool = True,
) -> None:
    """Enhances a video file, or the images of a folder as its frames.

    Args:
      net: from `enhance.load`.
      source: a video file or a folder of images of one size.
      target: the file or the folder to write.
      settings: of the command; a sequence has no pictures beside it.
      digest: SHA-256 of the model.
      progress: show it, in frames per second.

    Raises:
      ImageError: if a frame cannot be read or written.
    """
    if settings.compare or settings.uncertainty:
        raise ImageError(
            f"{shown(source)}: --compare and --uncertainty are for images; leave them out"
        )
    if source.is_dir():
        _enhance_folder(net, source, target, settings, digest, progress)
    else:
        _enhance_video(net, source, target, settings, progress)


def _enhance_video(
    net: tiles.Network, source: Path, target: Path, settings: "Settings", progress: bool
) -> None:
    info = video.probe(source)
    rate = float(np.clip(float(info.rate), *frames.RATES))

    def process(originals: Iterator[np.ndarray]) -> Iterable[np.ndarray]:
        ahead = video.read(source, info)
        return jobs.track(
            _enhanced(net, originals, ahead, rate, settings),
            info.frames or round(info.seconds * rate) or None,
            unit="frame",
            show=progress,
            description=shown(source.name),
        )

    counts = video.rewrite(source, target, info, process, metadata=not settings.anonymise)
    if warning := counts.warning(info):
        print(f"lle enhance: {shown(source)}: {warning}", file=sys.stderr)


def _enhance_folder(
    net: tiles.Network,
    source: Path,
    target: Path,
    settings: "Settings",
    digest: str,
    progress: bool,
) -> None:
    pairs = frame_pairs(source, target)
    assert settings.frame_rate is not None
    target.mkdir(parents=True, exist_ok=True)
    waiting: collections.deque[images.Picture] = collections.deque()

    def originals() -> Iterator[np.ndarray]:
        for picture in _pictures(path for path, _ in pairs):
            # what is written like it needs of its pixels the shape only
            shape_only = np.broadcast_to(np.float32(0), picture.pixels.shape)
            waiting.append(dataclasses.replace(picture, pixels=shape_only))
            yield picture.pixels

    ahead = (picture.pixels for picture in _pictures(path for path, _ in pairs))
    enhanced = _enhanced(net, originals(), ahead, settings.frame_rate, settings)
    shown_frames = jobs.track(
        enhanced, len(pairs), unit="frame", show=progress, description=shown(source.name)
    )
    for (_, written), pixels in zip(pairs, shown_frames, strict=True):
        picture = waiting.popleft()
        like = anonymise(picture) if settings.anonymise else picture
        images.write(written, pixels, like=like, description=description(digest, settings))


def _enhanced(
    net: tiles.Network,
    originals: Iterator[np.ndarray],
    ahead: Iterator[np.ndarray],
    rate: float,
    settings: "Settings",
) -> Iterator[np.ndarray]:
    if settings.strength == 0:
        return originals
    return frames.enhance_frames(
        net, originals, ahead, rate, settings.strength, wish=settings.wish()
    )


def _pictures(paths: Iterable[Path]) -> Iterator[images.Picture]:
    """Reads frames; raises ImageError for one of several frames or of another size."""
    first: tuple[Path, tuple[int, ...]] | None = None
    for path in paths:
        picture = images.read(path)
        if picture.pixels.ndim != 3:
            raise ImageError(f"{shown(path)}: it holds several frames; leave out --video")
        size = picture.pixels.shape[:2]
        first = first or (path, size)
        if size != first[1]:
            raise ImageError(
                f"{shown(path)}: its size is {size[1]} x {size[0]}, that of the first frame "
                f"({shown(first[0].name)}) {first[1][1]} x {first[1][0]}; scale it, or move it out"
            )
        yield picture
