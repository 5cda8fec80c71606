"""Which loss to train with: terms added to and taken from that of experiments/unet.py.

    lle ablate experiments/ablations/losses.py -o runs/losses

24 runs, about 4 hours on 2 CPU cores; with --quick some minutes. Weights bring each term near
the size of Charbonnier's; MS-SSIM has four scales on crops of 96 pixels.
"""

from lle_jax.evaluation.ablation import Ablation
from lle_jax.experiments import base


def get_ablation() -> Ablation:
    return Ablation(
        base=base.get_config(),
        variants={
            "charbonnier_ssim": {},
            "charbonnier": {"loss.ssim": 0.0},
            "mse": {"loss.charbonnier": 0.0, "loss.ssim": 0.0, "loss.mse": 1.0},
            "ssim": {"loss.charbonnier": 0.0, "loss.ssim": 1.0},
            "charbonnier_ms_ssim": {"loss.ssim": 0.0, "loss.ms_ssim": 0.2},
            "plus_edge": {"loss.edge": 0.5},
            "plus_frequency": {"loss.frequency": 0.5},
            "plus_colour": {"loss.colour": 0.5},
        },
        quick=QUICK,
    )


QUICK = {
    "data.crop": 48,
    "data.batch_size": 4,
    "model.widths": (8, 16),
    "optim.warmup_steps": 10,
    "train.steps": 60,
    "train.validate_every": 60,
    "train.checkpoint_every": 30,
    "evaluation.realisations": 1,
}
