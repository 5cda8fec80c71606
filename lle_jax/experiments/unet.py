"""A small U-Net on the embedded samples: the main job.

    python -m lle_jax.main --config experiments/unet.py

Reproduces the table of the README: PSNR 21 dB, SSIM 0.75, in 6 minutes on 2 CPU cores.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.seed = 0

    config.data = ml_collections.ConfigDict()
    config.data.source = "samples"  # or a folder of well-lit images
    config.data.crop = 96
    config.data.views = ()  # sides of what crops are cut from; see lle_jax/training/views.py
    config.data.batch_size = 8
    config.data.augmented = 0.0  # fraction of the crops that get another contrast or exposure

    config.degradation = ml_collections.ConfigDict()
    config.degradation.preset = "lowlight"  # configs/degradation/lowlight.toml

    config.model = ml_collections.ConfigDict()
    config.model.name = "unet"
    config.model.widths = (32, 64, 96)
    config.model.blocks = 1
    config.model.dtype = "float32"

    config.loss = ml_collections.ConfigDict()
    config.loss.ssim = 0.2  # added to Charbonnier with weight 1

    config.optim = ml_collections.ConfigDict()
    config.optim.lr = 1e-3
    config.optim.warmup_steps = 100
    config.optim.weight_decay = 1e-4
    config.optim.clip_norm = 1.0
    config.optim.ema_decay = 0.995
    config.optim.accumulate = 1  # batches per update

    config.train = ml_collections.ConfigDict()
    config.train.start_from = ""  # or a run directory or a release, whose weights to start from
    config.train.steps = 2200
    config.train.log_every = 20
    config.train.validate_every = 500
    config.train.checkpoint_every = 500

    config.evaluation = ml_collections.ConfigDict()
    config.evaluation.seed = 1
    config.evaluation.draws = 2  # low-light versions of each test image
    return config
