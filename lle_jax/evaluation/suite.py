"""Suites: what methods are evaluated on, as data in TOML files (configs/evaluation/).

A suite is a sequence of cases, each a low-light image with its truth. Three kinds, by section:

    [degradation]   clean images under a preset at fixed seeds and severities
    [sweep]         clean images on a grid of exposure x noise x blur
    [pairs]         low-light images and their truths in two folders

The first two need [images]: a `source` as of `data.load`, and a `role`.
[same_photographs] lists the `sha256` of other files of the photographs, which no method may know.
"""

import dataclasses
import difflib
import functools
import hashlib
import itertools
import json
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lle_jax import data, degrade, files, images
from lle_jax.data import pairs
from lle_jax.data.splits import still

_SECTIONS: dict[str, dict[str, type]] = {
    "images": {"source": str, "role": str},
    "degradation": {"preset": str, "realisations": int, "seed": int, "severities": list},
    "sweep": {"seed": int, "gains": list, "noises": list, "blurs": list},
    "pairs": {"low": str, "clean": str},
    "same_photographs": {"sha256": list},
}
_RANGES = {"severities": (0, 1), "gains": (1e-3, 10), "noises": (0, 1), "blurs": (0, 50)}
_RANGES |= {"seed": (0, 2**32 - 1), "realisations": (1, 2**31)}


class SuiteError(ValueError):
    """A suite cannot be used; the message names the file, the field and the remedy."""


class Case(NamedTuple):
    """One low-light image to enhance, and the truth.

    Attributes:
      image: the clean image's name.
      realisation: tells the degraded versions of one image apart.
      modality: one of data.MODALITIES.
      condition: how it was degraded, for tables: a severity, or a point of a sweep.
      low: `[H, W, C]` float32 in [0, 1].
      clean: the truth, same shape.
      parameters: of the degradation, as of `degrade.sample`; None where nobody knows them.
    """

    image: str
    realisation: str
    modality: str
    condition: str
    low: np.ndarray
    clean: np.ndarray
    parameters: degrade.Parameters | None

    @property
    def label(self) -> str:
        return label(self.image, self.realisation)


def label(image: str, realisation: str) -> str:
    """Names a case, and the files that belong to it."""
    return f"{image}__{realisation}" if realisation else image


@dataclasses.dataclass(frozen=True)
class Suite:
    """A suite, with its images listed and hashed but not yet decoded.

    Attributes:
      name: of the file.
      settings: its content, resolved.
      images: the clean images.
      hashes: SHA-256 of every file it takes an image from, to be compared with training images.
      rejected: (path, reason) of files that were skipped.
    """

    name: str
    settings: dict[str, Any]
    images: data.Images
    hashes: frozenset[str]
    rejected: tuple[tuple[str, str], ...]

    @property
    def kind(self) -> str:
        return next(kind for kind in ("degradation", "sweep", "pairs") if kind in self.settings)

    @property
    def same_photographs(self) -> frozenset[str]:
        """SHA-256 of other files of the suite's photographs."""
        return frozenset(self.settings.get("same_photographs", {}).get("sha256", ()))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the cases: images by name, and all that decides their low-light versions.

        Where the files are does not matter.
        """
        part = {} if self.kind == "pairs" else self.settings[self.kind]
        stages = {}
        if self.kind == "degradation":
            names = sorted({degrade.name_for(part["preset"], m) for m in self.images.modalities})
            stages = {name: repr(degrade.load(name).stages) for name in names}
        fields = ("names", "hashes", "low_hashes", "modalities", "units")
        cases = sorted(map(list, zip(*(getattr(self.images, f) for f in fields), strict=True)))
        parts = [self.kind, part, stages, cases]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def count(self) -> int:
        """Number of cases."""
        return len(self._realisations()) * len(self.images)

    def listed(self) -> list[tuple[str, str, str, str]]:
        """(image, realisation, modality, condition) of every case, in the order of `cases`."""
        return [
            (self.images.names[index], realisation, self.images.modalities[index], condition)
            for index in self._order()
            for realisation, condition, _ in self._realisations()
        ]

    def cases(self, wanted: Collection[str] | None = None) -> Iterator[Case]:
        """Makes the cases one at a time, images of one size after another.

        A case depends on the suite's seed and on its own image's content, not on other images.

        Args:
          wanted: labels of the cases to make; None makes all.
        """
        make: dict[str, Callable[..., tuple[Any, degrade.Parameters | None]]] = {
            "degradation": self._degraded,
            "sweep": self._swept,
            "pairs": self._paired,
        }
        for index in self._order():
            name, modality = self.images.names[index], self.images.modalities[index]
            made = self._realisations()
            made = [each for each in made if wanted is None or label(name, each[0]) in wanted]
            if not made:
                continue  # the image need not be decoded
            clean = self.images[index]
            for realisation, condition, setting in made:
                low, parameters = make[self.kind](index, clean, *setting)
                low = np.asarray(low)
                yield Case(name, realisation, modality, condition, low, clean, parameters)

    def _order(self) -> list[int]:
        return sorted(range(len(self.images)), key=lambda index: self.images.sizes[index])

    def _realisations(self) -> list[tuple[str, str, tuple]]:
        """(realisation, condition, what it is made with) of every image's cases."""
        part = self.settings[self.kind]
        match self.kind:
            case "degradation":
                made = itertools.product(range(part["realisations"]), part["severities"])
                return [(f"{number}-{s:g}", f"{s:g}", (number, s)) for number, s in made]
            case "sweep":
                points = itertools.product(part["gains"], part["noises"], part["blurs"])
                numbers = [(" ".join(f"{value:g}" for value in point), point) for point in points]
                return [(text.replace(" ", "_"), text, point) for text, point in numbers]
            case _:
                return [("", "", ())]

    def _degraded(
        self, index: int, clean: np.ndarray, number: int, severity: float
    ) -> tuple[jax.Array, degrade.Parameters]:
        part = self.settings["degradation"]
        preset = degrade.load(degrade.name_for(part["preset"], self.images.modalities[index]))
        key = jax.random.fold_in(data.image_key(part["seed"], self.images.hashes[index]), number)
        # What `degrade.sample_and_apply` does, in two programs: `evaluation.consistency` needs the
        # second one as well.
        drawn, noise = jax.random.split(key)
        parameters = _sample(drawn, preset, jnp.float32(severity))
        return degrade.apply(noise, parameters, jnp.asarray(clean)), parameters

    def _swept(
        self, index: int, clean: np.ndarray, gain: float, noise: float, blur: float
    ) -> tuple[jax.Array, degrade.Parameters]:
        key = data.image_key(self.settings["sweep"]["seed"], self.images.hashes[index])
        parameters = {
            "exposure.gain": jnp.float32(gain),
            "gaussian_blur.sigma": jnp.float32(blur),
            "gaussian_noise.sigma": jnp.float32(noise),
        }
        return degrade.apply(key, parameters, jnp.asarray(clean)), parameters

    def _paired(self, index: int, clean: np.ndarray) -> tuple[np.ndarray, None]:
        low = self.images.low(index)
        assert low is not None  # a suite of pairs has them
        if low.shape != clean.shape:
            raise SuiteError(
                f"{self.images.names[index]}: the low-light image is {low.shape}, its truth "
                f"{clean.shape}; make them alike"
            )
        return low, None


@functools.partial(jax.jit, static_argnames="preset")
def _sample(key: jax.Array, preset: degrade.Preset, severity: jax.Array) -> degrade.Parameters:
    return degrade.sample(key, preset, (), severity)


def folder() -> Path:
    """The folder of the suites that come with the package."""
    return files.configs() / "evaluation"


def load(
    name_or_path: str, *, source: str | None = None, pairs: tuple[str, str] | None = None
) -> Suite:
    """Reads a suite by its name ("samples") or from a TOML file, and finds its images.

    Args:
      name_or_path: of the suite. Paths inside it are relative to the working directory.
      source: takes the place of images.source.
      pairs: takes the place of pairs.low and pairs.clean.

    Raises:
      SuiteError: if there is none, it is malformed, or it has no images.
      data.DataError, degrade.PresetError: (ValueErrors) for what it names.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = folder() / f"{name_or_path}.toml"
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in folder().glob("*.toml")))
        raise SuiteError(f"{name_or_path}: no such suite; expected a TOML file or one of {names}")
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path}: not TOML: {error}") from None
    _check(path, settings)
    if source is not None and "images" in settings:
        settings["images"]["source"] = source
    if pairs is not None and "pairs" in settings:
        settings["pairs"] = dict(zip(("low", "clean"), pairs, strict=True))
    if "pairs" in settings:
        return _load_pairs(path.stem, settings)
    part = settings["images"]
    every = part["role"] == "all"
    splits = data.load(part["source"], crop=1, needed=() if every else (part["role"],))
    roles = data.ROLES if every else (part["role"],)
    clean = functools.reduce(data.join, (getattr(splits, role) for role in roles))
    if not len(clean):
        raise SuiteError(f"{part['source']}: no image of it can be used")
    return Suite(path.stem, settings, clean, frozenset(clean.hashes), splits.rejected)


def load_all(
    names: Sequence[str], *, source: str | None = None, pairs: tuple[str, str] | None = None
) -> list[Suite]:
    """Reads suites by `load`, of which each option must apply to one at least.

    Raises:
      SuiteError: if an option applies to none, or as of `load`.
    """
    suites = [load(name, source=source, pairs=pairs) for name in names]
    kinds = {suite.kind for suite in suites}
    listed = ", ".join(names)
    if pairs is not None and "pairs" not in kinds:
        raise SuiteError(f"--pairs is for suites of pairs, not for {listed}; add --suite pairs")
    if source is not None and kinds == {"pairs"}:
        raise SuiteError(
            f"--source is for suites of clean images; {listed} has pairs, for which lle evaluate "
            "has --pairs LOW CLEAN"
        )
    return suites


def from_images(
    name: str,
    images: data.Images,
    *,
    preset: str,
    realisations: int,
    seed: int,
    rejected: Iterable[tuple[str, str]] = (),
) -> Suite:
    """A suite of images that are at hand, as a file's [degradation] would make it.

    Args:
      name: of the suite.
      images: the clean images.
      preset: as in a file, "by_modality" included.
      realisations: low-light versions of each image, at severity 1.
      seed: of the low-light images.
      rejected: (path, reason) of files that were skipped.

    Raises:
      degrade.PresetError: (a ValueError) if there is no such preset.
    """
    part = {"preset": preset, "realisations": realisations, "seed": seed, "severities": [1.0]}
    if realisations < 1:
        raise SuiteError(f"{name}: realisations is {realisations}; expected at least 1")
    for modality in dict.fromkeys(images.modalities):
        degrade.load(degrade.name_for(preset, modality))
    return Suite(name, {"degradation": part}, images, frozenset(images.hashes), tuple(rejected))


def from_pairs(
    name: str, images: data.Images, *, rejected: Iterable[tuple[str, str]] = ()
) -> Suite:
    """A suite of measured pairs that are at hand, each image with its low-light version.

    Args:
      name: of the suite.
      images: of pairs, as of `data.load`.
      rejected: (path, reason) of files that were skipped.
    """
    return Suite(name, {"pairs": {}}, images, frozenset(images.all_hashes), tuple(rejected))


def _check(path: Path, settings: dict[str, Any]) -> None:
    for name, section in settings.items():
        if name == "description":
            continue
        if name not in _SECTIONS or not isinstance(section, dict):
            raise SuiteError(f"{path}: {name!r} is not known{_nearest(name, _SECTIONS)}")
        _check_section(path, name, section)
    kinds = [kind for kind in ("degradation", "sweep", "pairs") if kind in settings]
    if len(kinds) != 1:
        raise SuiteError(f"{path}: it needs exactly one of [degradation], [sweep] and [pairs]")
    if ("images" in settings) == (kinds == ["pairs"]):
        raise SuiteError(f"{path}: [images] is for [degradation] and [sweep], which need it")
    for digest in settings.get("same_photographs", {}).get("sha256", ()):
        if not re.fullmatch("[0-9a-f]{64}", str(digest)):
            raise SuiteError(f"{path}: same_photographs.sha256 has {digest!r}; expected a SHA-256")
    if "images" in settings and settings["images"]["role"] not in (*data.ROLES, "all"):
        raise SuiteError(f"{path}: images.role must be one of {', '.join(data.ROLES)}, all")


def _check_section(path: Path, name: str, section: dict[str, Any]) -> None:
    types = _SECTIONS[name]
    for key, value in section.items():
        if (name, key) == ("degradation", "draws"):
            raise SuiteError(f"{path}: degradation.draws is now called realisations")
        if key not in types:
            raise SuiteError(f"{path}: {name}.{key} is not known{_nearest(key, types)}")
        if type(value).__name__ != types[key].__name__:  # a bool is no int
            raise SuiteError(f"{path}: {name}.{key} must be a {types[key].__name__}")
        if key in _RANGES:
            (low, high), values = _RANGES[key], value if types[key] is list else [value]
            known = all(type(v) in (int, float) and low <= v <= high for v in values)
            if values and known and len(set(values)) == len(values):
                continue
            raise SuiteError(
                f"{path}: {name}.{key} is {value}; expected different numbers in [{low}, {high}]"
            )
    missing = [key for key in types if key not in section]
    if missing:
        raise SuiteError(f"{path}: {name}.{missing[0]} is missing")


def _nearest(name: str, expected: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(expected), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; expected one of {', '.join(expected)}"


def _load_pairs(name: str, settings: dict) -> Suite:
    low, clean = (Path(settings["pairs"][key]) for key in ("low", "clean"))
    for root in (low, clean):
        if not root.is_dir():
            raise SuiteError(f"{root}: no such folder; give both with --pairs LOW CLEAN")
    matched, rejected = pairs.match(low, clean)
    if not matched:
        raise SuiteError(f"{low} and {clean} have no image of the same name")
    relative = [truth.relative_to(clean) for _, truth in matched]
    names = [images.stem(path).as_posix().replace("/", "_") for path in relative]
    if len({name.casefold() for name in names}) < len(names):  # they differ in their suffix
        names = [path.as_posix().replace("/", "_") for path in relative]
    if len({name.casefold() for name in names}) < len(names):
        raise SuiteError(f"{clean}: names of images differ in case or folder only; rename them")
    low_hashes, hashes = (tuple(images.sha256(pair[side]) for pair in matched) for side in range(2))
    listed = data.Images(
        tuple(names),
        hashes,
        ((0, 0),) * len(matched),
        tuple(functools.partial(_read, truth) for _, truth in matched),
        low_loaders=tuple(functools.partial(_read, dark) for dark, _ in matched),
        low_hashes=low_hashes,
    )
    return Suite(name, settings, listed, frozenset(listed.all_hashes), tuple(rejected))


def _read(path: Path) -> np.ndarray:
    return still(images.read(path))
