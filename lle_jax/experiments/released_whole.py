"""The released model's fifth part: most crops show the whole image, from which its light is judged.

    python -m lle_jax.main --config experiments/released_whole.py

Starts from the parameters in runs/released_wide; ten minutes on 2 CPU cores. The same command
resumes.
"""

import ml_collections

from lle_jax.experiments import released_wide


def get_config() -> ml_collections.ConfigDict:
    config = released_wide.get_config()

    # Parts of a retina are brighter than a retina on black: whole ones came out a fifth too bright.
    config.data.whole_fraction = 0.6

    config.optim.lr = 2e-4
    config.train.start_from = "runs/released_wide"
    config.train.steps = 1000
    return config
