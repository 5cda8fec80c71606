"""Zero-DCE as published, trained on dark images alone; otherwise as experiments/unet.py.

python -m lle_jax.main --config experiments/zero_dce.py
"""

import ml_collections

from lle_jax.experiments import unet


def get_config() -> ml_collections.ConfigDict:
    config = unet.get_config()

    config.model = ml_collections.ConfigDict()
    config.model.name = "zero_dce"
    config.model.width = 32
    config.model.iterations = 8
    config.model.dtype = "float32"

    config.loss = ml_collections.ConfigDict()
    config.loss.kind = "zero_reference"  # the clean images are not looked at
    config.loss.exposure = 0.6  # brightness to aim for
    config.loss.spatial = 1.0
    config.loss.colour = 0.5
    config.loss.smoothness = 20.0

    config.optim.clip_norm = 0.1
    return config
