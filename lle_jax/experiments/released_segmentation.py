r"""The released model's third part: a segmenter must find the same vessels again.

    python tools/train_tasks.py ../shared/data vessels --seed 1 -o runs/segmenters
    python -m lle_jax.main --config experiments/released_segmentation.py
    python -m lle_jax.main --config experiments/released_segmentation.py \
        --workdir runs/released_segmentation_2 \
        --config.train.start_from=runs/released_segmentation \
        --config.loss.segmentation_consistency=0.5 --config.train.steps=3000

Starts from the parameters in runs/released_large; 70 minutes on 2 CPU cores. The same commands
resume.
"""

import ml_collections

from lle_jax.experiments import released_large


def get_config() -> ml_collections.ConfigDict:
    config = released_large.get_config()

    # The conditional mean shows thin vessels too faintly to be segmented.
    config.loss.segmentation_consistency = 0.2
    config.loss.segmenter = "runs/segmenters/vessels"

    config.optim.lr = 3e-4
    config.train.start_from = "runs/released_large"
    config.train.steps = 4000
    return config
