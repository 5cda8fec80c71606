"""The released model, trained further on LOL-v1's real pairs.

    python tools/lol_scenes.py data/lol
    python -m lle_jax.main --config experiments/lol/released.py --config.data.pairs=data/lol/all.csv

Data as for experiments/lol/unet.py. With the path for the brightness, without that for the light:
chosen on validation pictures of scenes that are not trained on (scenes.csv; docs/real.md), and then
trained on all pairs but five. Half an hour on two cores of a CPU.
"""

import ml_collections

from lle_jax.experiments import released_uncertainty
from lle_jax.experiments.lol import dual_path


def get_config() -> ml_collections.ConfigDict:
    config = dual_path.get_config()
    config.model = released_uncertainty.get_config().model
    config.model.exposure_path = True
    config.optim.lr = 4e-4
    config.train.start_from = "lle_jax/released"
    config.train.steps = 3000
    config.train.validate_every = 500
    return config
