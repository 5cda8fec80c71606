"""Degrading files: what `lle degrade` does.

The random key of a file comes from the seed and the SHA-256 of the file's content, so that the
same seed gives the same bytes whatever the file's name and the order or number of files. Two files
of equal content are therefore degraded alike.
"""

import dataclasses
import functools
import hashlib
import json
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
from lle_jax.images.plan import Pair
from lle_jax.jobs import Outcome

JOURNAL = ".lle-degrade.jsonl"


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
    written now.

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
    return jobs.run(
        pairs,
        lambda pair: _degrade_file(*pair, settings),
        journal,
        progress,
        key=lambda pair: plan.relative(pair[1], output),
        finished=lambda pair, _: (
            pair[1].exists() and _read(_record_path(pair[1])) == _record(pair[0], settings)[0]
        ),
        label=lambda pair: str(pair[0]),
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


def _degrade_file(source: Path, target: Path, settings: Settings) -> dict[str, Any]:
    record, parameters, noise = _record(source, settings)
    picture = images.read(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    images.write(
        target,
        degrade_pixels(noise, parameters, picture.pixels),
        like=picture,
        description=f"Degraded with lle_jax, preset {settings.preset.name}",
    )
    # last, so that a record without its image cannot be left behind
    write_bytes(_record_path(target), json.dumps(record, indent=2).encode() + b"\n")
    return {"sha256": record["sha256"]}


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
