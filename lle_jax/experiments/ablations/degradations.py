"""Which degradations matter in training: one dropped at a time, all in the test.

    lle ablate experiments/ablations/degradations.py -o runs/degradations

24 runs, about 4 hours on 2 CPU cores; with --quick some minutes.
"""

from lle_jax.evaluation.ablation import Ablation
from lle_jax.experiments import base
from lle_jax.experiments.ablations import losses

STAGES = (
    "exposure",
    "gaussian_blur",
    "poisson_gaussian_noise",
    "gamma",
    "gaussian_noise",
    "salt_and_pepper",
    "jpeg",
)


def get_ablation() -> Ablation:
    without = {f"no_{stage}": {"degradation.drop": (stage,)} for stage in STAGES}
    return Ablation(
        base=base.get_config(),
        variants={"all": {}, **without},
        quick=losses.QUICK,
    )
