"""A small U-Net on the embedded samples: the main job.

    python -m lle_jax.main --config experiments/unet.py

Reproduces the table of the README.
"""

import ml_collections

from lle_jax.experiments import base


def get_config() -> ml_collections.ConfigDict:
    return base.get_config()
