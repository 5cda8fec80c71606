r"""The released model's third part: what a predictor finds must be found again.

    python tools/train_tasks.py ../shared/data vessels --seed 1 -o runs/predictors
    python -m lle_jax.main --config experiments/released_found.py
    python -m lle_jax.main --config experiments/released_found.py --workdir runs/released_found_2 \
        --config.train.start_from=runs/released_found --config.loss.found=0.5 \
        --config.train.steps=3000

Starts from the weights in runs/released_large; 70 minutes on 2 CPU cores. The same commands resume.
"""

import ml_collections

from lle_jax.experiments import released_large


def get_config() -> ml_collections.ConfigDict:
    config = released_large.get_config()

    # A mean of what could be there shows thin vessels too faintly to be found.
    config.loss.found = 0.2
    config.loss.found_predictor = "runs/predictors/vessels"

    config.optim.lr = 3e-4
    config.train.start_from = "runs/released_large"
    config.train.steps = 4000
    return config
