"""A small U-Net on the embedded samples: the main job.

    python -m lle_jax.main --config experiments/unet.py

Reproduces the table of the README.
"""

import ml_collections

from lle_jax.experiments import base


def get_config() -> ml_collections.ConfigDict:
    config = base.get_config()
    # Chosen on the validation images and two training images held out besides: SSIM counts what
    # is left of the noise in black backgrounds, and the finest level costs the most.
    config.model.widths = (16, 48, 96)
    config.loss.ssim = 1.0
    config.optim.lr = 2e-3
    config.train.steps = 800
    config.train.validate_every = 200
    config.train.checkpoint_every = 200
    return config
