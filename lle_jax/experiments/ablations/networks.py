"""Which network, at equal cost: each within a tenth of the multiply-accumulates of the U-Net.

    lle ablate experiments/ablations/networks.py -o runs/networks

12 runs, overnight on 2 CPU cores; with --quick some minutes. Zero-DCE is not among them: it learns
from other data, dark images alone.
"""

from lle_jax.evaluation.ablation import Ablation
from lle_jax.experiments import unet


def get_ablation() -> Ablation:
    return Ablation(
        base=unet.get_config(),
        variants={
            "unet": {},
            "dual_path": {
                "model": {
                    "name": "dual_path",
                    "widths": (40, 72, 144),
                    "blocks": (1, 2, 2),
                    "dtype": "float32",
                }
            },
            "nafnet": {
                "model": {
                    "name": "nafnet",
                    "width": 20,
                    "encoder": (1, 1, 2),
                    "middle": 2,
                    "decoder": (1, 1, 1),
                    "dtype": "float32",
                }
            },
            "retinexformer": {
                "model": {
                    "name": "retinexformer",
                    "width": 16,
                    "blocks": (1, 1, 1),
                    "dtype": "float32",
                },
                "optim.lr": 2e-4,  # as published
            },
        },
        quick={
            "data.crop": 48,
            "data.batch_size": 2,
            "optim.warmup_steps": 5,
            "train.steps": 20,
            "train.validate_every": 20,
            "train.checkpoint_every": 10,
            "evaluation.draws": 1,
        },
    )
