"""HVI-CIDNet as published on the embedded samples; otherwise as experiments/unet.py.

    python -m lle_jax.main --config experiments/cidnet.py

Made for a GPU; on CPU take fewer channels: --config.model.widths=12,12,24,48
"""

import ml_collections

from lle_jax.experiments import unet


def get_config() -> ml_collections.ConfigDict:
    config = unet.get_config()

    config.model = ml_collections.ConfigDict()
    config.model.name = "cidnet"
    config.model.widths = (36, 36, 72, 144)
    config.model.heads = (2, 4, 8)
    config.model.dtype = "float32"

    config.optim.lr = 1e-4
    return config
