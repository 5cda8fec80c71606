"""Retinexformer on LOL-v1 as published (Cai et al., ICCV 2023, arXiv:2303.06705).

    python -m lle_jax.main --config experiments/lol/retinexformer.py

For a GPU. Data as for experiments/lol/unet.py. Published: 25.16 dB with the truth's mean given. Two
things differ: the published run trains on all 485 pairs, and its rate stays at its peak for 46,000
steps before it falls.
"""

import ml_collections

from lle_jax.experiments import base
from lle_jax.experiments.lol import unet


def get_config() -> ml_collections.ConfigDict:
    config = unet.get_config()
    config.model = base.network("retinexformer")
    config.data.batch_size = 8
    config.data.crop = 128
    config.data.mixup = 1.2
    config.loss.ssim = 0.0  # mean absolute error alone
    config.optim.lr = 2e-4
    config.optim.b2 = 0.999
    config.optim.weight_decay = 0.0
    config.optim.clip_norm = 0.01
    config.train.steps = 150_000
    config.train.checkpoint_every = 5000
    return config
