"""One path for noise, one for brightness and contrast; otherwise as experiments/unet.py.

python -m lle_jax.main --config experiments/dual_path.py
"""

import ml_collections

from lle_jax.experiments import base


def get_config() -> ml_collections.ConfigDict:
    config = base.get_config()
    config.model = base.network("dual_path")
    return config
