"""All networks on real images of four modalities, at equal cost and with equal training.

    lle ablate experiments/ablations/modalities.py -o runs/modalities

Each within a tenth of the multiply-accumulates of the U-Net of experiments/unet.py, trained on the
train images of ../shared/data (see README) and tested on its test images, each under its modality's
preset. 18 runs, overnight on 2 CPU cores; with --quick some minutes.
"""

from experiments.ablations import networks
from lle_jax.evaluation.ablation import Ablation
from lle_jax.experiments import released, unet, zero_dce


def get_ablation() -> Ablation:
    base = released.get_config()
    base.data.crop = 64
    base.degradation.untouched = 0.05
    base.train.steps = 3000
    shipped = networks.get_ablation().variants
    dark = zero_dce.get_config()
    return Ablation(
        base=base,
        variants={
            "unet": {"model": unet.get_config().model.to_dict()},
            **{name: shipped[name] for name in ("dual_path", "nafnet", "retinexformer")},
            "cidnet": {
                "model": {
                    "name": "cidnet",
                    "widths": (16, 16, 32, 64),
                    "heads": (2, 4, 8),
                    "dtype": "float32",
                },
                "optim.lr": 1e-4,  # as published
            },
            "zero_dce": {
                "model": {**dark.model.to_dict(), "width": 18},
                "loss": dark.loss.to_dict(),  # learns from the dark images alone
                "optim.clip_norm": dark.optim.clip_norm,
            },
        },
        quick={
            "data.batch_size": 2,
            "optim.warmup_steps": 5,
            "train.steps": 20,
            "train.validate_every": 20,
            "train.checkpoint_every": 10,
        },
    )
