"""Losses of training. Each takes `[..., H, W, C]` pairs in [0, 1] and returns one scalar.

All but `charbonnier` are 0 where the images are equal, and all have finite gradients there.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections

from lle_jax import metrics
from lle_jax.checkpoints import segmenters
from lle_jax.checks import ConfigError
from lle_jax.files import sha256

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def charbonnier(image: jax.Array, target: jax.Array, *, epsilon: float = 1e-3) -> jax.Array:
    """Computes the mean of sqrt(error^2 + epsilon^2), a differentiable L1 in units of the image.

    Charbonnier et al., ICIP 1994, doi:10.1109/ICIP.1994.413553; the form used for restoration by
    Lai et al., CVPR 2017, arXiv:1704.03915, section 3.2.
    """
    return jnp.mean(jnp.sqrt((image - target) ** 2 + epsilon**2))


def mse(image: jax.Array, target: jax.Array) -> jax.Array:
    """Computes the mean squared error."""
    return jnp.mean((image - target) ** 2)


def ssim(image: jax.Array, target: jax.Array) -> jax.Array:
    """Computes the mean of 1 - SSIM over images."""
    return 1 - jnp.mean(metrics.ssim(image, target))


def ms_ssim(image: jax.Array, target: jax.Array) -> jax.Array:
    """Computes the mean of 1 - MS-SSIM over images, at as many scales as the image allows.

    Zhao et al., "Loss functions for image restoration with neural networks", IEEE TCI 3(1), 2017,
    arXiv:1511.08861.
    """
    side = min(image.shape[-3:-1])
    scales = sum(side > 10 * 2**scale for scale in range(len(metrics.SCALE_WEIGHTS)))
    return 1 - jnp.mean(metrics.ms_ssim(image, target, scales=max(scales, 1)))


def edge(image: jax.Array, target: jax.Array) -> jax.Array:
    """Computes the mean absolute error of the differences between neighbours, down and across."""
    error = image - target
    down, across = jnp.diff(error, axis=-3), jnp.diff(error, axis=-2)
    return (jnp.mean(jnp.abs(down)) + jnp.mean(jnp.abs(across))) / 2


def frequency(image: jax.Array, target: jax.Array) -> jax.Array:
    """Computes the mean absolute error of the Fourier coefficients, real and imaginary parts.

    Cho et al., ICCV 2021, arXiv:2108.05054 (MIMO-UNet), at one scale. The transform is unitary,
    unlike theirs, so that the weight does not depend on the size of the crop.
    """
    error = jnp.fft.fft2(image - target, axes=(-3, -2), norm="ortho")
    return (jnp.mean(jnp.abs(error.real)) + jnp.mean(jnp.abs(error.imag))) / 2


def colour(image: jax.Array, target: jax.Array, *, epsilon: float = 1e-4) -> jax.Array:
    """Computes the mean of 1 - cosine between the pixels' RGB vectors; brightness does not count.

    After Wang et al., "Underexposed photo enhancement using deep illumination estimation", CVPR
    2019, which has the angle itself; that has no gradient at 0. `epsilon` is added to the product
    and to the squared lengths, so that the colour of what is nearly black does not count.
    """
    product = jnp.sum(image * target, axis=-1) + epsilon
    norms = [jnp.sum(i**2, axis=-1) + epsilon for i in (image, target)]
    return jnp.mean(1 - product / jnp.sqrt(norms[0] * norms[1]))


# In the order in which they are added up.
TERMS: dict[str, Loss] = {
    "charbonnier": charbonnier,
    "ssim": ssim,
    "mse": mse,
    "ms_ssim": ms_ssim,
    "edge": edge,
    "frequency": frequency,
    "colour": colour,
}


def segmentation_consistency(
    image: jax.Array, target: jax.Array, segment: Callable, *, epsilon: float = 1e-6
) -> jax.Array:
    """Computes the divergence of a segmenter's probabilities in the image from those in the target.

    Mean over pixels of the Kullback-Leibler divergence, in nats. A perceptual loss (Johnson, Alahi
    and Fei-Fei, ECCV 2016, arXiv:1603.08155) whose network segments what a clinician looks for; no
    ground-truth mask is needed. What is added costs as much as what is missed, where the segmenter
    sees it; what it does not look for, such as small spots, may be invented for nothing: report the
    figures of added structure with any task figure of a network trained with it.

    Args:
      image, target: `[..., H, W, C]`.
      segment: `[H, W, C]` -> probabilities `[H, W]`.
      epsilon: keeps a probability away from 0 and 1.
    """
    image, target = (i.reshape(-1, *i.shape[-3:]) for i in (image, target))
    p, q = (epsilon + (1 - 2 * epsilon) * jax.vmap(segment)(i) for i in (image, target))
    return jnp.mean(q * jnp.log(q / p) + (1 - q) * jnp.log((1 - q) / (1 - p)))


def make(config: ml_collections.ConfigDict) -> Loss:
    """Returns the weighted sum of terms that `config.loss` describes.

    The terms are `TERMS` and two whose networks are read from files: `lpips`, from the file
    `lpips_weights` (see `metrics.load_lpips`), and `segmentation_consistency`, from the folder
    `segmenter`, made by tools/train_tasks.py. Without LPIPS, `ms_ssim` rewards structure at several
    scales and `edge` at the finest.

    Args:
      config: weights by term, 0 for none; other keys are ignored.

    Raises:
      ConfigError: for a weight below 0, no weight above 0, or an unsound file.
    """
    terms = TERMS | {
        "lpips": _lpips(config.lpips_weights, config.lpips),
        "segmentation_consistency": _segmentation(
            config.segmenter, config.segmentation_consistency
        ),
    }
    for name in terms:
        if not config[name] >= 0:
            raise ConfigError(f"loss.{name} is {config[name]}; expected a number >= 0")
    weighted = [(config[name], term) for name, term in terms.items() if config[name] and term]
    if not weighted:
        raise ConfigError("loss: all weights are 0; there is nothing to minimise")

    def loss(image: jax.Array, target: jax.Array) -> jax.Array:
        return jnp.asarray(sum(weight * term(image, target) for weight, term in weighted))

    return loss


def files(config: ml_collections.ConfigDict) -> dict[str, str]:
    """Returns the SHA-256 of the networks that the terms of `make` are read from, by path."""
    paths = {config.lpips_weights: config.lpips_weights}
    if config.segmenter:
        paths[config.segmenter] = f"{config.segmenter}/params.npz"
    return {name: sha256(Path(path)) for name, path in paths.items() if name}


def _lpips(path: str, weight: float) -> Loss | None:
    """Returns the mean LPIPS by the weights in a file; None where its weight is 0."""
    if not path and not weight:
        return None
    if not path:
        raise ConfigError(
            "loss.lpips needs loss.lpips_weights, a file (docs/metrics.md); or take loss.ms_ssim"
        )
    try:
        network = metrics.load_lpips(path)
    except ValueError as error:
        raise ConfigError(f"loss.lpips_weights: {error}") from None
    return lambda image, target: jnp.mean(metrics.lpips(image, target, network))


def _segmentation(path: str, weight: float) -> Loss | None:
    """Returns the consistency loss by the segmenter in a folder; None where its weight is 0."""
    if not path and not weight:
        return None
    if not path:
        raise ConfigError(
            "loss.segmentation_consistency needs loss.segmenter, the folder of a segmenter"
        )
    try:
        segmenter = segmenters.load(path)
    except ValueError as error:
        raise ConfigError(f"loss.segmenter: {error}") from None
    if segmenters.is_bundled(segmenter):
        raise ConfigError(
            f"loss.segmenter: {path} evaluates enhanced images, so nothing may be trained by it; "
            "make another with tools/train_tasks.py --seed 1 -o FOLDER"
        )
    return functools.partial(segmentation_consistency, segment=segmenter.apply)
