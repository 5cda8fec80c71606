"""Retinexformer as published on the embedded samples; otherwise as experiments/unet.py.

    python -m lle_jax.main --config experiments/retinexformer.py

Made for a GPU; on CPU take fewer channels: --config.model.width=16
"""

import ml_collections

from lle_jax.experiments import unet


def get_config() -> ml_collections.ConfigDict:
    config = unet.get_config()

    config.model = ml_collections.ConfigDict()
    config.model.name = "retinexformer"
    config.model.width = 40
    config.model.blocks = (1, 2, 2)
    config.model.dtype = "float32"

    config.optim.lr = 2e-4
    return config
