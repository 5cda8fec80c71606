"""The last stage of training: a network that is done learns how far off its output is.

Only the layer that predicts this is moved (`DualPath.restore_with_spread`), so the output stays
what it was. The loss is the negative log-likelihood of a Laplace distribution around the output,
of which the scale is predicted (Kendall and Gal, NeurIPS 2017, arXiv:1703.04977, equation 5, for
the absolute error); `factor` says what turns the scale into half an interval that holds a share of
the errors.
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx

from lle_jax import models
from lle_jax.checkpoints import release
from lle_jax.checks import ConfigError

KIND = "spread"
LAYER = "spread."  # how its parameters' names begin


def make(config: ml_collections.ConfigDict):
    """What the training step takes in place of the network and its loss.

    Raises:
      ConfigError: unless the network has a spread and nothing else would be moved.
    """
    steps = models.tiled(config.model)
    if steps.spread is None:
        raise ConfigError("model.spread is not set: the network cannot tell how far off it is")
    if config.optim.weight_decay:
        raise ConfigError(
            f"optim.weight_decay is {config.optim.weight_decay}, which would move all weights; set "
            "it to 0 for loss.kind spread"
        )

    def apply(params, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        size = image.shape[1:3]
        return steps.spread(params, image, steps.context(params, image), (0, 0), size)

    return apply, negative_log_likelihood


def negative_log_likelihood(found: tuple[jax.Array, jax.Array], clean: jax.Array) -> jax.Array:
    """Mean of error / spread + log(spread), less log 2, for `(restored, spread)`.

    The output's gradient is stopped: it must not be made worse to be easier to predict.
    """
    restored, spread = found
    error = jnp.abs(jax.lax.stop_gradient(jnp.clip(restored, 0, 1)) - clean)
    return jnp.mean(error / spread + jnp.log(spread))


def factor(pairs: Iterable[tuple[np.ndarray, np.ndarray]], share: float) -> float:
    """By what spreads must be multiplied so that `share` of the errors are at most as large.

    Args:
      pairs: (absolute error, spread) of images, both `[H, W, C]`, broadcast; every image counts
        alike, whatever its size.
      share: in (0, 1).
    """
    ratios, weights = [], []
    for error, spread in pairs:
        ratio = np.sort((error / spread).ravel())
        thinned = ratio[np.linspace(0, len(ratio) - 1, min(len(ratio), 10_000)).astype(int)]
        ratios.append(thinned)
        weights.append(np.full(len(thinned), 1 / len(thinned)))
    ratio, weight = np.concatenate(ratios), np.concatenate(weights)
    order = np.argsort(ratio)
    at = np.searchsorted(np.cumsum(weight[order]), share * len(ratios))
    return float(ratio[order][min(at, len(order) - 1)])


def scaled(params: nnx.State, by: float) -> nnx.State:
    """The parameters of a network whose spread is `by` times as large."""
    leaves = [
        leaf + np.float32(np.log(by)) if name == f"{LAYER}bias" else leaf
        for name, leaf in release.named(params)
    ]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)
