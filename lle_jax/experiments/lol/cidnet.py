"""HVI-CIDNet on LOL-v1 as published (Yan et al., CVPR 2025, arXiv:2502.20272).

    python -m lle_jax.main --config experiments/lol/cidnet.py

For a GPU. Data as for experiments/lol/unet.py. Published: 23.81 dB without the truth's mean. The
published run trains on all 485 pairs, computes its losses in HVI as well as in RGB, and adds an
edge loss and one of VGG's features.
"""

import ml_collections

from lle_jax.experiments import base
from lle_jax.experiments.lol import unet


def get_config() -> ml_collections.ConfigDict:
    config = unet.get_config()
    config.model = base.network("cidnet")
    config.data.batch_size = 8
    config.data.crop = 256
    config.loss.ssim = 0.5
    config.optim.lr = 1e-4
    config.optim.b2 = 0.999
    config.optim.weight_decay = 0.0
    config.train.steps = 54_000  # 1,000 epochs
    config.train.checkpoint_every = 5000
    return config
