"""The released model's last stage: it learns how far off its output is, which stays as it was.

    python -m lle_jax.main --config experiments/released_spread.py
    python tools/release.py runs/released_spread model/ --float16 --interval 0.9

Starts from the weights in runs/released_found_2. The same command resumes.
"""

import ml_collections

from lle_jax.experiments import released_large


def get_config() -> ml_collections.ConfigDict:
    config = released_large.get_config()

    config.model.spread = True
    config.loss = ml_collections.ConfigDict({"kind": "spread"})

    config.optim.lr = 1e-2
    config.optim.weight_decay = 0.0
    config.optim.ema_decay = 0.99
    config.train.start_from = "runs/released_found_2"
    config.train.steps = 1000
    return config
