"""A small NAFNet on the embedded samples; otherwise as experiments/unet.py.

    python -m lle_jax.main --config experiments/nafnet.py

The published sizes, for which a GPU is advisable:

    --config.model.width=32 --config.model.encoder="(1, 1, 1, 28)" --config.model.middle=1 \
        --config.model.decoder="(1, 1, 1, 1)"
"""

import ml_collections

from lle_jax.experiments import base


def get_config() -> ml_collections.ConfigDict:
    config = base.get_config()
    config.model = base.network("nafnet")
    return config
