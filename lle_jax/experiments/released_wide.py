"""The released model, trained further on the camera and on wide light, its brightness told or not.

    python -m lle_jax.main --config experiments/released_wide.py

Needs the real images in ../shared/data (see README). Starts from the parameters in
runs/released_segmentation_2, which are those of the release before; without its
segmentation-consistency loss, which rewarded invented structure. The same command resumes.
"""

import ml_collections

from lle_jax.experiments import released_large


def get_config() -> ml_collections.ConfigDict:
    config = released_large.get_config()

    config.degradation.mixed_with = ("wide", "wide", "camera")
    config.degradation.clean_fraction = 0.12

    config.model.uncertainty = True  # not trained here, see experiments/released_uncertainty.py

    config.train.given_exposure = 0.5
    config.train.start_from = "runs/released_segmentation_2"
    config.train.steps = 7000
    return config
