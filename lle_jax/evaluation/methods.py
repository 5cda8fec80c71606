"""What a suite judges: networks, classical baselines, and other people's output images.

A method is named by a string:

    low                     the input itself
    clahe, gamma+nlm, ...   a classical baseline
    released                the model that comes with lle_jax
    runs/unet               a run directory (moving-average weights of the last checkpoint)
    model/                  a release, as of tools/release.py
    NAME=FOLDER             images that somebody else's system made of the suite's inputs
"""

import contextlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from lle_jax import classical, images, models
from lle_jax.evaluation.suite import Case
from lle_jax.inference import release
from lle_jax.training import loop
from lle_jax.training.checkpoints import Checkpoints


class MethodError(ValueError):
    """A method cannot be judged as asked; the message says what to change."""


class Method(NamedTuple):
    """A way of enhancing images.

    Attributes:
      name: in tables.
      of_case: what it makes of a case, `[H, W, C]`.
      of_image: what it makes of any image; None for outputs in a folder.
      record: what it is, for the record: kind, step, SHA-256.
      trained_on: SHA-256 of the images it was trained on; None where nobody knows.
      validated_on: of those it was validated on while training.
    """

    name: str
    of_case: Callable[[Case], np.ndarray]
    of_image: Callable[[np.ndarray], np.ndarray] | None
    record: dict[str, Any]
    trained_on: frozenset[str] | None = frozenset()
    validated_on: frozenset[str] = frozenset()


def load(text: str) -> Method:
    """The method that a string names; see the module.

    Raises:
      MethodError: if it names none.
      CheckpointError, ReleaseError: (ValueErrors) if its files are unsound.
    """
    if text == "low":
        return _function("low", lambda low: low, {"kind": "input"})
    if text in classical.METHODS:
        return _function(text, classical.METHODS[text], {"kind": "classical"})
    name, equals, folder = text.partition("=")
    if equals:
        return _outputs(name, Path(folder))
    path = release.SHIPPED if text == "released" else Path(text)
    if (path / "checkpoints").is_dir():
        return _run(path)
    if text == "released" or (path / "release.json").exists():
        return _release(text, path)
    if path.is_dir():
        raise MethodError(
            f"{text}: neither a run directory (checkpoints/) nor a release (release.json); for a "
            f"folder of output images write NAME={text}"
        )
    known = ", ".join(("low", *classical.METHODS, "released"))
    raise MethodError(f"{text}: no such method; expected a folder, NAME=FOLDER, or one of {known}")


def unique(found: Iterable[Method]) -> list[Method]:
    """The methods under names that differ: a number is added to a name that comes again."""
    taken: dict[str, int] = {}
    result = []
    for method in found:
        number = taken[method.name] = taken.get(method.name, 0) + 1
        result.append(method._replace(name=f"{method.name} {number}") if number > 1 else method)
    return result


def _function(name: str, enhance: Callable, record: dict, **known) -> Method:
    return Method(name, lambda case: enhance(case.low), enhance, record, **known)


def _run(path: Path) -> Method:
    try:
        config = ml_collections.ConfigDict(json.loads((path / "config.json").read_text()))
    except (OSError, ValueError):
        raise MethodError(f"{path / 'config.json'}: missing or damaged") from None
    setup = loop.prepare(config)
    with Checkpoints((path / "checkpoints").absolute()) as checkpoints:
        if checkpoints.latest() is None:
            raise MethodError(f"{path}: no checkpoint yet; train first")
        state, _ = checkpoints.restore(setup.state)
    known = {}
    with contextlib.suppress(OSError, ValueError):  # an older run: that nobody knows is stamped
        known = json.loads((path / "data.json").read_text())
    record = {"kind": "run", "step": int(state.step), "model": config.model.to_dict()}
    return _network(path.resolve().name, setup.apply, state.ema, record, known)


def _release(text: str, path: Path) -> Method:
    config, params = release.load(path)
    record = {"kind": "release", "sha256": release.digest(path), "model": config.to_dict()}
    apply = models.build(config, jax.random.key(0))[0]
    known = json.loads((path / "config.json").read_text())["record"].get("images", {})
    name = text if text == "released" else path.resolve().name
    return _network(name, apply, params, record, known)


def _network(name: str, apply: models.Apply, params, record: dict, known: dict) -> Method:
    compiled = jax.jit(apply)

    def enhance(low: np.ndarray) -> np.ndarray:
        return np.asarray(compiled(params, low))

    trained_on = frozenset(known["train"]) if "train" in known else None
    validated_on = frozenset(known.get("validation", ()))
    return _function(name, enhance, record, trained_on=trained_on, validated_on=validated_on)


def _outputs(name: str, folder: Path) -> Method:
    if not name or not folder.is_dir():
        raise MethodError(f"{name}={folder}: expected NAME=FOLDER with an existing folder")
    files = {path.stem: path for path in images.find(folder)}

    def read(case: Case) -> np.ndarray:
        if case.label not in files:
            raise MethodError(
                f"{folder}: no output for {case.label}; the inputs to enhance, under their names, "
                "come from lle evaluate --inputs"
            )
        pixels = images.read(files[case.label]).pixels
        if pixels.shape[:2] != case.clean.shape[:2]:
            raise MethodError(
                f"{files[case.label]}: {pixels.shape[:2]} pixels; expected {case.clean.shape[:2]}"
            )
        if pixels.shape[-1] < case.clean.shape[-1]:
            pixels = np.broadcast_to(pixels, case.clean.shape)
        if pixels.shape[-1] > case.clean.shape[-1]:
            if not (pixels == pixels[..., :1]).all():
                raise MethodError(f"{files[case.label]}: in colour; the truth is grey")
            pixels = pixels[..., :1]
        return pixels

    digest = {"kind": "outputs", "files": len(files)}
    return Method(name, read, None, digest, trained_on=None)


def overlap(method: Method, hashes: frozenset[str]) -> list[str]:
    """What must be said of a method's acquaintance with a suite's images, "trained ..." first."""
    notes = []
    if method.trained_on is None:
        notes.append("training images not recorded: whether it saw these images is not known")
    elif seen := len(method.trained_on & hashes):
        notes.append(f"trained on {seen} of the suite's {len(hashes)} images")
    if seen := len(method.validated_on & hashes):
        notes.append(
            f"validated on {seen} of the suite's {len(hashes)} images while training: settings "
            "may have been chosen on them"
        )
    return notes
