"""The released model's second part: context crops of several sizes, up to whole images.

    python -m lle_jax.main --config experiments/released.py
    python -m lle_jax.main --config experiments/released_large.py

Starts from the first part's weights, in runs/released; 70 minutes on 2 CPU cores. The same command
resumes.
"""

import ml_collections

from lle_jax.experiments import released


def get_config() -> ml_collections.ConfigDict:
    config = released.get_config()

    # Trained on crops of one size, a network takes images of other sizes for better lit.
    config.data.context_sizes = (128, 139, 150, 236, 352)
    config.degradation.clean_fraction = 0.08

    config.optim.lr = 5e-4
    config.train.start_from = "runs/released"
    config.train.steps = 8000
    return config
