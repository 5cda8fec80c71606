"""Methods to evaluate: networks, classical baselines, other systems' output images.

A method is named by a string:

    low                     the input itself
    clahe, gamma+nlm, ...   a classical baseline
    released                the model that is bundled with lle_jax
    runs/unet               a run directory (moving-average weights of the last checkpoint)
    model/                  a release, as of `lle release`
    NAME=FOLDER             images that somebody else's system made of the suite's inputs
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lle_jax import classical, images, models
from lle_jax.checkpoints import release
from lle_jax.checkpoints.load import load_model
from lle_jax.evaluation.suite import Case
from lle_jax.files import combined_sha256
from lle_jax.inference import enhance, tiles

# Names that mean something in every evaluation: the input, the truth and the baselines.
RESERVED = ("low", "clean", *classical.METHODS)


class MethodError(ValueError):
    """A method cannot be evaluated as asked; the message says what to change."""


class Method(NamedTuple):
    """A way of enhancing images.

    Attributes:
      name: in tables.
      enhance_case: what it makes of a case, `[H, W, C]`.
      enhance_image: what it makes of any image; None for outputs in a folder.
      record: what it is, for the record: kind, step, SHA-256.
      training_hashes: SHA-256 of the images it is known to have been trained on.
      validation_hashes: of those it was validated on while training.
      complete: whether these are all; False for weights from elsewhere.
    """

    name: str
    enhance_case: Callable[[Case], np.ndarray]
    enhance_image: Callable[[np.ndarray], np.ndarray] | None
    record: dict[str, Any]
    training_hashes: frozenset[str] = frozenset()
    validation_hashes: frozenset[str] = frozenset()
    complete: bool = True


def load(text: str) -> Method:
    """Loads the method that a string names; see the module.

    Raises:
      MethodError: if it names none.
      CheckpointError, ReleaseError: (ValueErrors) if its files are unsound.
    """
    if text == "low":
        return _function("low", lambda low: low, {"kind": "input"})
    if text in classical.METHODS:
        return _function(text, classical.METHODS[text], {"kind": "classical"})
    path = Path(text)
    name, equals, folder = text.partition("=")
    if equals and not path.is_dir():  # runs/lr=1e-4 is a path
        return _outputs(name, Path(folder))
    if text == "released":
        return _network(text, release.BUNDLED)
    if (path / "checkpoints").is_dir() or (path / "release.json").exists():
        name = path.resolve().name
        if name in RESERVED:
            raise MethodError(f"{text}: {name!r} is {_meaning(name)}'s name; rename the folder")
        return _network(name, path)
    if path.is_dir():
        raise MethodError(
            f"{text}: neither a run directory (checkpoints/) nor a release (release.json); for a "
            f"folder of output images write NAME={text}"
        )
    valid = ", ".join(("low", *classical.METHODS, "released"))
    raise MethodError(f"{text}: no such method; expected a folder, NAME=FOLDER, or one of {valid}")


def unique(methods: Iterable[Method]) -> list[Method]:
    """Renames methods to be unique: a number is added to a repeated name."""
    methods = list(methods)
    given = {method.name for method in methods}
    taken: dict[str, Method] = {}
    for method in methods:
        name, number = method.name, 1
        while name in taken or (number > 1 and name in given):
            number += 1
            name = f"{method.name} {number}"
        taken[name] = method._replace(name=name)
    return list(taken.values())


def _meaning(name: str) -> str:
    return {"low": "the input", "clean": "the truth"}.get(name, "a baseline")


def from_network(
    name: str,
    model_config: Any,
    params: Any,
    record: dict[str, Any],
    training_hashes: Iterable[str] = (),
    validation_hashes: Iterable[str] = (),
    complete: bool = True,
) -> Method:
    """Makes a method of a network with parameters in memory.

    Args:
      name: in tables.
      model_config: as of `models.build`, a ConfigDict.
      params: of the network.
      record: what it is; the model's config and the SHA-256 of its parameters are added.
      training_hashes: SHA-256 of the images it was trained on.
      validation_hashes: of those it was validated on while training.
      complete: whether these are all.
    """
    return _function(
        name,
        _enhanced_by(model_config, params),
        record | {"model": model_config.to_dict(), "parameters": _digest(params)},
        training_hashes=frozenset(training_hashes),
        validation_hashes=frozenset(validation_hashes),
        complete=complete,
    )


def _enhanced_by(model_config: Any, params: Any) -> Callable[[np.ndarray], np.ndarray]:
    """As `lle enhance` does by default, where the network can tell how much an image needs."""
    if models.is_tiled(model_config):
        net = tiles.network(model_config, params)
        return lambda low: enhance.enhance_pixels(net, low)[0]
    compiled = jax.jit(models.forward(model_config))
    return lambda low: np.asarray(compiled(params, low))


def _digest(params: Any) -> str:
    """Identifies parameters: a run trained anew to the same step is another method."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _function(name: str, enhance: Callable, record: dict, **known) -> Method:
    return Method(name, lambda case: enhance(case.low), enhance, record, **known)


def _network(name: str, folder: Path) -> Method:
    loaded = load_model(folder)
    provenance = loaded.provenance
    return from_network(
        name,
        loaded.config,
        loaded.params,
        provenance.record,
        provenance.training_hashes,
        provenance.validation_hashes,
        provenance.complete,
    )


def _files_of_cases(folder: Path) -> dict[str, Path]:
    """Lists the images in a folder by the name of their case: their own without its last suffix.

    The copy "scan.webp.png" is of the case "scan.webp" where there is one, else of "scan".

    Raises:
      MethodError: if two files are of one case.
    """
    files: dict[str, Path] = {}
    stems: dict[str, list[Path]] = {}
    for path in images.find(folder):
        stem = images.stem(Path(path.name)).name
        name = path.name.removesuffix(path.suffix) if path.name != stem else stem
        if name in files:
            raise MethodError(
                f"{files[name]} and {path} are both of case {name!r}; keep one of them"
            )
        files[name] = path
        stems.setdefault(stem, []).append(path)
    return {stem: paths[0] for stem, paths in stems.items() if len(paths) == 1} | files


def _outputs(name: str, folder: Path) -> Method:
    if not name or not folder.is_dir():
        raise MethodError(f"{name}={folder}: expected NAME=FOLDER with an existing folder")
    if name in RESERVED:
        raise MethodError(
            f"{name}={folder}: {name!r} is {_meaning(name)}'s name; choose another, as my_{name}="
        )
    files = _files_of_cases(folder)

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

    digests = ((label, images.sha256(path)) for label, path in sorted(files.items()))
    record = {"kind": "outputs", "files": len(files), "sha256": combined_sha256(digests)}
    return Method(name, read, None, record, complete=False)


def overlap(
    method: Method, hashes: frozenset[str], same_photographs: frozenset[str] = frozenset()
) -> list[str]:
    """Describes the overlap of a method's training and validation images with a suite's.

    Args:
      method: in question.
      hashes: SHA-256 of the suite's files.
      same_photographs: of other files of the same photographs.
    """
    notes = []
    if not method.complete:
        notes.append("training images not recorded: whether it saw these images is not known")
    copies = same_photographs - hashes
    for use, known, remark in (
        ("trained", method.training_hashes, ""),
        (
            "validated",
            method.validation_hashes,
            " while training: settings may have been chosen on them",
        ),
    ):
        if common := len(known & hashes):
            notes.append(f"{use} on {common} of the suite's {len(hashes)} images{remark}")
        if common := len(known & copies):
            notes.append(f"{use} on {common} other files of the suite's photographs{remark}")
    return notes
