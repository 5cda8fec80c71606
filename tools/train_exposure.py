"""Gives a released model an exposure path, trained on clean images: how bright is bright enough?

    python tools/train_exposure.py START -o FOLDER [--data ../shared/data/manifest.csv]

START is a release or a run of experiments/released_uncertainty.py, FOLDER a new release. Draws dark
thumbnails of the images of the role train, each from the preset of its modality, `wide` (twice as
often), `camera` or `good_light`, and trains the path on them; everything else in the model stays as
it is. Prints the error on images of the role val, which decided the recipe; test is never read.
A quarter of an hour on two cores of a CPU.
"""

import argparse
from pathlib import Path

import jax
import ml_collections
import numpy as np

from lle_jax import data, models
from lle_jax.checkpoints import load, release
from lle_jax.models.params import load_params
from lle_jax.training import degradation, exposure

MIXED_WITH = ("wide", "wide", "camera", "good_light")
LR = 2e-3
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "manifest.csv"


def main() -> None:
    """Trains the path and writes the release."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("start", type=Path, help="a release or a run directory")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the release")
    parser.add_argument("--data", default=str(DATA), help="as config.data.source")
    parser.add_argument("--thumbnails", type=int, default=40_000)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.output.exists():
        parser.error(f"{arguments.output} exists; choose another -o")

    start = load.load_model(arguments.start)
    config = ml_collections.ConfigDict(start.config.to_dict() | {"exposure_path": True})
    initial = models.build(config, jax.random.key(arguments.seed))[1]
    params = load_params(
        start.params, config, str(arguments.start), initial, optional=(exposure.LAYER,)
    )
    images = data.load(arguments.data, crop=1)
    degrade = degradation.make("by_modality", mixed_with=MIXED_WITH)
    validation = exposure.draw(images.validation, degrade, 2000, seed=1)
    print(f"validation, before: {spread(start.config, start.params, validation)}", flush=True)
    train = exposure.draw(images.train, degrade, arguments.thumbnails, seed=arguments.seed)
    params = exposure.fit(config, params, train, steps=arguments.steps, lr=LR, seed=arguments.seed)
    print(f"validation, after: {spread(config, params, validation)}")

    known = start.provenance.images
    seen = {"train": images.train, "validation": images.validation}
    record = (release.record(arguments.start) or start.provenance.record) | {
        "exposure.thumbnails": len(train.mean),
        "exposure.mixed_with": list(MIXED_WITH),
        "exposure.steps": arguments.steps,
        "exposure.lr": LR,
        "exposure.seed": arguments.seed,
        "images": {
            role: sorted({*known.get(role, ()), *part.all_hashes}) for role, part in seen.items()
        },
    }
    release.save(arguments.output, config, params, record, dtype="float16")
    print(f"release: {arguments.output}")


def spread(config: ml_collections.ConfigDict, params, thumbnails: exposure.Thumbnails) -> str:
    """Says how far the predicted mean luma is from the clean image's."""
    error = exposure.log_error(config, params, thumbnails)
    return f"log of the mean luma is wrong by {np.sqrt(np.mean(error**2)):.3f} (root mean square)"


if __name__ == "__main__":
    main()
