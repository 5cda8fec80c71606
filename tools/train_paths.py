"""Gives a released model a path that sees thumbnails alone, trained on the train images.

    python tools/train_paths.py exposure START -o FOLDER [--data MANIFEST,...]
    python tools/train_paths.py light START -o FOLDER
    python tools/train_paths.py glare START -o FOLDER

`exposure`: how bright is bright enough? `light`: what is still uneven in the result, or of another
colour? `glare`: how much of the light is a veil? START is a release or a run of
experiments/released_uncertainty.py; a path that it has is trained on. FOLDER is a new release.
Draws dark thumbnails of the images of the role train, each from the preset of its modality or one
of `MIXED_WITH` (and of `VEILED` for `glare`), and trains the path on them; everything else in the
model stays as it is. Prints the error on images of the role val, which decided the recipe; test is
never read. On two cores of a CPU half an hour, an hour for `light`. The released paths were trained
on ../shared/data and the images that tools/more_images.py lists beside it; that for brightness once
more, 16,000 steps at 1e-3, when colonoscopies and fundus photographs were added to these, half of
the thumbnails of both kinds of the new images.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
from flax import nnx

from lle_jax import data, models
from lle_jax.checkpoints import load, release
from lle_jax.models.params import load_params
from lle_jax.training import degradation, exposure, glare, light

Trained = tuple[nnx.State, int]  # the parameters, and of how many thumbnails
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "manifest.csv"


class Recipe(NamedTuple):
    """How long a path is trained, and on how much."""

    thumbnails: int
    steps: int
    lr: float


MIXED_WITH = ("wide", "side_light", "camera", "good_light")  # with each modality's preset
VEILED = ("glare",) * 4
RECIPES = {
    "exposure": Recipe(60_000, 24_000, 1.5e-3),
    "light": Recipe(28_000, 8000, 1.5e-3),
    "glare": Recipe(20_000, 6000, 1e-3),
}


def main() -> None:
    """Trains the path and writes the release."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("path", choices=RECIPES)
    parser.add_argument("start", type=Path, help="a release or a run directory")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the release")
    parser.add_argument("--data", default=str(DATA), help="as config.data.source")
    parser.add_argument("--thumbnails", type=int, help="default: that of the path's recipe")
    parser.add_argument("--steps", type=int, help="default: that of the path's recipe")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.output.exists():
        parser.error(f"{arguments.output} exists; choose another -o")
    recipe = RECIPES[arguments.path]
    recipe = recipe._replace(
        thumbnails=arguments.thumbnails or recipe.thumbnails, steps=arguments.steps or recipe.steps
    )

    start = load.load_model(arguments.start)
    key = f"{arguments.path}_path"
    config = ml_collections.ConfigDict(start.config.to_dict() | {key: True})
    initial = models.build(config, jax.random.key(arguments.seed))[1]
    params = load_params(
        start.params, config, str(arguments.start), initial, optional=(f"{arguments.path}.",)
    )
    images = data.load(arguments.data, crop=1)
    train_path = {"exposure": train_exposure, "light": train_light, "glare": train_glare}
    mixed_with = MIXED_WITH + (VEILED if arguments.path == "glare" else ())
    drawing = degradation.drawing("by_modality", mixed_with=mixed_with)
    params, drawn = train_path[arguments.path](
        config, params, images, drawing, recipe, arguments.seed
    )

    known = start.provenance.images
    seen = {"train": images.train, "validation": images.validation}
    record = (release.record(arguments.start) or start.provenance.record) | {
        f"{arguments.path}.thumbnails": drawn,
        f"{arguments.path}.mixed_with": list(mixed_with),
        f"{arguments.path}.steps": recipe.steps,
        f"{arguments.path}.lr": recipe.lr,
        f"{arguments.path}.seed": arguments.seed,
        "images": {
            role: sorted({*known.get(role, ()), *part.all_hashes}) for role, part in seen.items()
        },
    }
    release.save(arguments.output, config, params, record, dtype="float16")
    print(f"release: {arguments.output}")


def train_exposure(config, params, images, drawing, recipe: Recipe, seed: int) -> Trained:
    """Trains the exposure path; says how far the predicted mean luma is from the clean image's."""

    def say(when: str, params: nnx.State) -> None:
        error = np.sqrt(np.mean(exposure.log_error(config, params, validation) ** 2))
        print(
            f"validation, {when}: log of the mean luma is wrong by {error:.3f} (root mean square)"
        )

    degrade = degradation.applying(drawing)
    validation = exposure.draw(config, params, images.validation, degrade, 2000, seed=1)
    say("before", params)
    train = exposure.draw(config, params, images.train, degrade, recipe.thumbnails, seed=seed)
    params = exposure.fit(config, params, train, steps=recipe.steps, lr=recipe.lr, seed=seed)
    say("after", params)
    return params, len(train.mean)


def train_light(config, params, images, drawing, recipe: Recipe, seed: int) -> Trained:
    """Trains the light path; says how far the results' thumbnails are from the clean images'."""

    def say(when: str, params: nnx.State) -> None:
        error = light.squared_error(config, params, validation)
        print(f"validation, {when}: PSNR of thumbnails {np.mean(-10 * np.log10(error)):.2f} dB")

    degrade = degradation.applying(drawing)
    validation = light.draw(config, params, images.validation, degrade, 1600, seed=1)
    say("before", params)
    train = light.draw(config, params, images.train, degrade, recipe.thumbnails, seed=seed)
    params = light.fit(config, params, train, steps=recipe.steps, lr=recipe.lr, seed=seed)
    say("after", params)
    return params, len(train.cells)


def train_glare(config, params, images, drawing, recipe: Recipe, seed: int) -> Trained:
    """Trains the glare path; says what is left of veils, and how often one is seen in error."""
    validation = glare.draw(images.validation, drawing, 2000, seed=1)
    train = glare.draw(images.train, drawing, recipe.thumbnails, seed=seed)
    params = glare.fit(config, params, train, steps=recipe.steps, lr=recipe.lr, seed=seed)
    judged = glare.judge(config, params, validation)
    before, after = (-10 * np.log10(error + 1e-10) for error in (judged.before, judged.after))
    veiled = judged.before > 0
    print(
        f"validation, under a veil: PSNR of thumbnails {np.mean(before[veiled]):.2f} dB before and "
        f"{np.mean(after[veiled]):.2f} dB after; without one, "
        f"{np.mean(judged.share[~veiled] > 0):.2%} are changed"
    )
    return params, len(train.cells)


if __name__ == "__main__":
    main()
