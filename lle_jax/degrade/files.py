"""Degrading files: what `lle degrade` does.

The random key of a file comes from the seed and the SHA-256 of the file's content, so that the
same seed gives the same bytes whatever the file's name and the order or number of files. Two files
of equal content are therefore degraded alike.
"""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lle_jax
from lle_jax import checks, images, jobs
from lle_jax.degrade import chain
from lle_jax.degrade.presets import Preset
from lle_jax.files import remove_abandoned, write_bytes
from lle_jax.images import plan
from lle_jax.images.errors import shown
from lle_jax.images.plan import Pair
from lle_jax.jobs import Outcome

JOURNAL = ".lle-degrade.jsonl"
# Whose compiled programs are kept at a time: each takes hundreds of memory maps, of which a process
# may have 65,530; where they run out, LLVM crashes.
MAX_SHAPES = 32
_OWN = {"lle_jax", "sha256", "preset", "seed"}  # what every version wrote in a record


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides, with a file's content, how the file is degraded."""

    preset: Preset
    seed: int
    severity: float = 1.0

    def __post_init__(self) -> None:
        checks.number("severity", self.severity, 0, 1)

    def record(self) -> dict[str, Any]:
        """Returns plain values for the journal."""
        return {
            "lle_jax": lle_jax.__version__,
            "preset": self.preset.name,
            "seed": self.seed,
            "severity": self.severity,
        }


def degrade_files(
    pairs: Iterable[Pair], settings: Settings, output: Path | None = None, progress: bool = True
) -> Outcome[Pair]:
    """Degrades files, `[(source, target)]`, skipping those that are finished.

    Beside each target is written `<target>.json`: the settings, the source's SHA-256 and the
    parameters drawn. A target is finished when it exists and its record is the one that would be
    written now. A target that exists without such a record, or a record that is none, is somebody
    else's: that file fails, and nothing is overwritten.

    Args:
      pairs: of `images.plan.plan`.
      settings: for all files.
      output: folder of the journal; None keeps none.
      progress: show it.
    """
    pairs = list(pairs)
    journal = jobs.Journal(None if output is None else output / JOURNAL, settings.record())
    for folder in {target.parent for _, target in pairs}:
        remove_abandoned(folder)
    shapes: set[tuple[int, ...]] = set()
    return jobs.run(
        pairs,
        lambda pair: _degrade_file(*pair, settings, shapes),
        journal,
        progress,
        key=lambda pair: plan.relative(pair[1], output),
        finished=lambda pair, _: (
            pair[1].exists() and _read(_record_path(pair[1])) == _record(pair[0], settings)[0]
        ),
        label=lambda pair: shown(pair[0]),
    )


def _record_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.json")


def _record(source: Path, settings: Settings) -> tuple[dict[str, Any], chain.Parameters, jax.Array]:
    """What `<target>.json` is to hold, the parameters drawn, and the key of the noise."""
    content = images.sha256(source)
    draw, noise = jax.random.split(key(settings.seed, content))
    parameters = _sample(draw, settings.preset, severity=settings.severity)
    record = {
        "lle_jax": lle_jax.__version__,
        "sha256": content,
        "preset": settings.preset.name,
        "seed": settings.seed,
        "severity": settings.severity,
        "parameters": json.loads(chain.to_json(parameters)),
    }
    return record, parameters, noise


def _degrade_file(
    source: Path, target: Path, settings: Settings, shapes: set[tuple[int, ...]]
) -> dict[str, Any]:
    """Writes a file's copy and its record; `shapes` are those compiled for, and is added to."""
    ours = _is_ours(target)
    record, parameters, noise = _record(source, settings)
    picture = images.read(source)
    _bound(shapes, picture.pixels.shape[-3:])
    try:
        low = degrade_pixels(noise, parameters, picture.pixels)
    except jax.errors.JaxRuntimeError as error:
        raise MemoryError from error
    target.parent.mkdir(parents=True, exist_ok=True)
    if not ours:
        # first, so that an image whose record an interruption prevents is known for ours
        _write_record(target, record | {"unfinished": True})
    try:
        images.write(
            target,
            low,
            like=picture,
            description=f"Degraded with lle_jax, preset {settings.preset.name}",
        )
    except BaseException:
        if not ours and not target.exists():
            _record_path(target).unlink(missing_ok=True)
        raise
    _write_record(target, record)
    return {"sha256": record["sha256"]}


def _write_record(target: Path, record: dict[str, Any]) -> None:
    write_bytes(_record_path(target), json.dumps(record, indent=2).encode() + b"\n")


def _is_ours(target: Path) -> bool:
    """Whether there is a record of ours; raises ImageError if a file of others would be lost."""
    path = _record_path(target)
    record = _read(path)
    if isinstance(record, dict) and record.keys() >= _OWN:
        return True
    for other in (target, path):
        if os.path.lexists(other):
            raise images.ImageError(
                f"{shown(other)}: exists and is not of lle degrade; choose another folder"
            )
    return False


def _bound(shapes: set[tuple[int, ...]], shape: tuple[int, ...]) -> None:
    """Drops the compiled programs where there are many, before another shape has its own."""
    if shape not in shapes and len(shapes) == MAX_SHAPES:
        jax.clear_caches()
        shapes.clear()
    shapes.add(shape)


def key(seed: int, sha256: str) -> jax.Array:
    """The random key of a file: the first 64 bits of SHA-256("seed:sha256 of the content")."""
    digest = hashlib.sha256(f"{seed}:{sha256}".encode()).digest()
    words = np.frombuffer(digest[:8], ">u4").astype(np.uint32)
    return jax.random.wrap_key_data(jnp.asarray(words), impl="threefry2x32")


def degrade_pixels(
    noise: jax.Array, parameters: chain.Parameters, pixels: np.ndarray
) -> np.ndarray:
    """Degrades one picture, `[H, W, C]` or `[N, H, W, C]`: one set of parameters, new noise per
    frame. Compiled once for each height, width and channel count."""
    frames = pixels if pixels.ndim == 4 else pixels[None]
    low = [
        np.asarray(chain.apply(jax.random.fold_in(noise, number), parameters, frame))
        for number, frame in enumerate(frames)
    ]
    return np.stack(low) if pixels.ndim == 4 else low[0]


_sample = functools.partial(jax.jit, static_argnames="preset")(chain.sample)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
