"""All networks on real images of four modalities, at equal cost and with equal training.

    lle ablate experiments/ablations/modalities.py -o runs/modalities

Each within a tenth of the multiply-accumulates of the U-Net of experiments/unet.py, trained on the
train images of ../shared/data (see README) and tested on its test images, each under its modality's
preset. 18 runs, overnight on 2 CPU cores; with --quick some minutes.
"""

from lle_jax.evaluation.ablation import Ablation
from lle_jax.experiments import base, released
from lle_jax.experiments.ablations import networks


def get_ablation() -> Ablation:
    config = released.get_config()
    config.data.crop = 64
    config.degradation.clean_fraction = 0.05
    config.train.steps = 3000
    shipped = networks.get_ablation().variants
    return Ablation(
        base=config,
        variants={
            "unet": {"model": base.network("unet")},
            **{name: shipped[name] for name in ("dual_path", "nafnet", "retinexformer")},
            "cidnet": {
                "model": networks.network("cidnet", widths=(16, 16, 32, 64)),
                "optim.lr": 1e-4,  # as published
            },
            "zero_dce": {
                "model": networks.network("zero_dce", width=18),
                "loss.kind": "zero_reference",  # learns from the dark images alone
                "optim.clip_norm": 0.1,  # as published
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
