"""What training minimises. Each takes `[..., H, W, C]` pairs in [0, 1] and returns one scalar.

All but `charbonnier` are 0 where the images are equal, and all have finite gradients there.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from lle_jax import metrics
from lle_jax.checks import ConfigError
from lle_jax.evaluation import predictors
from lle_jax.images.files import sha256

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def charbonnier(image: jax.Array, target: jax.Array, *, epsilon: float = 1e-3) -> jax.Array:
    """Mean of sqrt(error^2 + epsilon^2), a differentiable L1 in units of the image.

    Charbonnier et al., ICIP 1994, doi:10.1109/ICIP.1994.413553; the form used for restoration by
    Lai et al., CVPR 2017, arXiv:1704.03915, section 3.2.
    """
    return jnp.mean(jnp.sqrt((image - target) ** 2 + epsilon**2))


def mse(image: jax.Array, target: jax.Array) -> jax.Array:
    """Mean of error^2, which PSNR is the logarithm of."""
    return jnp.mean((image - target) ** 2)


def ssim(image: jax.Array, target: jax.Array) -> jax.Array:
    """1 - SSIM, the mean over images."""
    return 1 - jnp.mean(metrics.ssim(image, target))


def ms_ssim(image: jax.Array, target: jax.Array) -> jax.Array:
    """1 - MS-SSIM, the mean over images, with as many scales as the image has room for.

    Zhao et al., "Loss functions for image restoration with neural networks", IEEE TCI 3(1), 2017,
    arXiv:1511.08861.
    """
    side = min(image.shape[-3:-1])
    scales = sum(side > 10 * 2**scale for scale in range(len(metrics.SCALE_WEIGHTS)))
    return 1 - jnp.mean(metrics.ms_ssim(image, target, scales=max(scales, 1)))


def edge(image: jax.Array, target: jax.Array) -> jax.Array:
    """Mean absolute error of the differences between neighbours, down and across."""
    error = image - target
    down, across = jnp.diff(error, axis=-3), jnp.diff(error, axis=-2)
    return (jnp.mean(jnp.abs(down)) + jnp.mean(jnp.abs(across))) / 2


def frequency(image: jax.Array, target: jax.Array) -> jax.Array:
    """Mean absolute error of the Fourier coefficients, real and imaginary parts.

    Cho et al., ICCV 2021, arXiv:2108.05054 (MIMO-UNet), at one scale. The transform is unitary,
    unlike theirs, so that the weight does not depend on the size of the crop.
    """
    error = jnp.fft.fft2(image - target, axes=(-3, -2), norm="ortho")
    return (jnp.mean(jnp.abs(error.real)) + jnp.mean(jnp.abs(error.imag))) / 2


def colour(image: jax.Array, target: jax.Array, *, epsilon: float = 1e-4) -> jax.Array:
    """Mean of 1 - cosine of the angle between the two pixels' RGB vectors; brightness is free.

    After Wang et al., "Underexposed photo enhancement using deep illumination estimation", CVPR
    2019, which has the angle itself; that has no gradient at 0. `epsilon` is added to the product
    and to the squared lengths, so that the colour of what is nearly black does not count.
    """
    product = jnp.sum(image * target, axis=-1) + epsilon
    here, there = (jnp.sum(i**2, axis=-1) + epsilon for i in (image, target))
    return jnp.mean(1 - product / jnp.sqrt(here * there))


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


def found(
    image: jax.Array, target: jax.Array, find: Callable, *, epsilon: float = 1e-6
) -> jax.Array:
    """How far what a predictor finds in the image is from what it finds in the target.

    Mean over pixels of the Kullback-Leibler divergence, in nats, of its probabilities in the image
    from those in the target. A perceptual loss (Johnson, Alahi and Fei-Fei, ECCV 2016,
    arXiv:1603.08155) whose network looks for what a clinician looks for; no truth is asked for.

    Args:
      image, target: `[..., H, W, C]`.
      find: `[H, W, C]` -> probabilities `[H, W]`.
      epsilon: keeps a probability away from 0 and 1.
    """
    image, target = (i.reshape(-1, *i.shape[-3:]) for i in (image, target))
    p, q = (epsilon + (1 - 2 * epsilon) * jax.vmap(find)(i) for i in (image, target))
    return jnp.mean(q * jnp.log(q / p) + (1 - q) * jnp.log((1 - q) / (1 - p)))


def make(weights: Mapping[str, Any]) -> Loss:
    """The sum of terms by their weights, as `config.loss` gives them.

    The terms are TERMS and two whose networks are read from files: `lpips`, from what
    `lpips_weights` names (see `metrics.load_lpips`), and `found`, from what `found_predictor` names
    (FOLDER/NAME, made by tools/train_tasks.py). Who has no LPIPS may take `ms_ssim` instead, which
    asks for structure at several scales, with `edge`, which asks for it at the finest.

    Args:
      weights: by name; a term that is absent or 0 is off, except `charbonnier`, 1 where absent.

    Raises:
      ConfigError: for an unknown term, a weight below 0, no term at all, or an unsound file.
    """
    weights = {"charbonnier": 1.0, **weights}
    terms = TERMS | {
        "lpips": _lpips(weights.pop("lpips_weights", ""), weights.get("lpips")),
        "found": _found(weights.pop("found_predictor", ""), weights.get("found")),
    }
    for name, weight in weights.items():
        if name not in terms:
            raise ConfigError(f"loss.{name}: no such loss; expected one of {', '.join(terms)}")
        if not weight >= 0:
            raise ConfigError(f"loss.{name} is {weight}; expected a number >= 0")
    chosen = [(weights[name], term) for name, term in terms.items() if weights.get(name)]
    if not chosen:
        raise ConfigError("loss: all weights are 0; there is nothing to minimise")

    def loss(image: jax.Array, target: jax.Array) -> jax.Array:
        return sum(weight * term(image, target) for weight, term in chosen)

    return loss


def files(weights: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of the networks that the terms of `make` are read from, by their path."""
    paths = (weights.get("lpips_weights"), weights.get("found_predictor"))
    named = zip(paths, ("", ".npz"), strict=True)
    return {path: sha256(Path(f"{path}{suffix}")) for path, suffix in named if path}


def _lpips(path: str, weight: float | None) -> Loss | None:
    """Mean LPIPS by the weights in a file; None where neither is asked for."""
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


def _found(path: str, weight: float | None) -> Loss | None:
    """`found` by the predictor in a file; None where neither is asked for."""
    if not path and not weight:
        return None
    if not path:
        raise ConfigError("loss.found needs loss.found_predictor, FOLDER/NAME of a predictor")
    try:
        predictor = predictors.load(Path(path).name, Path(path).parent)
    except ValueError as error:
        raise ConfigError(f"loss.found_predictor: {error}") from None
    judges = (sha256(predictors.FOLDER / f"{name}.npz") for name in predictors.shipped())
    if predictor.record["sha256"] in judges:
        raise ConfigError(
            f"loss.found_predictor: {path} judges enhanced images, so nothing may be trained by "
            "it; make another with tools/train_tasks.py --seed 1 -o FOLDER"
        )
    return functools.partial(found, find=predictor.apply)
