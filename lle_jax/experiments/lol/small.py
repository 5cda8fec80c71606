"""A U-Net of fewer than 0.1 M parameters on LOL-v1; otherwise as experiments/lol/unet.py.

python -m lle_jax.main --config experiments/lol/small.py
"""

import ml_collections

from lle_jax.experiments.lol import unet


def get_config() -> ml_collections.ConfigDict:
    config = unet.get_config()
    config.data.crop = 192
    config.data.batch_size = 8
    config.model.widths = (16, 24, 32)
    config.optim.lr = 1e-3
    config.train.steps = 5000
    return config
