"""Enhances files, for `lle enhance`.

A line of OUT/.lle-enhance.jsonl, a journal (`lle_jax.jobs`), is written after each output: its name
and the SHA-256 of its input, for the settings and the model of a header. Such outputs are finished.
"""

import dataclasses
import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import lle_jax
from lle_jax import checks, images, jobs
from lle_jax.checkpoints.load import digest
from lle_jax.files import remove_abandoned, write_bytes
from lle_jax.images import plan as plan_of_files
from lle_jax.images import video
from lle_jax.images.anonymise import anonymise
from lle_jax.images.errors import shown
from lle_jax.images.files import BESIDE_MARK, COMPARISON, SUFFIXES, UNCERTAINTY, VIDEOS
from lle_jax.images.plan import Pair, Plan
from lle_jax.inference import consistent, defects, enhance, frames, sequences, tiles
from lle_jax.inference import exposure as exposures
from lle_jax.jobs import Outcome

JOURNAL = ".lle-enhance.jsonl"
_COMPARE_SIDE = 1024
SHORT = 0.02  # of the range, from which on a mean that was asked for and not reached is named
_SOFTWARE = 305  # TIFF 6.0, section 8; `images.write` takes it from EXIF


@dataclasses.dataclass(frozen=True)
class Settings:
    """Options that determine the output, with a file's content and the model."""

    strength: float = 1.0
    exposure: str = "auto"  # as `inference.exposure.parse` reads it
    always: bool = False
    consistent: bool = False
    compare: bool = False
    anonymise: bool = False
    uncertainty: bool = False
    # folders hold the frames of a sequence, as many a second; None takes each image by itself
    frame_rate: float | None = None

    def __post_init__(self) -> None:
        if self.frame_rate is not None:
            checks.number("frame_rate", self.frame_rate, *frames.RATES)
        checks.number("strength", self.strength, 0, 1)
        exposures.parse(self.exposure)
        if self.consistent and self.frame_rate is not None:
            raise ValueError("--video gives one exposure over time; leave out --consistent")
        if self.uncertainty and self.strength < 1:
            raise ValueError("uncertainty is that of the whole change; leave out --strength")

    def wish(self, gain: float | None = None) -> exposures.Wish:
        """What is asked of the images; `gain` is what `consistent` gives several alike."""
        return exposures.Wish(exposures.parse(self.exposure), self.always, gain)

    def outputs(self, target: Path) -> list[Path]:
        """Lists all files that are written for a target."""
        paths = [target]
        if self.compare:
            paths.append(_sibling(target, COMPARISON))
        if self.uncertainty:
            paths.append(_sibling(target, UNCERTAINTY))
        return paths


def plan(inputs: Iterable[str | Path], output: Path, settings: Settings | None = None) -> Plan:
    """Pairs every image and video with the file to write; see `images.plan.plan`.

    With `settings.frame_rate`, each folder of images is paired with the folder of its outputs.

    Args:
      inputs: files, folders, and patterns as "scans/*.png".
      output: a folder; or, for one image, a file by its suffix.
      settings: say what is written beside the outputs.
    """
    settings = settings or Settings()

    def outputs(target: Path) -> list[Path]:
        return [target] if video.is_video(target) else settings.outputs(target)

    planned = plan_of_files.plan(inputs, output, outputs, VIDEOS)
    return planned if settings.frame_rate is None else sequences.group(planned)


class Job:
    """The outputs of one command.

    Args:
      output: the folder of the journal, None to keep none and do everything again.
      model: folder of a release, None for the one that is bundled with lle_jax.
      settings: for all files.
    """

    def __init__(self, output: Path | None, model: Path | None, settings: Settings):
        self._output, self._model, self._settings = output, model, settings
        self._digest = digest(model)
        values = {"lle_jax": lle_jax.__version__, "model": self._digest}
        path = None if output is None else output / JOURNAL
        self._journal = jobs.Journal(path, values | dataclasses.asdict(settings))
        self._gains: dict[Path, float] = {}

    def finished(self, pair: Pair) -> bool:
        """Tells whether the target exists and is up to date; raises ImageError."""
        return self._finished(pair, self._journal.done(self._key(pair)))

    def run(self, pairs: Iterable[Pair], progress: bool = True) -> Outcome[Pair]:
        """Enhances the files that are not finished; one that fails does not stop the rest.

        Args:
          pairs: of `plan`.
          progress: show it.

        Raises:
          ValueError: if a file that this command did not write is in an output's place.
        """
        pairs = list(pairs)
        self.refuse_foreign(pairs)
        net = enhance.load(self._model)
        exposures.check(net, self._settings.wish())
        if self._settings.consistent:
            sources = [source for source, _ in pairs if not video.is_video(source)]
            self._gains = consistent.gains(net, sources, self._settings.wish(), progress)
        for folder in {target.parent for _, target in pairs}:
            remove_abandoned(folder)
        self._journal.start()
        return jobs.run(
            pairs,
            lambda pair: self._enhance(net, *pair, progress),
            self._journal,
            progress,
            key=self._key,
            finished=self._finished,
            label=lambda pair: shown(pair[0]),
            unit="image",
        )

    def refuse_foreign(self, pairs: Iterable[Pair]) -> None:
        """Refuses a folder of somebody's files, as the well-lit partners of a measured pair.

        A folder that has the journal is this command's.

        Raises:
          ValueError: if a file is in an output's place.
        """
        if self._output is None or (self._output / JOURNAL).exists():
            return
        for pair in pairs:
            for path in self._outputs(pair):
                if path.exists():
                    raise ValueError(
                        f"{shown(path)} exists, and is not of lle enhance; give another folder"
                    )

    def _key(self, pair: Pair) -> str:
        return plan_of_files.relative(pair[1], self._output)

    def _finished(self, pair: Pair, record: dict[str, Any] | None) -> bool:
        return (
            record is not None
            and all(path.exists() for path in self._outputs(pair))
            and record.get("sha256") == sequences.sha256(pair[0])
            and record.get("gain") == self._gains.get(pair[0], record.get("gain"))
        )

    def _outputs(self, pair: Pair) -> list[Path]:
        source, target = pair
        if source.is_dir():
            return [written for _, written in sequences.frame_pairs(source, target)]
        return [target] if video.is_video(source) else self._settings.outputs(target)

    def _enhance(
        self, net: tiles.Network, source: Path, target: Path, progress: bool
    ) -> dict[str, Any]:
        digest = sequences.sha256(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if source.is_dir() or video.is_video(source):
                sequences.enhance_sequence(
                    net, source, target, self._settings, self._digest, progress
                )
                unchanged = False
            else:
                unchanged = enhance_file(
                    net, source, target, self._settings, self._digest, self._gains.get(source)
                )
        except jax.errors.JaxRuntimeError as error:
            raise MemoryError from error
        gain = {"gain": self._gains[source]} if source in self._gains else {}
        return {"sha256": digest, "unchanged": unchanged} | gain


def enhance_file(
    net: tiles.Network,
    source: Path,
    target: Path,
    settings: Settings,
    digest: str,
    gain: float | None = None,
) -> bool:
    """Enhances one file; returns whether it is unchanged.

    What is unchanged is copied byte by byte, unless its format or its metadata change.

    Raises:
      ImageError: if the file cannot be read or the target cannot hold it.
    """
    picture = images.read(source)
    before = _shrunk(picture.pixels) if settings.compare else None
    pixels = picture.pixels
    rate, wish = picture.frame_rate or frames.DEFAULT_RATE, settings.wish(gain)
    interval = _half_width(net, pixels, rate, wish) if settings.uncertainty else None
    # in place: an image of 12,000 x 9,000 pixels takes 1.3 GB
    pixels, unchanged = enhance.enhance_pixels(
        net, pixels, settings.strength, wish, inplace=True, frame_rate=rate
    )
    if lacking := _short_of(wish, settings.strength, pixels):
        print(f"lle enhance: {shown(source)}: {lacking}", file=sys.stderr)
    if unchanged and not settings.anonymise and _same_format(picture, target):
        _copy(source, target)
    else:
        images.write(
            target,
            pixels,
            like=anonymise(picture) if settings.anonymise else picture,
            description=sequences.description(digest, settings),
            note=", unchanged" if unchanged else "",
        )
    if before is not None:
        _write_compare(_sibling(target, COMPARISON), before, _shrunk(pixels))
    if interval is not None:
        mark = Image.Exif()
        mark[_SOFTWARE] = BESIDE_MARK
        like = dataclasses.replace(
            picture, bits=16, alpha=None, exif=mark.tobytes(), icc=None, dataset=None, format="tiff"
        )
        images.write(_sibling(target, UNCERTAINTY), interval, like)
    return unchanged


def _short_of(wish: exposures.Wish, strength: float, pixels: np.ndarray) -> str:
    """Says that white does not allow the mean that was asked for; "" where it does."""
    asked = wish.aim.mean
    if asked is None or wish.gain is not None or strength < 1:
        return ""
    if (reached := exposures.mean_luma(pixels)) > asked - SHORT:
        return ""
    reason = "what is bright in it is white already" if pixels.any() else "it is all black"
    return f"its mean brightness is {reached:.2f}, not {asked:.2f} as asked for: {reason}"


def _same_format(picture: images.Picture, target: Path) -> bool:
    """Tells whether both have a suffix of one format; a DICOM file without a suffix gets one."""
    names = [path.suffix.lower().replace("jpeg", "jpg") for path in (picture.path, target)]
    return names[0].replace("tiff", "tif") == names[1].replace("tiff", "tif") or (
        picture.format == "dicom" and names[0] not in SUFFIXES and names[1] == ".dcm"
    )


def _copy(source: Path, target: Path) -> None:
    if target.exists() and source.samefile(target):
        raise images.ImageError(f"{target}: this is the input file, which is never overwritten")
    write_bytes(target, source.read_bytes())


def _sibling(target: Path, suffix: str) -> Path:
    return target.with_name(f"{target.name}{suffix}")


def _half_width(
    net: tiles.Network, pixels: np.ndarray, rate: float, wish: exposures.Wish
) -> np.ndarray:
    """Predicts the half-width of the prediction interval of each pixel, of each frame.

    It is that of the brightness that is chosen, times the share of the change that is made: 0 for
    what is unchanged.

    Raises:
      ImageError: if the model predicts none.
    """
    if net.uncertainty is None:
        raise images.ImageError(
            "this model predicts no uncertainty; leave out --uncertainty, or --model"
        )
    stack = pixels if pixels.ndim == 4 else pixels[None]
    around = frames.contexts(net, stack, rate, wish)
    widths = [
        tiles.half_width(net, defects.mended(frame), context=each.context)
        * np.float32(each.strength)
        for frame, each in zip(stack, around, strict=True)
    ]
    return np.stack(widths).reshape(*pixels.shape[:-1], 1)


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    """Returns a copy of the middle frame of at most 1024 pixels a side, `[H, W, 3]` uint8."""
    frame = pixels[len(pixels) // 2] if pixels.ndim == 4 else pixels
    scale = _COMPARE_SIDE / max(frame.shape[:2])
    if scale < 1:
        height, width = (max(1, round(side * scale)) for side in frame.shape[:2])
        frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    levels = np.rint(np.clip(frame, 0, 1) * 255).astype(np.uint8)
    return np.broadcast_to(levels.reshape(*levels.shape[:2], -1), (*levels.shape[:2], 3)).copy()


def _write_compare(path: Path, before: np.ndarray, after: np.ndarray) -> None:
    sink, mark = io.BytesIO(), PngInfo()
    mark.add_text("Software", BESIDE_MARK)
    gap = np.full((len(before), 8, 3), 255, np.uint8)
    Image.fromarray(np.concatenate([before, gap, after], axis=1)).save(sink, "PNG", pnginfo=mark)
    write_bytes(path, sink.getvalue())
