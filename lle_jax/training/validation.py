"""Validation while training: PSNR and SSIM of images' middles, and a picture of them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from lle_jax import data, metrics, models
from lle_jax.training.degradation import Degrade
from lle_jax.training.log import Log

MAX_IMAGES = 16  # the middle of each


def make(
    config: ml_collections.ConfigDict, apply: models.Apply, degrade: Degrade, images: data.Images
) -> Callable[..., dict[str, float]]:
    """Returns `validate(params, log, step) -> scalars` over the images' middles.

    They have the largest side of what the network sees in training, as far as all of them have it:
    a network that learns the brightness from most of an image takes a crop of it for another image.

    Args:
      config: the experiment.
      apply: its network.
      degrade: `(key, batch) -> low`, for images without a measured low-light version.
      images: to validate on.
    """
    crop = config.data.crop
    chosen = np.linspace(0, len(images) - 1, min(len(images), MAX_IMAGES)).astype(int)
    smallest = min(min(images.sizes[index]) for index in chosen)
    sides = [side for side in config.data.context_sizes if side <= smallest]
    clean = np.stack([_middle(images[index], max(sides, default=crop)) for index in chosen])
    if config.data.pairs:
        lows = (images.low_loaders[index]() for index in chosen)
        low = np.stack([_middle(image, clean.shape[1]) for image in lows])
    else:
        batch = data.Batch(clean, images.modality_ids[chosen])
        key = jax.random.key(config.evaluation.seed)
        low = jax.device_get(jax.jit(degrade)(key, batch))

    @jax.jit
    def measure(parameters, low, clean):
        enhanced = jnp.clip(apply(parameters, low), 0, 1)
        return enhanced, metrics.psnr(enhanced, clean).mean(), metrics.ssim(enhanced, clean).mean()

    def validate(parameters, log: Log, step: int) -> dict[str, float]:
        enhanced, psnr, ssim = jax.device_get(measure(parameters, low, clean))
        log.grid(step, [_middle(column, crop) for column in (low, enhanced, clean)])
        return {"validation_psnr": float(psnr), "validation_ssim": float(ssim)}

    return validate


def _middle(image: np.ndarray, side: int) -> np.ndarray:
    """Cuts `[..., H, W, C]` to its middle, in colour."""
    top, left = ((whole - side) // 2 for whole in image.shape[-3:-1])
    image = image[..., top : top + side, left : left + side, :]
    return np.broadcast_to(image, (*image.shape[:-1], 3))
