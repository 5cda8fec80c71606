"""The released model, trained further on LOL-v1's real pairs.

    python -m lle_jax.main --config experiments/lol/released.py

Data as for experiments/lol/unet.py. Without the paths for the brightness and the light, which know
medical images: with the first it was 1.4 dB worse (docs/real.md). An hour on two cores of a CPU.
"""

import ml_collections

from lle_jax.experiments import released_uncertainty
from lle_jax.experiments.lol import dual_path


def get_config() -> ml_collections.ConfigDict:
    config = dual_path.get_config()
    config.model = released_uncertainty.get_config().model
    config.optim.lr = 4e-4
    config.train.start_from = "lle_jax/released"
    config.train.steps = 6000
    config.train.validate_every = 500
    return config
