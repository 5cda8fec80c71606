"""A U-Net on LOL-v1's real pairs (Wei et al., BMVC 2018, arXiv:1808.04560); docs/real.md.

    python -m lle_jax.main --config experiments/lol/unet.py

Needs LOL-v1 in data/lol: data/lol/our485/{low,high} to train, a tenth of them to validate, and
data/lol/eval15/{low,high} to test. Elsewhere: --config.data.pairs=FOLDER
"""

import ml_collections

from lle_jax.experiments import base


def get_config() -> ml_collections.ConfigDict:
    config = base.get_config()
    config.data.pairs = "data/lol"
    config.data.crop = 256
    config.data.batch_size = 6
    config.model.widths = (16, 32, 64, 96, 96)  # the coarsest level sees most of a picture
    config.optim.lr = 5e-4  # with 1e-3 it ended in NaN
    config.optim.ema_decay = 0.998
    config.train.steps = 4000
    config.train.log_every = 100
    config.train.validate_every = 1000
    config.train.checkpoint_every = 500
    config.evaluation.baselines = False
    return config
