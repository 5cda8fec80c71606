"""One path for noise, one for brightness and contrast; otherwise as experiments/unet.py.

python -m lle_jax.main --config experiments/dual_path.py
"""

import ml_collections

from lle_jax.experiments import unet


def get_config() -> ml_collections.ConfigDict:
    config = unet.get_config()

    config.model = ml_collections.ConfigDict()
    config.model.name = "dual_path"
    config.model.widths = (32, 64, 128)
    config.model.blocks = (1, 2, 2)
    config.model.dtype = "float32"
    return config
