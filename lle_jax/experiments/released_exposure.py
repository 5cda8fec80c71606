"""The released model's last part: it learns from whole images how bright they would be.

    python -m lle_jax.main --config experiments/released_exposure.py
    lle release runs/released_exposure -o model/ --float16 --interval 0.9

Starts from the parameters in runs/released_uncertainty; what the model makes of a brightness that
it is told stays the same. The same command resumes.
"""

import ml_collections

from lle_jax.experiments import released_whole


def get_config() -> ml_collections.ConfigDict:
    config = released_whole.get_config()

    config.data.batch_size = 24
    config.data.context_sizes = (150, 256)  # dermatoscopies are 150 pixels high
    config.data.whole_fraction = 0.75

    # Good light must be told from half the light of something brighter.
    config.degradation.mixed_with = ("wide", "wide", "camera", "good_light")

    config.model.exposure_path = True
    config.loss.kind = "exposure"

    config.optim.lr = 1e-3
    config.optim.b2 = 0.999
    config.optim.weight_decay = 0.0
    config.train.given_exposure = 0.0
    config.train.start_from = "runs/released_uncertainty"
    config.train.steps = 2000
    return config
