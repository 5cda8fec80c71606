"""Degrading files: what `lle degrade` does.

The random key of a file comes from the seed and the SHA-256 of the file's content, so that the
same seed gives the same bytes whatever the file's name and the order or number of files. Two files
of equal content are therefore degraded alike.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import numpy as np
import tqdm

import lle_jax
from lle_jax import checks, images
from lle_jax.degrade import chain
from lle_jax.degrade.presets import Preset
from lle_jax.files import write_bytes
from lle_jax.images.files import SUFFIXES


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides, with a file's content, how the file is degraded."""

    preset: Preset
    seed: int
    severity: float = 1.0

    def __post_init__(self):
        checks.number("severity", self.severity, 0, 1)


def plan(inputs: Iterable[Path], output: Path) -> list[tuple[Path, Path]]:
    """Pairs every image in `inputs` with the file to write.

    The structure of a given folder is mirrored in `output`; a given file goes to its top. Where
    `output` is inside a given folder, its files are earlier results and passed over. DICOM files
    without a suffix of their own get ".dcm".

    Raises:
      ImageError: if an input does not exist or holds no image, if two files would get the same
        name, or if an input would be overwritten.
    """
    output = Path(output)
    results = output.resolve()
    sources = {}
    for given in map(Path, inputs):
        root = given if given.is_dir() else given.parent
        below = root.resolve() in results.parents
        for source in images.find(given):
            if not (below and given != source and results in source.resolve().parents):
                relative = source.relative_to(root)
                if source.suffix.lower() not in SUFFIXES:
                    relative = relative.with_name(f"{relative.name}.dcm")
                sources.setdefault(source.resolve(), (source, output / relative))
    owners = {}
    for source, target in sources.values():
        if target.resolve() in sources:
            raise images.ImageError(
                f"{target}: this input would be overwritten; choose another output folder"
            )
        # names that differ in case only are one file on some systems
        other = owners.setdefault(str(target).casefold(), source)
        if other != source:
            raise images.ImageError(
                f"{other} and {source} would both be written to {target}; give the folder above "
                "them, or another output folder for each"
            )
    return list(sources.values())


def degrade_files(
    pairs: Sequence[tuple[Path, Path]], settings: Settings, progress: bool = True
) -> list[str]:
    """Degrades files, `[(source, target)]`, skipping those that are finished.

    Beside each target is written `<target>.json`: the settings, the source's SHA-256 and the
    parameters drawn. A target is finished when it exists and its record is the one that would be
    written now.

    Returns:
      one line for each file that could not be read or written.
    """
    failures = []
    for source, target in tqdm.tqdm(pairs, unit="file", disable=not progress):
        try:
            _degrade_file(source, target, settings)
        except ValueError as error:
            failures.append(str(error))
        except OSError as error:
            failures.append(f"{target}: {error.strerror}; check the output folder")
        except MemoryError:
            failures.append(f"{source}: not enough memory for this image")
    return failures


def _degrade_file(source: Path, target: Path, settings: Settings) -> None:
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
    written = target.with_name(f"{target.name}.json")
    if target.exists() and _read(written) == record:
        return
    picture = images.read(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    images.write(
        target,
        degrade_pixels(noise, parameters, picture.pixels),
        like=picture,
        description=f"Degraded with lle_jax, preset {settings.preset.name}",
    )
    # last, so that a record without its image cannot be left behind
    write_bytes(written, json.dumps(record, indent=2).encode() + b"\n")


def key(seed: int, sha256: str) -> jax.Array:
    """The random key of a file: the first 64 bits of SHA-256("seed:sha256 of the content")."""
    digest = hashlib.sha256(f"{seed}:{sha256}".encode()).digest()
    words = np.frombuffer(digest[:8], ">u4").astype(np.uint32)
    return jax.random.wrap_key_data(words, impl="threefry2x32")


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


def _read(path: Path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
