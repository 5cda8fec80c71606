"""The uncertainty objective: a trained network learns the scale of its error.

Only the layer that predicts the scale is moved (`DualPath.restore_with_scale`), so the output stays
what it was. The loss is the negative log-likelihood of a Laplace distribution around the output
(Kendall and Gal, NeurIPS 2017, arXiv:1703.04977, equation 5, for the absolute error);
`calibration_factors` turn the scale into the half-width of a prediction interval.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx

from lle_jax import models
from lle_jax.checks import ConfigError
from lle_jax.models import params as parameters

LAYERS = "log_scale.", "log_scale_grey"  # how its parameters' names begin
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


class Factors(NamedTuple):
    """What the scales of images are multiplied by: of those in colour, and of grey ones."""

    colour: float
    grey: float


def calibration_factors(
    cases: Iterable[tuple[np.ndarray, np.ndarray, str, bool]], level: float
) -> Factors:
    """Computes the conformal calibration factors: scales times them cover `level` of the errors.

    Grey images, which an image shows without being asked, have a factor of their own, so that both
    kinds have the level (Mondrian conformal prediction: Vovk, ACML 2012, PMLR 25); a kind
    without images has the other's. One factor cannot give each modality of a kind the level. Too
    narrow an interval misleads, too wide a one does not, so none is covered by less than the level
    less `MARGIN`, though all together are covered by more then.

    Args:
      cases: (absolute error, scale, modality, whether grey) of images, the arrays both `[H, W, C]`,
        broadcast; every image counts alike, whatever its size.
      level: coverage of the prediction interval, in (0, 1).

    Raises:
      ValueError: if there are no cases.
    """
    kinds: dict[bool, dict[str, list[np.ndarray]]] = {}
    for error, scale, modality, grey in cases:
        ratio = np.sort((error / scale).ravel())
        thinned = ratio[np.linspace(0, len(ratio) - 1, min(len(ratio), 10_000)).astype(int)]
        kinds.setdefault(grey, {}).setdefault(modality, []).append(thinned)
    if not kinds:
        raise ValueError("no images to calibrate on")
    found = {grey: _factor(list(modalities.values()), level) for grey, modalities in kinds.items()}
    return Factors(*(found.get(grey, found.get(not grey, 1.0)) for grey in (False, True)))


def _factor(modalities: list[list[np.ndarray]], level: float) -> float:
    least = [_quantile(ratios, max(level - MARGIN, 0)) for ratios in modalities]
    return max(_quantile([ratio for ratios in modalities for ratio in ratios], level), *least)


def _quantile(ratios: list[np.ndarray], level: float) -> float:
    """Computes the quantile of sorted ratios of images, each of the weight of the others."""
    weight = np.concatenate([np.full(len(each), 1 / len(each)) for each in ratios])
    ratio = np.concatenate(ratios)
    order = np.argsort(ratio)
    at = int(np.searchsorted(np.cumsum(weight[order]), level * len(ratios)))
    return float(ratio[order][min(at, len(order) - 1)])


def scale_uncertainty(params: nnx.State, factors: Factors) -> nnx.State:
    """Multiplies the scales that a network predicts by the factors, in its parameters."""
    added = {
        "log_scale.bias": np.log(factors.colour),
        "log_scale_grey": np.log(factors.grey / factors.colour),
    }
    leaves = [leaf + np.float32(added.get(name, 0)) for name, leaf in parameters.named(params)]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)
