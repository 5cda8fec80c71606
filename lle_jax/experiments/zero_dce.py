"""Zero-DCE as published, trained on dark images alone; otherwise as experiments/unet.py.

python -m lle_jax.main --config experiments/zero_dce.py
"""

import ml_collections

from lle_jax.experiments import base


def get_config() -> ml_collections.ConfigDict:
    config = base.get_config()
    config.model = base.network("zero_dce")
    config.loss.kind = "zero_reference"  # the clean images are not looked at
    config.optim.clip_norm = 0.1  # as published
    return config
