"""Which network, at equal cost: each within a tenth of the multiply-accumulates of the U-Net.

    lle ablate experiments/ablations/networks.py -o runs/networks

12 runs, overnight on 2 CPU cores; with --quick some minutes. Zero-DCE is not among them: it learns
from other data, dark images alone.
"""

from typing import Any

import ml_collections

from lle_jax.evaluation.ablation import Ablation
from lle_jax.experiments import base


def network(name: str, **fields: Any) -> ml_collections.ConfigDict:
    """A network's default config with some fields changed."""
    config = base.network(name)
    config.update(fields)
    return config


def get_ablation() -> Ablation:
    return Ablation(
        base=base.get_config(),
        variants={
            "unet": {},
            "dual_path": {"model": network("dual_path", widths=(40, 72, 144))},
            "nafnet": {"model": network("nafnet", width=20)},
            "retinexformer": {
                "model": network("retinexformer", width=16, blocks=(1, 1, 1)),
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
            "evaluation.realisations": 1,
        },
    )
