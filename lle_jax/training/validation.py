"""Validation while training: PSNR and SSIM of central crops, and a picture of them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from lle_jax import data, metrics, models
from lle_jax.training.degradation import Degrade
from lle_jax.training.log import Log

MAX_IMAGES = 16  # one central crop of each


def make(
    config: ml_collections.ConfigDict, apply: models.Apply, degrade: Degrade, images: data.Images
) -> Callable[..., dict[str, float]]:
    """Returns `validate(params, log, step) -> scalars` over the images' central crops.

    Args:
      config: the experiment.
      apply: its network.
      degrade: `(key, batch) -> low`, for images without a measured low-light version.
      images: to validate on.
    """
    crop = config.data.crop
    chosen = np.linspace(0, len(images) - 1, min(len(images), MAX_IMAGES)).astype(int)

    def centre(image: np.ndarray) -> np.ndarray:
        top, left = ((side - crop) // 2 for side in image.shape[:2])
        return np.broadcast_to(image[top : top + crop, left : left + crop], (crop, crop, 3))

    clean = np.stack([centre(images[index]) for index in chosen])
    if config.data.pairs:
        low = np.stack([centre(images.low_loaders[index]()) for index in chosen])
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
        log.grid(step, [low, enhanced, clean])
        return {"validation_psnr": float(psnr), "validation_ssim": float(ssim)}

    return validate
