"""Presets: which artifacts a modality has and how strong they are, as data in TOML files.

A file has a `description` and a table per stage, in any order; stages without a table do not occur:

    [exposure]
    probability = 0.9                    # that the artifact occurs at all; default 1
    gain.loguniform = [0.05, 0.4]        # or uniform = [low, high], choice = [a, b, c],
    gain.source = "chosen: ..."          # normal = [mean, std, low, high], fixed = 0.2,
                                         # lognormal = [median, std of the log, low, high]

Every parameter says in `source` where its range comes from.
"""

import dataclasses
import difflib
import os
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

from lle_jax import files
from lle_jax.degrade.stages import APPROXIMATE, STAGES, ParameterSpec, has_approximation

BY_MODALITY = "by_modality"


class PresetError(ValueError):
    """A preset does not exist or is malformed; the message names file, line and remedy."""


@dataclasses.dataclass(frozen=True)
class Distribution:
    """`kind` is fixed, uniform, loguniform, choice, or, truncated, normal or lognormal.

    `values` are as in TOML.
    """

    kind: str
    values: tuple[float, ...]


_LENGTHS = {"fixed": 1, "uniform": 2, "loguniform": 2, "normal": 4, "lognormal": 4, "choice": None}


@dataclasses.dataclass(frozen=True)
class StageDistribution:
    """One artifact of a preset: how often it occurs and how its parameters are distributed."""

    name: str
    probability: float
    parameters: tuple[tuple[str, Distribution], ...]


@dataclasses.dataclass(frozen=True)
class Preset:
    """The artifacts of a modality, in the order of the chain; hashable, so static under jit."""

    name: str
    description: str
    stages: tuple[StageDistribution, ...]


def folder() -> Path:
    """The folder of the presets that come with the package."""
    return files.configs() / "degradation"


def names() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(path.stem for path in folder().glob("*.toml"))


def name_for(name: str, modality: str) -> str:
    """The preset that `name` means for images of a modality.

    "by_modality" means that of the modality, "lowlight" where it has none; others are for all.
    """
    if name != BY_MODALITY:
        return name
    return modality if modality in names() else "lowlight"


def load(name_or_path: str | os.PathLike) -> Preset:
    """Reads a preset by its name ("endoscopy") or from a TOML file ("my/preset.toml").

    Raises:
      PresetError: (a ValueError) if there is none, or naming file, line and the nearest valid key
        if it is malformed.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        if str(name_or_path) not in names():
            raise PresetError(
                f"no preset {str(name_or_path)!r}{nearest(str(name_or_path), names())}; or give "
                "the path of a .toml file"
            )
        path = folder() / f"{name_or_path}.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise PresetError(f"{path}: {reason}; check the preset's path") from None
    return parse(text, str(path))


def parse(text: str, file: str = "preset") -> Preset:
    """Parses the text of a preset; `file` is its name in errors. Raises as `load`."""
    try:
        tables = tomllib.loads(text)
    except RecursionError:
        raise PresetError(f"{file}:1: not a preset: nested too deeply") from None
    except ValueError as error:  # a TOMLDecodeError, or of an integer of thousands of digits
        line = re.search(r"at line (\d+)", str(error))
        number = int(line[1]) if line else text.count("\n") + 1
        raise PresetError(f"{file}:{number}: not TOML: {error}") from None
    return _Reader(text, file).preset(tables)


def to_toml(stage: StageDistribution, source: Callable[[str], str]) -> str:
    """Writes a stage's section, as `parse` reads it.

    Args:
      stage: of a preset.
      source: of a parameter's name, where its values come from.
    """
    section = stage.name.removeprefix(APPROXIMATE)
    lines = [f"[{section}]"]
    if section != stage.name:
        lines.append("exact = false")
    if stage.probability < 1:
        lines.append(f"probability = {stage.probability:g}")
    for name, distribution in stage.parameters:
        values = ", ".join(f"{value:g}" for value in distribution.values)
        values = values if distribution.kind == "fixed" else f"[{values}]"
        lines.append(f"{name}.{distribution.kind} = {values}")
        lines.append(f'{name}.source = "{source(name)}"')
    return "\n".join(lines) + "\n"


class _Reader:
    """Checks parsed TOML against STAGES; knows the text, to name lines."""

    def __init__(self, text: str, file: str):
        self.lines = text.splitlines()
        self.file = file

    def preset(self, tables: dict) -> Preset:
        description = tables.pop("description", "")
        if not isinstance(description, str):
            self.fail(("description",), "must be a string")
        sections = [name for name in STAGES if not name.startswith(APPROXIMATE)]
        self.refuse_unknown(tables, sections, ())
        stages = [self.stage(name, tables[name]) for name in sections if name in tables]
        if not stages:
            raise PresetError(f"{self.file}:1: no stage; add one of {', '.join(sections)}")
        return Preset(Path(self.file).stem, description, tuple(stages))

    def stage(self, name: str, table: dict) -> StageDistribution:
        if not isinstance(table, dict):
            self.fail((name,), f"must be a table; write [{name}]")
        table = dict(table)
        probability = table.pop("probability", 1.0)
        if not _is_number(probability) or not 0 <= probability <= 1:
            self.fail((name, "probability"), f"is {probability}; expected a number in [0, 1]")
        exact = table.pop("exact", None)
        if exact is not None and not (has_approximation(name) and isinstance(exact, bool)):
            valid = ", ".join(filter(has_approximation, STAGES))
            self.fail((name, "exact"), f"is an option of {valid}, true or false")
        specs = STAGES[name].parameters
        self.refuse_unknown(table, specs, (name,))
        missing = [key for key in specs if key not in table]
        if missing:
            self.fail((name,), f"lacks {', '.join(missing)}")
        parameters = tuple(
            (key, self.distribution((name, key), table[key], specs[key])) for key in specs
        )
        stored = f"{APPROXIMATE}{name}" if exact is False else name
        return StageDistribution(stored, float(probability), parameters)

    def distribution(self, path: tuple[str, ...], value, spec: ParameterSpec) -> Distribution:
        value = {"fixed": value} if not isinstance(value, dict) else dict(value)
        if not isinstance(value.pop("source", ""), str):
            self.fail((*path, "source"), "must be a string")
        self.refuse_unknown(value, _LENGTHS, path)
        if len(value) != 1:
            self.fail(path, f"needs exactly one of {', '.join(_LENGTHS)}")
        ((kind, numbers),) = value.items()
        path = (*path, kind)
        numbers = numbers if isinstance(numbers, list) else [numbers]
        expected = _LENGTHS[kind] or max(len(numbers), 1)
        if not all(map(_is_number, numbers)) or len(numbers) != expected:
            self.fail(path, f"is {numbers}; expected {expected} finite number(s)")
        normal = kind in ("normal", "lognormal")
        bounds = numbers[2:] if normal else numbers
        if kind != "choice" and bounds[0] > bounds[-1]:
            self.fail(path, f"is an empty range: low {bounds[0]} > high {bounds[-1]}")
        if min(bounds) < spec.low or max(bounds) > spec.high:
            self.fail(path, f"is {bounds}; expected numbers in [{spec.low}, {spec.high}]")
        if kind == "loguniform" and bounds[0] <= 0:
            self.fail(path, f"starts at {bounds[0]}; a logarithm needs a number > 0")
        if kind == "lognormal" and min(numbers[0], bounds[0]) <= 0:
            self.fail(path, f"is {numbers}; the median and the range must be > 0")
        if normal and numbers[1] <= 0:
            self.fail(path, f"has the standard deviation {numbers[1]}; expected a number > 0")
        return Distribution(kind, tuple(map(float, numbers)))

    def refuse_unknown(self, table: dict, valid, path: tuple[str, ...]) -> None:
        for key in table:
            if key not in valid:
                self.fail((*path, key), f"is not known{nearest(key, valid)}")

    def fail(self, path: tuple[str, ...], problem: str):
        raise PresetError(f"{self.file}:{self.line(path)}: {'.'.join(path)} {problem}")

    def line(self, path: tuple[str, ...]) -> int:
        """The first line that sets `path`, or as much of its beginning as any line does."""
        header: tuple[str, ...] = ()
        best, deepest = 1, 0
        for number, line in enumerate(self.lines, 1):
            match = re.match(r"\s*\[([^\]]+)\]|\s*([\w.\"'-]+(?:\s*\.\s*[\w\"'-]+)*)\s*=", line)
            if not match:
                continue
            parts = re.sub(r"[\s\"']", "", match[1] or match[2]).split(".")
            full = (*(() if match[1] else header), *parts)
            if match[1]:
                header = full
            depth = max(n for n in range(len(path) + 1) if full[:n] == path[:n])
            if depth > deepest:
                best, deepest = number, depth
        return best


def _is_number(value) -> bool:
    # an integer may be larger than any float, which isfinite does not take
    largest = sys.float_info.max
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= largest


def nearest(key: str, valid) -> str:
    """Names what was meant, or all that is valid."""
    close = difflib.get_close_matches(key, list(valid), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; expected one of {', '.join(valid)}"
