"""A small NAFNet on the embedded samples; otherwise as experiments/unet.py.

    python -m lle_jax.main --config experiments/nafnet.py

The published sizes, for which a GPU is advisable:

    --config.model.width=32 --config.model.encoder="(1, 1, 1, 28)" --config.model.middle=1 \
        --config.model.decoder="(1, 1, 1, 1)"
"""

import ml_collections

from lle_jax.experiments import unet


def get_config() -> ml_collections.ConfigDict:
    config = unet.get_config()

    config.model = ml_collections.ConfigDict()
    config.model.name = "nafnet"
    config.model.width = 16
    config.model.encoder = (1, 1, 2)
    config.model.middle = 2
    config.model.decoder = (1, 1, 1)
    config.model.dtype = "float32"
    return config
