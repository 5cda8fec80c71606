"""Enhancing files: what `lle enhance` does.

A line of OUT/.lle-enhance.jsonl is written after each output: its name, the SHA-256 of its input,
the settings and the model. What has a line that would be written again is finished.
"""

import dataclasses
import glob
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import jax
import numpy as np
import tqdm
from PIL import Image

import lle_jax
from lle_jax import checks, images
from lle_jax.checkpoints.load import digest
from lle_jax.degrade import files
from lle_jax.files import write_bytes
from lle_jax.images.anonymise import anonymise
from lle_jax.images.files import SUFFIXES
from lle_jax.inference import enhance, tiles

RECORD = ".lle-enhance.jsonl"
_COMPARE = ".compare.png"
_UNCERTAINTY = ".uncertainty.tif"
_COMPARE_SIDE = 1024


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides, with a file's content and the model, what is written."""

    strength: float = 1.0
    gate: bool = False
    compare: bool = False
    anonymise: bool = False
    uncertainty: bool = False

    def __post_init__(self):
        checks.number("strength", self.strength, 0, 1)
        if self.uncertainty and self.strength < 1:
            raise ValueError("uncertainty is that of the whole change; leave out --strength")

    def outputs(self, target: Path) -> list[Path]:
        """All that is written for a target."""
        paths = [target]
        if self.compare:
            paths.append(_beside(target, _COMPARE))
        if self.uncertainty:
            paths.append(_beside(target, _UNCERTAINTY))
        return paths


class Outcome(NamedTuple):
    """What became of files: a line for each that failed, the names of those that were passed
    through unchanged, and how many were finished before."""

    failures: list[str]
    passed: list[Path]
    finished: int


def plan(
    inputs: Iterable[str], output: Path, settings: Settings | None = None
) -> list[tuple[Path, Path]]:
    """Pairs every image in `inputs` with the file to write; see `degrade.files.plan`.

    Args:
      inputs: files, folders, and patterns as "scans/*.png" (`**` for any folders).
      output: a folder; or, for one image, a file by its suffix.
      settings: say what is written beside the outputs.

    Raises:
      ImageError: if an input does not exist or holds no image, if two files would get the same
        name, or if an input would be overwritten.
    """
    paths = [path for given in inputs for path in _expand(given)]
    if output.suffix.lower() in SUFFIXES and not output.is_dir():
        if len(paths) != 1 or paths[0].is_dir():
            raise images.ImageError(f"{output}: one file for several inputs; give -o a folder")
        pairs = [(images.find(paths)[0], output)]
    else:
        if output.exists() and not output.is_dir():
            raise images.ImageError(f"{output}: not a folder; choose another with -o")
        pairs = files.plan(paths, output)
    settings = Settings() if settings is None else settings
    written = [path for _, target in pairs for path in settings.outputs(target)]
    sources = {source.resolve() for source, _ in pairs}
    for target in written:
        if target.resolve() in sources:
            raise images.ImageError(
                f"{target}: this input would be overwritten; choose another output"
            )
    if len({str(target).casefold() for target in written}) < len(written):
        raise images.ImageError(
            f"an input ends in {_COMPARE} or {_UNCERTAINTY}; leave it out, or that option"
        )
    return pairs


def _expand(given: str) -> list[Path]:
    path = Path(given)
    if path.exists() or not glob.has_magic(given):
        return [path]
    found = sorted(map(Path, glob.glob(given, recursive=True)))
    if not found:
        raise images.ImageError(f"{given}: nothing matches this pattern; check the path")
    return found


class Job:
    """The outputs of one command.

    Args:
      output: the folder of the record, None to keep none and do everything again.
      model: folder of a release, None for the one that comes with lle_jax.
      settings: for all files.
    """

    def __init__(self, output: Path | None, model: Path | None, settings: Settings):
        self._output, self._model, self._settings = output, model, settings
        self._digest = digest(model)
        self._done = {} if output is None else _records(output / RECORD)

    def finished(self, source: Path, target: Path) -> bool:
        """Whether the target is there and is what would be written; raises ImageError."""
        expected = self._settings.outputs(target)
        if self._output is None or not all(path.exists() for path in expected):
            return False
        record = self._record(source, target)
        return self._done.get(record["output"]) == record

    def run(self, pairs: Sequence[tuple[Path, Path]], progress: bool | None = None) -> Outcome:
        """Enhances the files that are not finished; one that fails does not stop the rest.

        Args:
          pairs: from `plan`.
          progress: show a bar; None, where somebody looks at it.
        """
        net = enhance.load(self._model)
        failures, passed, finished = [], [], 0
        disable = None if progress is None else not progress
        for source, target in tqdm.tqdm(pairs, unit="image", disable=disable):
            try:
                if self.finished(source, target):
                    finished += 1
                elif self._one(net, source, target):
                    passed.append(source)
            except ValueError as error:
                failures.append(str(error))
            except OSError as error:
                failures.append(f"{target}: {error.strerror}; check the output folder")
            except (MemoryError, jax.errors.JaxRuntimeError):
                failures.append(f"{source}: not enough memory for this image")
        return Outcome(failures, passed, finished)

    def _one(self, net: tiles.Network, source: Path, target: Path) -> bool:
        record = self._record(source, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        passed = enhance_file(net, source, target, self._settings, self._digest)
        if self._output is not None:
            # last, so that a line without its output cannot be left behind
            with open(self._output / RECORD, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        return passed

    def _record(self, source: Path, target: Path) -> dict:
        return {
            "output": target.relative_to(self._output).as_posix() if self._output else target.name,
            "sha256": images.sha256(source),
            "model": self._digest,
            "lle_jax": lle_jax.__version__,
            **dataclasses.asdict(self._settings),
        }


def _records(path: Path) -> dict[str, dict]:
    """The last line of each output; a line that was cut off is passed over, and ended."""
    found = {}
    if path.exists():
        text = path.read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            try:
                record = json.loads(line)
                found[record["output"]] = record
            except (ValueError, KeyError, TypeError):
                continue
        if text and not text.endswith("\n"):
            with open(path, "a", encoding="utf-8") as file:
                file.write("\n")
    return found


def enhance_file(
    net: tiles.Network, source: Path, target: Path, settings: Settings, digest: str
) -> bool:
    """Enhances one file; returns whether it was passed through since it was well exposed.

    What is passed through is copied byte by byte, unless its format or its metadata change.

    Raises:
      ImageError: if the file cannot be read or the target cannot hold it.
    """
    picture = images.read(source)
    before = _shrunk(picture.pixels) if settings.compare else None
    pixels, passed = picture.pixels, settings.gate and enhance.passes(net, picture.pixels)
    unsure = _unsure(net, pixels, passed) if settings.uncertainty else None
    if not passed:
        # in place: an image of 12,000 x 9,000 pixels takes 1.3 GB
        pixels, _ = enhance.enhance_pixels(net, pixels, settings.strength, inplace=True)
    if passed and not settings.anonymise and _same_format(source, target):
        _copy(source, target)
    else:
        images.write(
            target,
            pixels,
            like=anonymise(picture) if settings.anonymise else picture,
            description=f"Enhanced with lle_jax {lle_jax.__version__}, model {digest[:12]}, "
            f"strength {settings.strength:g}" + (", unchanged by the gate" if passed else ""),
        )
    if before is not None:
        _write_compare(_beside(target, _COMPARE), before, _shrunk(pixels))
    if unsure is not None:
        like = dataclasses.replace(
            picture, bits=16, alpha=None, exif=None, icc=None, dataset=None, format="tiff"
        )
        images.write(_beside(target, _UNCERTAINTY), unsure, like)
    return passed


def _same_format(source: Path, target: Path) -> bool:
    """Whether both have a suffix of one format; a DICOM file without a suffix gets one."""
    names = [path.suffix.lower().replace("jpeg", "jpg") for path in (source, target)]
    return names[0].replace("tiff", "tif") == names[1].replace("tiff", "tif") or (
        names[0] not in SUFFIXES and names[1] == ".dcm"
    )


def _copy(source: Path, target: Path) -> None:
    if target.exists() and source.samefile(target):
        raise images.ImageError(f"{target}: this is the input file, which is never overwritten")
    write_bytes(target, source.read_bytes())


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(f"{target.name}{suffix}")


def _unsure(net: tiles.Network, pixels: np.ndarray, passed: bool) -> np.ndarray:
    """Half an interval for each pixel, and each frame; 0 for what is passed through unchanged.

    Raises:
      ImageError: if the model has none.
    """
    if net.uncertainty is None:
        raise images.ImageError(
            "this model cannot tell how far off it is; leave out --uncertainty, or --model"
        )
    if passed:
        return np.zeros((*pixels.shape[:-1], 1), np.float32)
    if pixels.ndim == 4:
        return np.stack([tiles.half_width(net, frame) for frame in pixels])
    return tiles.half_width(net, pixels)


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    """A copy of the middle frame of at most 1024 pixels a side, `[H, W, 3]` uint8."""
    frame = pixels[len(pixels) // 2] if pixels.ndim == 4 else pixels
    scale = _COMPARE_SIDE / max(frame.shape[:2])
    if scale < 1:
        height, width = (max(1, round(side * scale)) for side in frame.shape[:2])
        frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    levels = np.rint(np.clip(frame, 0, 1) * 255).astype(np.uint8)
    return np.broadcast_to(levels.reshape(*levels.shape[:2], -1), (*levels.shape[:2], 3)).copy()


def _write_compare(path: Path, before: np.ndarray, after: np.ndarray) -> None:
    sink = io.BytesIO()
    gap = np.full((len(before), 8, 3), 255, np.uint8)
    Image.fromarray(np.concatenate([before, gap, after], axis=1)).save(sink, "PNG")
    write_bytes(path, sink.getvalue())
