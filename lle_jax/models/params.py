"""Names, compares and loads the parameters of networks."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from flax import nnx

from lle_jax import checks, models
from lle_jax.models import thumbnail_paths


def named(params) -> list[tuple[str, Any]]:
    """Lists the leaves of a tree of parameters with names, as "encoder.0.0.kernel"."""
    paths = jax.tree_util.tree_flatten_with_path(params)[0]
    return [(_name(path), leaf) for path, leaf in paths]


def _name(path) -> str:
    keys = [str(getattr(k, "name", getattr(k, "key", getattr(k, "idx", k)))) for k in path]
    return ".".join(key for key in keys if key != "value")


def difference(loaded, expected) -> tuple[str, Any, Any] | None:
    """Finds the first name at which the arrays of two trees differ in shape, and both shapes."""
    shapes = [
        {name: tuple(leaf.shape) for name, leaf in named(tree)} for tree in (loaded, expected)
    ]
    for name in sorted(shapes[0].keys() | shapes[1].keys()):
        first, second = (tree.get(name, "absent") for tree in shapes)
        if first != second:
            return name, first, second
    return None


def load_params(
    tree,
    config: ml_collections.ConfigDict,
    where: str,
    initial: nnx.State | None = None,
    optional: tuple[str, ...] = (),
) -> nnx.State:
    """Loads a tree of parameters into the network that `config` names.

    Args:
      tree: the parameters, whatever its containers.
      config: of the network.
      where: names the tree in errors.
      initial: initial parameters of a training that starts from the tree, for those that it lacks;
        the tree's `thumbnail_paths.NAMES` are left out then where the network has no such path.
      optional: beginnings of the names that the tree may lack.

    Raises:
      checks.ConfigError: if they are another network's; names the first that differs.
    """
    expected = models.shapes(config)
    loaded = dict(named(tree))
    if initial is not None:
        needed = {name for name, _ in named(expected)}
        loaded = {
            name: leaf
            for name, leaf in loaded.items()
            if name in needed or not name.startswith(thumbnail_paths.NAMES)
        }
    if optional and initial is not None:
        loaded = {n: leaf for n, leaf in named(initial) if n.startswith(optional)} | loaded
    if (differing := difference(loaded, expected)) is not None:
        name, shape, wanted = differing
        raise checks.ConfigError(
            f"{where}: weights of another network: {name} is {shape} there and {wanted} here; use "
            "the model they were trained as"
        )
    leaves = [jnp.asarray(loaded[name]) for name, _ in named(expected)]
    return jax.tree.unflatten(jax.tree.structure(expected), leaves)
