"""HVI-CIDNet as published on the embedded samples; otherwise as experiments/unet.py.

    python -m lle_jax.main --config experiments/cidnet.py

Made for a GPU; on CPU take fewer channels: --config.model.widths=12,12,24,48
"""

import ml_collections

from lle_jax.experiments import base


def get_config() -> ml_collections.ConfigDict:
    config = base.get_config()
    config.model = base.network("cidnet")
    config.optim.lr = 1e-4  # as published
    return config
