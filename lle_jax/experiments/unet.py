"""A small U-Net on the embedded samples: the main job.

    python -m lle_jax.main --config experiments/unet.py

Reproduces the table of the README.
"""

import ml_collections

from lle_jax.experiments import base


def get_config() -> ml_collections.ConfigDict:
    config = base.get_config()
    # Chosen on medical images of the training and validation sets, by runs trained without them.
    # SSIM counts what is left of the noise in black backgrounds; small crops at several scales and
    # contrasts show more images, and more of each, for the same computation.
    config.data.crop = 64
    config.data.random_resized_crop_min_scale = 0.35
    config.data.photometric_augmentation = 0.5
    config.model.widths = (16, 48, 96)
    config.loss.ssim = 0.5
    config.train.steps = 1800
    config.train.log_every = 50
    return config
