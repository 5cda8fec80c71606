"""The released model's first part: two paths, four modalities, each with its own preset.

    python -m lle_jax.main --config experiments/released.py

Needs the real images in ../shared/data (see README); an hour and a half on 2 CPU cores. The same
command resumes. experiments/released_large.py continues from it.
"""

import ml_collections

from lle_jax.experiments import base


def get_config() -> ml_collections.ConfigDict:
    config = base.get_config()

    config.data.source = "samples,../shared/data/manifest.csv"
    config.data.balance = True
    config.data.crop = 128
    config.data.random_resized_crop_min_scale = 0.25  # down to whole images: light is global

    config.degradation.preset = "by_modality"
    config.degradation.clean_fraction = 0.12

    config.model = base.network("dual_path")
    config.model.widths = (32, 64, 128, 192)
    config.model.blocks = (1, 1, 1, 1)

    config.optim.ema_decay = 0.998
    config.train.steps = 5500
    config.train.log_every = 50
    config.train.validate_every = 1000
    config.train.checkpoint_every = 500
    config.evaluation.realisations = 1
    return config
