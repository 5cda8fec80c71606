"""IAT as published on the embedded samples; otherwise as experiments/unet.py.

python -m lle_jax.main --config experiments/iat.py
"""

import ml_collections

from lle_jax.experiments import base


def get_config() -> ml_collections.ConfigDict:
    config = base.get_config()
    config.model = base.network("iat")
    config.optim.lr = 2e-4  # as published
    return config
