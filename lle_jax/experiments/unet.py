"""A small U-Net on the embedded samples: the main job.

    python -m lle_jax.main --config experiments/unet.py

Reproduces the table of the README.
"""

import ml_collections

from lle_jax.experiments import base


def get_config() -> ml_collections.ConfigDict:
    config = base.get_config()
    # Chosen on medical images of the training set that were held out for it. SSIM counts what is
    # left of the noise in black backgrounds; crops at several scales and contrasts are closer to
    # whole medical images than crops of photographs are.
    config.data.batch_size = 4
    config.data.random_resized_crop_min_scale = 0.5
    config.data.photometric_augmentation = 0.5
    config.model.widths = (16, 48, 96)
    config.loss.ssim = 1.0
    config.optim.lr = 2e-3
    config.train.steps = 1500
    config.train.log_every = 50
    return config
