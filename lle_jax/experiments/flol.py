"""FLOL+ as published on the embedded samples; otherwise as experiments/unet.py.

python -m lle_jax.main --config experiments/flol.py
"""

import ml_collections

from lle_jax.experiments import base


def get_config() -> ml_collections.ConfigDict:
    config = base.get_config()
    config.model = base.network("flol")
    return config
