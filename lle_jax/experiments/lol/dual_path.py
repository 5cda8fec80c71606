"""The two-path network on LOL-v1: brightness from most of the picture, noise from a tile of it.

    python -m lle_jax.main --config experiments/lol/dual_path.py

Data as for experiments/lol/unet.py.
"""

import ml_collections

from lle_jax.experiments import base
from lle_jax.experiments.lol import unet


def get_config() -> ml_collections.ConfigDict:
    config = unet.get_config()
    config.model = base.network("dual_path")
    config.data.batch_size = 8
    config.data.crop = 128
    config.data.context_sizes = (384,)
    config.optim.lr = 1e-3
    return config
