"""A released model: a folder of plain files that can be checked, read and served without Orbax.

params.npz     the parameters by name, float16 or float32 arrays; nothing is ever unpickled
config.json    {"model": the network's configuration, "record": how it was trained}
CARD.md        what it is, for people
release.json   SHA-256 of the other files; written last, so that a folder without it is no release
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import nnx

from lle_jax import checks, files, models
from lle_jax.checkpoints.legacy import upgrade_model_config, upgrade_params
from lle_jax.models.params import named

BUNDLED = Path(__file__).resolve().parents[1] / "released"
_FILES = ("params.npz", "config.json", "CARD.md")
_FORMAT = 1


class ReleaseError(ValueError):
    """A folder is not a sound release; the message names what is wrong and the remedy."""


def save(
    folder: Path,
    config: ml_collections.ConfigDict,
    params: nnx.State,
    record: Mapping[str, Any],
    *,
    dtype: str = "float32",
    card: str | None = None,
    shapes: Callable[[ml_collections.ConfigDict], nnx.State] = models.shapes,
) -> None:
    """Writes a release; one that was in the folder before is replaced.

    Args:
      folder: made if it does not exist.
      config: of the network, as for `models.build`.
      params: its parameters.
      record: how it was trained, and on what; anything JSON can hold.
      dtype: to store the parameters in, "float32" or "float16" (half the size, 11 bits).
      card: the text of CARD.md; None makes one of the configuration and the record.
      shapes: the network's parameters as shapes, from its config.

    Raises:
      ReleaseError: if the parameters are not those of the network, are not finite, or do not fit
        float16; or if the folder holds anything but a release.
      OSError: if the folder cannot be written.
    """
    if dtype not in ("float32", "float16"):
        raise ReleaseError(f"dtype is {dtype!r}; expected float32 or float16")
    arrays: dict[str, Any] = {name: np.asarray(leaf) for name, leaf in named(params)}
    _check(arrays, shapes(config), "params")
    with np.errstate(over="ignore"):  # checked here
        arrays = {name: array.astype(dtype) for name, array in arrays.items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ReleaseError(f"{name} holds NaN, infinity or numbers that {dtype} cannot hold")
    sink = io.BytesIO()
    np.savez(sink, **arrays)
    description = {"model": json.loads(config.to_json_best_effort()), "record": dict(record)}
    contents = {
        "params.npz": sink.getvalue(),
        "config.json": (json.dumps(description, indent=2) + "\n").encode(),
        "CARD.md": (card or _card(description, arrays)).encode(),
    }
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if {path.name for path in folder.iterdir()} - {*contents, "release.json"}:
        raise ReleaseError(f"{folder}: holds other files; choose another folder for the release")
    (folder / "release.json").unlink(missing_ok=True)
    for name, data in contents.items():
        files.write_bytes(folder / name, data)
    text = json.dumps({"format": _FORMAT, "sha256": digests}, indent=2) + "\n"
    files.write_bytes(folder / "release.json", text.encode())


def load(
    folder: Path | None = None,
    shapes: Callable[[ml_collections.ConfigDict], nnx.State] = models.shapes,
) -> tuple[ml_collections.ConfigDict, nnx.State]:
    """Reads a release after checking it: its digests, its arrays' names and shapes.

    Args:
      folder: of the release; None takes the one that is bundled with lle_jax.
      shapes: the network's parameters as shapes, from its config.

    Returns:
      the network's configuration, as for `models.build`, and its parameters, float32.

    Raises:
      ReleaseError: if there is no release or something about it is wrong; names the first.
    """
    folder = BUNDLED if folder is None else Path(folder)
    expected_digests = digests(folder)
    data = {name: _read(folder, name) for name in _FILES}
    for name in _FILES:
        if hashlib.sha256(data[name]).hexdigest() != expected_digests.get(name):
            raise ReleaseError(
                f"{folder / name}: its SHA-256 is not the one in release.json, so the file is "
                "damaged or was changed; copy the release again"
            )
    try:
        model = json.loads(data["config.json"])["model"]
        config = ml_collections.ConfigDict(upgrade_model_config(model))
        expected = shapes(config)
    except checks.ConfigError as error:
        raise ReleaseError(f"{folder / 'config.json'}: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ReleaseError(
            f"{folder / 'config.json'}: no description of a network; copy the release again"
        ) from None
    arrays = _arrays(data["params.npz"], folder / "params.npz", models.parameter_count(expected))
    arrays = upgrade_params(arrays)
    _check(arrays, expected, folder / "params.npz")
    # converted by NumPy, since JAX would compile a program for each shape
    leaves = jax.device_put([arrays[name].astype(np.float32) for name, _ in named(expected)])
    return config, jax.tree.unflatten(jax.tree.structure(expected), leaves)


def record(folder: Path) -> dict[str, Any]:
    """Returns how a release was made, from its config.json; {} where that cannot be read."""
    try:
        return dict(json.loads((folder / "config.json").read_text(encoding="utf-8"))["record"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def digest(folder: Path | None = None) -> str:
    """Identifies a release: SHA-256 of its files' digests; raises ReleaseError if there is none."""
    content = digests(BUNDLED if folder is None else Path(folder))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """Reads the SHA-256 of a release's files by name; raises ReleaseError if there is none."""
    path = folder / "release.json"
    if not path.is_file():
        if folder == BUNDLED:
            raise ReleaseError(
                "no model is bundled with this copy of lle_jax; train one (see README), make a "
                "release of it with lle release RUN -o FOLDER, and give that FOLDER as the model"
            )
        raise ReleaseError(f"{folder}: no released model (release.json) there; check the path")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        number, by_name = content["format"], dict(content["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ReleaseError(f"{path}: damaged; copy the release again") from None
    if number != _FORMAT:
        raise ReleaseError(f"{path}: format {number!r}, not {_FORMAT}; install a newer lle_jax")
    return by_name


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise ReleaseError(
            f"{folder / name}: {error.strerror}; a release needs {', '.join(_FILES)}"
        ) from None


def _arrays(data: bytes, path: Path, count: int) -> dict[str, np.ndarray]:
    """Reads the arrays of an .npz; `count`, the largest number of values, bounds the memory."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size > 4 * count + 1024 * len(archive.infolist()):
                raise ReleaseError(
                    f"{path}: {size} bytes are too many for {count} parameters; do not trust it"
                )
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except ReleaseError:
        raise
    except Exception:  # whatever a damaged archive can raise
        raise ReleaseError(f"{path}: not a file of plain arrays; copy the release again") from None


def _check(arrays: Mapping[str, np.ndarray], declared: nnx.State, where) -> None:
    """Raises ReleaseError unless names, shapes and dtypes are those of the network."""
    expected = {name: leaf.shape for name, leaf in named(declared)}
    for name in sorted(expected.keys() | arrays.keys()):
        if name not in arrays:
            raise ReleaseError(f"{where}: {name} is missing; it belongs to another network")
        if name not in expected:
            raise ReleaseError(f"{where}: {name} is unexpected; it belongs to another network")
        array = arrays[name]
        if array.shape != expected[name] or array.dtype not in (np.float16, np.float32):
            raise ReleaseError(
                f"{where}: {name} is {array.dtype} {array.shape}; expected float16 or float32 "
                f"{expected[name]}"
            )


_ENHANCES = (
    "Enhances low-light images; it may remove or invent detail, so keep the original with each "
    "output"
)
_PURPOSE = {"segmenter": "Segments medical images, to evaluate or train enhancement"}


def _card(description: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    model, record = description["model"], description["record"]
    count = sum(array.size for array in arrays.values())
    rows = "".join(f"| {key} | {value} |\n" for key, value in record.items() if key != "images")
    return (
        f"# {model['name']}, {count:,} parameters\n\n"
        f"{_PURPOSE.get(model['name'], _ENHANCES)}; made with lle_jax. "
        "Research software, not a medical device.\n\n"
        "| network | |\n|---|---|\n"
        + "".join(f"| {key} | {value} |\n" for key, value in model.items())
        + ("\n| training | |\n|---|---|\n" + rows if rows else "")
    )
