"""The released model's last run: it learns the scale of its error; its output stays the same.

    python -m lle_jax.main --config experiments/released_uncertainty.py
    lle release runs/released_uncertainty -o before/ --float16 --interval 0.9
    python tools/train_paths.py exposure before/ -o middle/
    python tools/train_paths.py light middle/ -o model/

The last two with `--data` of the images that tools/more_images.py lists as well.

Starts from the parameters in runs/released_whole. The same command resumes.
"""

import ml_collections

from lle_jax.experiments import released_whole


def get_config() -> ml_collections.ConfigDict:
    config = released_whole.get_config()

    config.loss.kind = "uncertainty"

    config.optim.lr = 1e-2
    config.optim.weight_decay = 0.0
    config.optim.ema_decay = 0.99
    config.train.given_exposure = 1.0  # an interval is that of the brightness that was chosen
    config.train.start_from = "runs/released_whole"
    config.train.steps = 400
    return config
