"""Lists every key of an experiment with its default; an experiment says only what differs.

    python -m lle_jax.main --config experiments/base.py --config.data.source=FOLDER

Every key can be set from the command line with --config.group.key=value. The defaults train the
U-Net on the embedded samples.
"""

from typing import Any

import ml_collections

# The keys of each network's config with their defaults; `name` and `dtype` are common to all.
NETWORKS: dict[str, dict[str, Any]] = {
    "unet": {
        "widths": (32, 64, 96),  # channels of each level, from fine to coarse
        "blocks": 1,  # residual blocks a level
    },
    "dual_path": {
        "widths": (32, 64, 128),  # channels of each level, from fine to coarse
        "blocks": (1, 2, 2),  # residual blocks of each level
        "uncertainty": False,  # also predict the scale of the error's Laplace distribution
        "exposure_path": False,  # predict the brightness of the result by a path of its own
        "glare_path": False,  # take veiling glare off the image first
        "light_path": False,  # even out what is left of the light and its colour in the result
    },
    "nafnet": {
        "width": 16,  # channels of the finest level, doubled at each coarser one
        "encoder": (1, 1, 2),  # blocks of each level on the way down
        "middle": 2,  # blocks at the bottom
        "decoder": (1, 1, 1),  # blocks of each level on the way up
    },
    "retinexformer": {
        "width": 40,  # channels of the finest level, doubled at each coarser one
        "blocks": (1, 2, 2),  # attention blocks of each level
    },
    "cidnet": {
        "widths": (36, 36, 72, 144),  # channels of each level
        "heads": (2, 4, 8),  # attention heads of each level
    },
    "zero_dce": {
        "width": 32,  # channels of every layer
        "iterations": 8,  # times that the curve is applied
    },
    "iat": {
        "width": 16,  # channels of the local branch
        "blocks": 3,  # of each of its two parts
        "global_width": 64,  # channels of the global branch
    },
    "flol": {
        "width": 16,  # channels of the spatial stage
        "amplitude_width": 8,  # channels of the frequency stage
        "frequency_blocks": 4,  # that restore what is noisy
        "spatial_blocks": 6,  # that restore what is not
    },
}

# Keys of earlier versions, and what they are called now.
RENAMED_KEYS = {
    "data.views": "data.context_sizes",
    "data.min_scale": "data.random_resized_crop_min_scale",
    "data.augmented": "data.photometric_augmentation",
    "degradation.untouched": "degradation.clean_fraction",
    "loss.found": "loss.segmentation_consistency",
    "loss.found_predictor": "loss.segmenter",
    "loss.exposure": "loss.zero_reference.exposure",
    "loss.spatial": "loss.zero_reference.spatial",
    "loss.smoothness": "loss.zero_reference.smoothness",
    "model.spread": "model.uncertainty",
    "evaluation.draws": "evaluation.realisations",
}


def network(name: str) -> ml_collections.ConfigDict:
    """Returns the default config of a network, a key of `NETWORKS`."""
    return ml_collections.ConfigDict({"name": name, "dtype": "float32", **NETWORKS[name]})


def get_config() -> ml_collections.ConfigDict:
    """Returns all keys with their defaults."""
    config = ml_collections.ConfigDict()
    config.seed = 0  # of the initial parameters, the crops and the degradations

    config.data = ml_collections.ConfigDict()
    config.data.source = "samples"  # or a folder of well-lit images, a manifest, or several: a,b
    config.data.pairs = ""  # measured pairs: LOW,CLEAN, a folder with low/ and high/, or a manifest
    config.data.pairs_weight = 1.0  # share of crops from pairs; the others are from data.source
    config.data.folds = 0  # above 0, cross-validation: this many folds
    config.data.fold = 0  # the one to test on, from 0; the next is for validation
    config.data.balance = False  # draw every modality equally often
    config.data.crop = 96  # side of the crops that are restored, in pixels
    config.data.context_sizes = ()  # sides of the context crops they are cut from; () for none
    config.data.random_resized_crop_min_scale = 1.0  # below 1, crops are reduced by up to this
    config.data.whole_fraction = 0.0  # fraction of crops that show the whole image, reduced
    config.data.photometric_augmentation = 0.0  # fraction of crops given another contrast
    config.data.mixup = 0.0  # alpha of the Beta distribution that mixes two crops; 0 mixes none
    config.data.batch_size = 8  # over all devices

    config.degradation = ml_collections.ConfigDict()
    config.degradation.preset = "lowlight"  # of configs/degradation/, a TOML file, or by_modality
    config.degradation.mixed_with = ()  # presets that training draws as often as this one
    config.degradation.drop = ()  # names of stages that training leaves out
    config.degradation.clean_fraction = 0.0  # fraction of training images that stay as they are

    config.model = network("unet")

    config.loss = ml_collections.ConfigDict()
    config.loss.kind = "supervised"  # or zero_reference, uncertainty
    config.loss.charbonnier = 1.0  # weights of the supervised terms, of training/losses.py
    config.loss.ssim = 0.2
    config.loss.mse = 0.0
    config.loss.ms_ssim = 0.0
    config.loss.edge = 0.0
    config.loss.frequency = 0.0
    config.loss.colour = 0.0
    config.loss.lpips = 0.0
    config.loss.lpips_weights = ""  # file of LPIPS's network, see docs/metrics.md
    config.loss.segmentation_consistency = 0.0
    config.loss.segmenter = ""  # folder of a training segmenter, of tools/train_tasks.py
    config.loss.zero_reference = ml_collections.ConfigDict()
    config.loss.zero_reference.exposure = 0.6  # brightness to aim for
    config.loss.zero_reference.spatial = 1.0  # weights of Zero-DCE's other terms
    config.loss.zero_reference.colour = 0.5
    config.loss.zero_reference.smoothness = 20.0

    config.optim = ml_collections.ConfigDict()
    config.optim.lr = 1e-3  # peak of the learning rate, which then falls as a cosine
    config.optim.warmup_steps = 100  # steps until the peak
    config.optim.b2 = 0.99  # decay of Adam's second moment
    config.optim.weight_decay = 1e-4  # of AdamW
    config.optim.clip_norm = 1.0  # largest norm of the gradient
    config.optim.ema_decay = 0.995  # of the moving average of the parameters
    config.optim.accumulate = 1  # batches per update

    config.train = ml_collections.ConfigDict()
    config.train.given_exposure = 0.0  # fraction of images that dual_path is told the brightness of
    config.train.start_from = ""  # a run directory or a release whose parameters to start from
    config.train.steps = 1200
    config.train.log_every = 20  # steps
    config.train.validate_every = 300
    config.train.checkpoint_every = 300

    config.evaluation = ml_collections.ConfigDict()
    config.evaluation.seed = 1  # of the low-light test images
    config.evaluation.realisations = 2  # low-light versions of each test image
    config.evaluation.baselines = True  # also evaluate the classical baselines
    return config
