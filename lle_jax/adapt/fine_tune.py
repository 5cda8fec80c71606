"""The training of an adaptation: brightness, then a run of as many steps as the time allows.

What is adapted stays nearer to the model before than what was trained: see `SHARE`.
"""

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import nnx

from lle_jax import console, data, degrade, files, models
from lle_jax.checkpoints import load, release, training_record
from lle_jax.experiments import base
from lle_jax.fit import lamp
from lle_jax.training import degradation, exposure, sharding
from lle_jax.training import train as job

CALIBRATED = "exposure"  # folder of the model before with its brightness calibrated
CROP, CONTEXT = 128, 256  # sides of the training crops and of the context around them, at most
BATCH = 8
MIN_STEPS, MAX_STEPS = 20, 5000
TIMED_STEPS = 3
# Of the way from the parameters before to the trained ones, that is gone (Wortsman et al., CVPR
# 2022, arXiv:2109.01903). Few steps on few images teach to see spots in noise too: on validation
# images under two degradations to which it was adapted, four fifths of the way add 12 % and 48 %
# fewer bright spots than all of it, and have 0.2 to 0.7 dB less.
SHARE = 0.8
# Every other image is degraded by this preset. The fit knows low light by few measures and within
# its prior only; trained on the fitted preset alone, the network forgot the rest. Adapted so to a
# lamp beside the lens, which the prior lacks, it lost 2.6 dB under that lamp.
BESIDE = "wide"
THUMBNAILS = 640  # by which brightness is calibrated: of the clinic's light, and as many of others


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What decides the training besides the images and its length.

    Attributes:
      preset: file of the fitted degradation.
      model: config of the network.
      start_from: the release or run whose parameters to start from.
      lr: peak of the learning rate.
      seed: of the crops and the degradations.
      beside: the preset that every other image is degraded by, see `beside`.
    """

    preset: Path
    model: ml_collections.ConfigDict
    start_from: Path
    lr: float
    seed: int
    beside: str = BESIDE


def beside(fitted: Path, path: Path) -> str:
    """Returns the preset beside the fitted one; where that has a lamp, writes `path` with it too.

    Whatever the light, its colour is the clinic's: were half of the images in white light, the
    network could not tell the lamp's colour from the subject's.
    """
    stages = [stage for stage in degrade.load(fitted).stages if stage.name == lamp.STAGE]
    if not stages:
        return BESIDE
    text = (degrade.presets.folder() / f"{BESIDE}.toml").read_text(encoding="utf-8")
    section = degrade.presets.to_toml(stages[0], lambda _: f"as in {fitted.name}")
    files.write_text(path, f"{text}\n{section}")
    return str(path)


def config(recipe: Recipe, images: data.Splits, steps: int) -> ml_collections.ConfigDict:
    """Returns the experiment; crops are as large as the smallest image allows."""
    side = min(min(size) for size in (*images.train.sizes, *images.validation.sizes))
    crop, context = min(CROP, side), min(CONTEXT, side)
    config = base.get_config()
    config.seed = recipe.seed
    config.data.source = "adapt"  # recorded only: the images are given to `train`
    config.data.crop = crop
    # Trained on crops of one size, a network takes images of other sizes for better lit.
    config.data.context_sizes = (crop, context) if context > crop else ()
    config.data.random_resized_crop_min_scale = 0.5
    config.data.whole_fraction = 0.5  # parts are brighter than a whole on black
    config.data.batch_size = -(-BATCH // jax.device_count()) * jax.device_count()
    config.degradation.preset = str(recipe.preset)
    config.degradation.mixed_with = (recipe.beside,)
    config.degradation.clean_fraction = 0.08  # well-exposed images must stay as they are
    config.model = recipe.model
    config.optim.lr = recipe.lr
    config.optim.warmup_steps = min(20, steps // 10)
    config.optim.weight_decay = 0.0  # would draw the parameters to 0
    if models.is_tiled(recipe.model):  # an exposure path has learned before, and is to stay
        config.train.given_exposure = 1.0 if recipe.model.exposure_path else 0.5
    config.train.start_from = str(recipe.start_from)
    config.train.steps = steps
    config.train.log_every = max(1, min(20, steps // 20))
    config.train.validate_every = max(1, steps // 5)
    config.train.checkpoint_every = max(1, min(100, steps // 5))
    config.evaluation.baselines = False
    return config


def calibrate_exposure(
    recipe: Recipe, start: load.LoadedModel, images: data.Splits, folder: Path
) -> None:
    """Calibrates the exposure path of `start` and writes a release to start from; done once.

    By the training images alone first: the path is kept as it was where the new one is no better on
    the validation images. Then by both.
    """
    if load.is_release(folder):
        console.note("brightness: finished before")
        return
    draw = functools.partial(exposure.draw, start.config, start.params)
    each = THUMBNAILS / len(images.train)
    drawn = [  # of the clinic's light and of others', to train and to validate
        (
            draw(images.train, light, THUMBNAILS, recipe.seed),
            draw(images.validation, light, round(each * len(images.validation)), recipe.seed + 1),
        )
        for light in (
            degradation.make(str(recipe.preset)),
            degradation.make(recipe.beside, mixed_with=("good_light",)),
        )
    ]
    (_, validation), _ = drawn

    def wrong(params: nnx.State) -> float:
        error = exposure.log_error(start.config, params, validation)
        return float(np.sqrt(np.mean(error**2)))

    calibrated = exposure.calibrate(start.config, start.params, *(train for train, _ in drawn))
    before, after = wrong(start.params), wrong(calibrated)
    kept = start.params
    if after < before:
        both = (
            exposure.Thumbnails(*(np.concatenate(part) for part in zip(*parts, strict=True)))
            for parts in drawn
        )
        kept = exposure.calibrate(start.config, start.params, *both)
    console.note(
        f"brightness: the logarithm of the mean is wrong by {before:.3f} before and {after:.3f} "
        f"after{'' if after < before else ', so it stays as it was'}"
    )
    record = {"images": start.provenance.images, "exposure": [before, after]}
    release.save(folder, start.config, kept, record)


def affordable_steps(recipe: Recipe, images: data.Splits, seconds: float) -> int:
    """Returns how many steps fit into the time, by the time of a few on the largest crops."""
    trial = config(recipe, images, MAX_STEPS)
    trial.data.context_sizes = trial.data.context_sizes[-1:]
    began = time.monotonic()
    experiment = job.prepare(trial)
    state, iterator = experiment.state, job.make_iterator(trial, images.train)
    (program,) = job.compile_steps(trial, experiment, state).values()
    taken = []
    for _ in range(TIMED_STEPS):
        last = time.monotonic()
        state, scalars = program(state, sharding.to_devices(next(iterator), experiment.mesh))
        jax.block_until_ready(scalars)
        taken.append(time.monotonic() - last)
    step = float(np.median(taken))
    seconds -= 2 * (time.monotonic() - began)  # the training compiles again
    steps = int(np.clip(seconds / step // 10 * 10, MIN_STEPS, MAX_STEPS))
    console.note(f"training: {steps} steps, {step:.2f} s each")
    return steps


def read(output: Path, start: load.LoadedModel) -> tuple[load.LoadedModel, dict[str, Any]]:
    """Reads the adapted model of a finished training, and the record of how it was made.

    Args:
      output: the folder of the adaptation.
      start: the model before; that with its brightness calibrated, if any, is in the folder.
    """
    trained, details = training_record.read(output / "run")
    calibrated = output / CALIBRATED
    before = load.load_model(calibrated) if load.is_release(calibrated) else start
    params = jax.tree.map(lambda a, b: a + SHARE * (b - a), before.params, trained.params)
    return trained._replace(params=params), details | {"adapt.share": SHARE}
