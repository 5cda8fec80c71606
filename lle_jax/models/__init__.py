"""Networks: one readable file each. `build(config)` gives parameters and a pure function."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
from flax import nnx

from lle_jax import checks, colour
from lle_jax.models.cidnet import CIDNet
from lle_jax.models.dual_path import DualPath
from lle_jax.models.flol import FLOL
from lle_jax.models.iat import IAT
from lle_jax.models.nafnet import NAFNet
from lle_jax.models.retinexformer import Retinexformer
from lle_jax.models.unet import UNet
from lle_jax.models.zero_dce import ZeroDCE

NETWORKS = {
    "unet": UNet,
    "dual_path": DualPath,
    "nafnet": NAFNet,
    "retinexformer": Retinexformer,
    "zero_dce": ZeroDCE,
    "cidnet": CIDNet,
    "iat": IAT,
    "flol": FLOL,
}

Apply = Callable[[nnx.State, jax.Array], jax.Array]


def build(config: ml_collections.ConfigDict, key: jax.Array) -> tuple[Apply, nnx.State]:
    """Makes the network that `config` names and its freshly initialised parameters.

    Args:
      config: `name` (a key of `NETWORKS`), `dtype` ("float32" or "bfloat16", in which to compute;
        parameters and output are float32), and the network's own arguments.
      key: initialises the parameters.

    Returns:
      `(apply, params)`: `apply(params, image) -> image`, pure, for `[..., H, W, C]` in [0, 1] of
      any height and width, C 1 or 3; and the parameters, a pytree of float32 arrays.

    Raises:
      checks.ConfigError: for an unknown network, dtype or argument.
    """
    return forward(config), _declared(config).draw(key)


def forward(config: ml_collections.ConfigDict) -> Apply:
    """Makes `apply` of `build` without parameters, which take seconds; raises as `build` does."""
    graph = _declared(config).graph

    def apply(params: nnx.State, image: jax.Array) -> jax.Array:
        image = checks.image(image)
        batch = image.reshape(-1, *image.shape[-3:])
        if batch.shape[-1] == 1:
            batch = jnp.repeat(batch, 3, axis=-1)
        restored = nnx.merge(graph, params)(batch)
        return _keep_grey(batch, restored)[..., : image.shape[-1]].reshape(image.shape)

    return apply


def shapes(config: ml_collections.ConfigDict) -> nnx.State:
    """The network's parameters as shapes and dtypes, none drawn; raises as `build` does."""
    # A copy: what is declared is kept, and a state can be changed.
    return jax.tree.map(lambda leaf: leaf, _declared(config).shapes)


class _Declared(NamedTuple):
    """What is known of a network before its parameters: how to draw them, and their shapes."""

    draw: Callable[[jax.Array], nnx.State]
    graph: nnx.GraphDef
    shapes: nnx.State


def _declared(config: ml_collections.ConfigDict) -> _Declared:
    return _declare(ml_collections.FrozenConfigDict(config))


@functools.lru_cache(maxsize=64)  # a start asks some five times, at a tenth of a second each
def _declare(config: ml_collections.FrozenConfigDict) -> _Declared:
    arguments = dict(config)
    name = arguments.pop("name")
    if name not in NETWORKS:
        raise checks.ConfigError(f"model.name is {name!r}; expected one of {', '.join(NETWORKS)}")
    dtype = arguments.pop("dtype")
    if dtype not in ("float32", "bfloat16"):
        raise checks.ConfigError(f"model.dtype is {dtype!r}; expected float32 or bfloat16")

    def make(key: jax.Array) -> nnx.Module:
        return NETWORKS[name](**arguments, dtype=jnp.dtype(dtype), rngs=_Keys(key))

    try:
        graph, shapes, *_ = nnx.split(nnx.eval_shape(make, jax.random.key(0)), nnx.Param, ...)
    except (TypeError, ValueError) as error:
        raise checks.ConfigError(f"model ({name}): {error}") from None
    # One compiled function draws all parameters, and unoptimised, since it runs once: a second
    # instead of the five to ten of drawing them one by one.
    draw = jax.jit(
        lambda key: nnx.state(make(key), nnx.Param),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    return _Declared(draw, graph, shapes)


class _Keys:
    """The keys of `nnx.Rngs(key).params()`, counted by an integer.

    `nnx.Rngs` counts in a variable, and under a trace each count renders an error message that
    nobody reads: four fifths of the time of declaring a network.
    """

    def __init__(self, key: jax.Array):
        self._key = key
        self._count = 0

    def params(self) -> jax.Array:
        self._count += 1
        return jax.random.fold_in(self._key, self._count - 1)


def bind(config: ml_collections.ConfigDict) -> Callable[[nnx.State], Any]:
    """`params -> module`, for a network's own methods; raises as `build` does."""
    graph = _declared(config).graph
    return lambda params: nnx.merge(graph, params)


class Tiled(NamedTuple):
    """A network that restores tile by tile with a context of the whole; see `DualPath`.

    Attributes:
      compute_context: `(params, image, exposure) -> Context`, for `[B, H, W, 3]`; the wanted
        mean luma may be left out.
      finish_context: `(params, cells, grey, exposure) -> Context`, from what strips added up to.
      restore: `(params, tile, context, corner, size) -> tile`.
      restore_with_scale: the same, `-> (tile, scale of its error)`; None for a network without.
      multiple: tiles must start at multiples of this many pixels.
      reach: pixels within this distance of a tile's edges differ from the whole image's result.
    """

    compute_context: Callable
    finish_context: Callable
    restore: Callable
    restore_with_scale: Callable | None
    multiple: int
    reach: int


def is_tiled(config: ml_collections.ConfigDict) -> bool:
    """Whether `tiled` can divide the network that `config` names."""
    return config.name == "dual_path"


def tiled(config: ml_collections.ConfigDict) -> Tiled:
    """The network of `build` in two steps; raises checks.ConfigError if it cannot be divided."""
    graph = _declared(config).graph
    network = nnx.merge(graph, shapes(config))
    if not is_tiled(config):
        raise checks.ConfigError(f"model.name is {config.name!r}; only dual_path works in tiles")
    return Tiled(
        lambda params, *arguments: nnx.merge(graph, params).compute_context(*arguments),
        lambda params, *arguments: nnx.merge(graph, params).finish_context(*arguments),
        lambda params, *arguments: nnx.merge(graph, params).restore(*arguments),
        (lambda params, *arguments: nnx.merge(graph, params).restore_with_scale(*arguments))
        if config.uncertainty
        else None,
        network.multiple,
        network.reach,
    )


def _keep_grey(image: jax.Array, restored: jax.Array) -> jax.Array:
    """Grey in gives exactly grey out: where an image's channels are equal, the output's are too."""
    grey = colour.is_grey(image)
    return jnp.where(grey, jnp.mean(restored, axis=-1, keepdims=True), restored)


def parameter_count(params: nnx.State) -> int:
    """Number of trainable scalars."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
