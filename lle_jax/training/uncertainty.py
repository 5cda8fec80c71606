"""The uncertainty objective: a trained network learns the scale of its error.

Only the layer that predicts the scale is moved (`DualPath.restore_with_scale`), so the output stays
what it was. The loss is the negative log-likelihood of a Laplace distribution around the output
(Kendall and Gal, NeurIPS 2017, arXiv:1703.04977, equation 5, for the absolute error);
`calibration_factor` turns the scale into the half-width of a prediction interval.
"""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx

from lle_jax import models
from lle_jax.checks import ConfigError
from lle_jax.models import params as parameters

LAYER = "log_scale."  # how its parameters' names begin
MARGIN = 0.03  # by which a group of images may be covered less than the level


def make(config: ml_collections.ConfigDict) -> tuple[Callable, Callable, Callable]:
    """Returns `(forward, restore, loss)`: for whole images, for tiles, and the loss of either.

    Raises:
      ConfigError: unless the network predicts its uncertainty and nothing else would be moved.
    """
    tiled = models.tiled(config.model)
    if tiled.restore_with_scale is None:
        raise ConfigError("model.uncertainty is not set; loss.kind uncertainty needs it")
    if config.optim.weight_decay:
        raise ConfigError(
            f"optim.weight_decay is {config.optim.weight_decay}, which would move all weights; set "
            "it to 0 for loss.kind uncertainty"
        )
    restore = tiled.restore_with_scale

    def forward(params: nnx.State, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        context = tiled.compute_context(params, image)
        return restore(params, image, context, (0, 0), image.shape[1:3])

    return forward, restore, negative_log_likelihood


def negative_log_likelihood(output: tuple[jax.Array, jax.Array], clean: jax.Array) -> jax.Array:
    """Computes the mean of error / scale + log(scale), less log 2, for `(restored, scale)`.

    The gradient of the restored image is stopped: it must not get worse to be easier to predict.
    """
    restored, scale = output
    error = jnp.abs(jax.lax.stop_gradient(jnp.clip(restored, 0, 1)) - clean)
    return jnp.mean(error / scale + jnp.log(scale))


def calibration_factor(cases: Iterable[tuple[np.ndarray, np.ndarray, str]], level: float) -> float:
    """Computes the conformal calibration factor: scales times it cover `level` of the errors.

    One factor cannot give each group of images the level. Too narrow an interval misleads, too wide
    a one does not, so no group is covered by less than the level less `MARGIN`, though all together
    are covered by more then.

    Args:
      cases: (absolute error, scale, group) of images, the arrays both `[H, W, C]`, broadcast; every
        image counts alike, whatever its size. Groups are modalities.
      level: coverage of the prediction interval, in (0, 1).
    """
    groups: dict[str, list[np.ndarray]] = {}
    for error, scale, group in cases:
        ratio = np.sort((error / scale).ravel())
        thinned = ratio[np.linspace(0, len(ratio) - 1, min(len(ratio), 10_000)).astype(int)]
        groups.setdefault(group, []).append(thinned)
    least = [_quantile(each, max(level - MARGIN, 0)) for each in groups.values()]
    return max(_quantile([ratio for each in groups.values() for ratio in each], level), *least)


def _quantile(ratios: list[np.ndarray], level: float) -> float:
    """Computes the quantile of sorted ratios of images, each of the weight of the others."""
    weight = np.concatenate([np.full(len(each), 1 / len(each)) for each in ratios])
    ratio = np.concatenate(ratios)
    order = np.argsort(ratio)
    at = int(np.searchsorted(np.cumsum(weight[order]), level * len(ratios)))
    return float(ratio[order][min(at, len(order) - 1)])


def scale_uncertainty(params: nnx.State, factor: float) -> nnx.State:
    """Multiplies the scale that a network predicts by a factor, in its parameters."""
    leaves = [
        leaf + np.float32(np.log(factor)) if name == f"{LAYER}bias" else leaf
        for name, leaf in parameters.named(params)
    ]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)
