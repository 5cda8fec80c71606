"""Predictors that find what a clinician looks for; `vessels`, of the retina, comes with lle_jax.

A predictor is a small U-Net trained by tools/train_tasks.py on clean images only, so that what it
misses in a low-light image is what the light hid. It measures images and is no medical device;
docs/tasks.md says how good it is.

A file `name.npz` holds the parameters in float16 by path, `name.json` beside it the record: SHA-256
of the parameters, network, threshold, data, licence, training.
"""

import dataclasses
import functools
import io
import itertools
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lle_jax import checks, files
from lle_jax.models import layers

FOLDER = Path(__file__).resolve().parent / "weights"


class PredictorError(ValueError):
    """The files of a predictor cannot be used; the message says which and what to do."""


class Segmenter(nnx.Module):
    """U-Net (Ronneberger, Fischer and Brox, arXiv:1505.04597): image to the logit of each pixel.

    Args:
      widths: channels of each level, from fine to coarse; each level halves the resolution.
      reduce: the image is averaged over squares of this side first, for objects that are large.
      fold: squares of this side are then folded into channels, which saves time, not detail.
      rngs: initialises the parameters.
    """

    def __init__(self, *, widths: tuple[int, ...], reduce: int, fold: int, rngs: nnx.Rngs):
        kwargs = {"dtype": jnp.float32, "rngs": rngs}
        self.reduce, self.fold = reduce, fold
        self.multiple = reduce * fold * 2 ** (len(widths) - 1)
        coarser = list(itertools.pairwise(widths))
        block = functools.partial(layers.ResidualBlock, **kwargs)
        self.stem = layers.Conv3x3(3 * fold**2, widths[0], **kwargs)
        self.encoder = nnx.List([block(width) for width in widths])
        self.down = nnx.List([nnx.Conv(a, b, (2, 2), strides=2, **kwargs) for a, b in coarser])
        self.up = nnx.List([nnx.Linear(b, 4 * a, **kwargs) for a, b in coarser])
        self.merge = nnx.List([nnx.Linear(2 * a, a, **kwargs) for a, _ in coarser])
        self.decoder = nnx.List([block(width) for width in widths[:-1]])
        self.head = layers.Conv3x3(widths[0], fold**2, **kwargs)

    def __call__(self, image: jax.Array) -> jax.Array:
        """`[B, H, W, 3]` in [0, 1], any H and W -> logits `[B, H, W]`, float32."""
        batch, height, width, _ = image.shape
        x = layers.pad_to_multiple(image.astype(jnp.float32), self.multiple)
        padded = x.shape[1:3]
        small = (padded[0] // self.reduce, padded[1] // self.reduce)
        x = x.reshape(batch, small[0], self.reduce, small[1], self.reduce, 3).mean(axis=(2, 4))
        x = self.stem(layers.space_to_depth(4 * x - 2, self.fold))
        skips = []
        for block, down in zip(self.encoder, self.down, strict=False):  # the last has no way down
            x = block(x)
            skips.append(x)
            x = down(x)
        x = self.encoder[-1](x)
        for up, merge, block, skip in reversed(
            list(zip(self.up, self.merge, self.decoder, skips, strict=True))
        ):
            x = layers.depth_to_space(up(x), 2)
            x = block(merge(jnp.concatenate([x, skip], axis=-1)))
        x = layers.depth_to_space(self.head(x), self.fold)
        x = jax.image.resize(x, (batch, *padded, 1), "linear")
        return x[:, :height, :width, 0]


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A callable `[H, W, C]` in [0, 1] -> probabilities `[H, W]`, float32.

    Attributes:
      name: of its files.
      threshold: probabilities above it count as found; chosen on validation images.
      record: all that the sidecar says.
    """

    name: str
    threshold: float
    record: dict[str, Any]
    apply: Callable[[jax.Array], jax.Array]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        image = checks.image(image)
        if image.ndim != 3:
            raise ValueError(f"image has shape {image.shape}; expected [H, W, C]")
        return np.asarray(self.apply(image))


def declare(network: dict[str, Any]) -> tuple[nnx.GraphDef, nnx.State]:
    """The structure of a network, and its parameters as shapes and dtypes."""

    def make() -> Segmenter:
        return Segmenter(**network, rngs=nnx.Rngs(0))

    return nnx.split(nnx.eval_shape(make), nnx.Param)


def _by_path(params: nnx.State) -> dict[str, Any]:
    """The leaves by their path, such as "stem/kernel/value", in the order of the tree."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def save(folder: Path, name: str, params: nnx.State, record: dict[str, Any]) -> None:
    """Writes `name.npz` and, with its SHA-256 added to `record`, `name.json`.

    Raises:
      ValueError: if a parameter is too large for float16.
    """
    with np.errstate(over="ignore"):  # refused by name instead
        arrays = {path: np.asarray(value, np.float16) for path, value in _by_path(params).items()}
    for path, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: {path} is not finite in float16; train with a lower rate")
    sink = io.BytesIO()
    np.savez_compressed(sink, **arrays)
    files.write_bytes(folder / f"{name}.npz", sink.getvalue())
    record = {"sha256": files.sha256(folder / f"{name}.npz"), **record}
    files.write_bytes(folder / f"{name}.json", (json.dumps(record, indent=2) + "\n").encode())


def shipped() -> list[str]:
    """Names of the predictors that come with lle_jax."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load(name: str, folder: Path = FOLDER) -> Predictor:
    """Reads a predictor: "vessels", or one of your own from another folder.

    Raises:
      PredictorError: if a file is missing, damaged, or its parameters do not fit the network.
    """
    record = _record(folder / f"{name}.json")
    path = folder / f"{name}.npz"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PredictorError(f"{path}: {error.strerror}; install lle_jax again") from None
    if files.sha256(path) != record["sha256"]:
        raise PredictorError(
            f"{path}: damaged, its SHA-256 is not that of {name}.json; install lle_jax again"
        )
    network = {**record["network"], "widths": tuple(record["network"]["widths"])}
    graph, expected = declare(network)
    arrays = _arrays(path, data)
    shapes = {key: leaf.shape for key, leaf in _by_path(expected).items()}
    if {key: array.shape for key, array in arrays.items()} != shapes:
        raise PredictorError(f"{path}: its parameters are not those of the network in {name}.json")
    leaves = [jnp.asarray(arrays[key], jnp.float32) for key in shapes]
    params = jax.tree.unflatten(jax.tree.structure(expected), leaves)
    return Predictor(name, float(record["threshold"]), record, probabilities(graph, params))


def probabilities(graph: nnx.GraphDef, params: nnx.State) -> Callable[[jax.Array], jax.Array]:
    """`[H, W, C] -> [H, W]`, compiled for each size; grey images count as three equal channels."""

    @jax.jit
    def run(params: nnx.State, image: jax.Array) -> jax.Array:
        image = jnp.broadcast_to(jnp.clip(image, 0, 1), (*image.shape[:2], 3))
        return jax.nn.sigmoid(nnx.merge(graph, params)(image[None])[0])

    return functools.partial(run, params)


def _record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if 0 <= record["threshold"] <= 1 and record["sha256"] and record["network"]["widths"]:
            return record
        reason = "its threshold, sha256 or network is wrong"
    except OSError as error:
        raise PredictorError(
            f"{path}: {error.strerror}; predictors that come with lle_jax: {', '.join(shipped())}"
        ) from None
    except KeyError as error:
        reason = f"it lacks {error}"
    except (ValueError, TypeError) as error:
        reason = str(error)
    raise PredictorError(f"{path}: not the record of a predictor ({reason}); install lle_jax again")


def _arrays(path: Path, data: bytes) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return dict(archive)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise PredictorError(f"{path}: not an archive of arrays ({error}); make it again") from None
