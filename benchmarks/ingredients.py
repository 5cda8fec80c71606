"""What each ingredient of the released model's training holds, on validation images.

    python benchmarks/ingredients.py FOLDER [--steps 300] [--data ../shared/data] [--limit 6]

The released model is trained on for a few steps, by the recipe of experiments/released_whole.py and
by variants that lack one ingredient: what the network then forgets is what that ingredient holds.
The brightness is told, since its path was trained apart and stays. Two more lack a path that sees
thumbnails alone, and are not trained; `--steps 0` leaves it at these. Then the degradations of
tests/reference/unseen.py on the first images of each set: PSNR by the brightness predicted and
told; images in good light that lose more than 0.5 dB; dark spots added in fundus photographs.
"""

import argparse
from pathlib import Path

import harm
import jax
import ml_collections
import numpy as np

from lle_jax import console, images, models
from lle_jax.adapt import fine_tune
from lle_jax.checkpoints import load, release
from lle_jax.experiments import released_whole
from lle_jax.inference import enhance
from lle_jax.models.params import load_params
from lle_jax.training import train

VARIANTS = {
    "all ingredients": {},
    "without `wide`": {"degradation.mixed_with": ("camera",)},
    "without `camera`": {"degradation.mixed_with": ("wide", "wide")},
    "without both": {"degradation.mixed_with": ()},
    "without clean images": {"degradation.clean_fraction": 0.0},
    "without whole images": {"data.whole_fraction": 0.0},
}
PATHS = {
    "without the path for light": {"light_path": False},
    "without that and the path for brightness": {"light_path": False, "exposure_path": False},
}
UNSEEN, OTHERS = harm.REFERENCE.UNSEEN, harm.REFERENCE.OTHERS


def config_of(changes: dict, arguments: argparse.Namespace):
    """The experiment of a variant: that of the release, for few steps."""
    config = released_whole.get_config()
    config.data.source = f"samples,{arguments.data / 'manifest.csv'}"
    config.data.context_sizes = (128, 236)
    config.optim.warmup_steps = arguments.steps // 10
    config.optim.ema_decay = 0.98
    config.model.update(exposure_path=True, light_path=True, glare_path=True)
    config.train.given_exposure = 1.0
    config.train.start_from = str(release.BUNDLED)
    config.train.steps = arguments.steps
    config.train.validate_every = config.train.checkpoint_every = arguments.steps // 2
    config.update_from_flattened_dict(changes)
    return config


def without_paths(changes: dict, folder: Path) -> Path:
    """Writes the released model without the paths that `changes` leave out of its config."""
    start = load.load_model()
    config = ml_collections.ConfigDict(start.config.to_dict() | changes)
    initial = models.build(config, jax.random.key(0))[1]
    params = load_params(start.params, config, str(release.BUNDLED), initial)
    release.save(folder, config, params, {"images": start.provenance.images})
    return folder


def judge(net, arguments: argparse.Namespace) -> list[float]:
    """The columns of the table."""
    listed = harm.find(arguments.data, "val", arguments.limit)
    values = harm.measure(net, listed, UNSEEN | OTHERS)

    def mean(kind: str, method: str) -> float:
        return float(np.mean([np.mean(each) for each in values[kind, method].values()]))

    unseen = [np.mean([mean(kind, how) for kind in UNSEEN]) for how in ("default", "told")]
    low, mild = (np.concatenate(list(values["mild", how].values())) for how in ("low", "default"))
    spots = []
    for kind, function in UNSEEN.items():
        for number, path in enumerate(listed[harm.FUNDUS]):
            clean = images.read(path).pixels
            output = enhance.enhance_pixels(net, function(np.random.default_rng(number), clean))[0]
            spots.append(float(harm.spot_change(output, clean).dark_added))
        print(f"{kind}: {np.mean(spots[-len(listed[harm.FUNDUS]) :]):.0f} dark spots", flush=True)
    harmed = float(np.sum(mild < low - 0.5))
    return [*unseen, mean("dim", "default"), mean("half", "default"), harmed, float(np.mean(spots))]


def main() -> None:
    """Trains and judges the variants, and prints a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="of the run directories; resumes")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--limit", type=int, default=6, help="images of each set")
    arguments = parser.parse_args()
    heads = ("unseen", "told", "dim", "half the light", "mild: harmed", "dark spots / Mpx")
    rows = [f"| variant | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    variants = VARIANTS if arguments.steps else {}
    for number, (name, changes) in enumerate({"released": {}, **PATHS, **variants}.items()):
        model = release.BUNDLED
        if name in PATHS:
            model = without_paths(changes, arguments.folder / f"{number}")
        elif name in VARIANTS:
            config = config_of(changes, arguments)
            model = arguments.folder.absolute() / f"{number}"
            fine_tune.train(config, train.load_images(config), model)
        cells = " | ".join(f"{value:.2f}" for value in judge(enhance.load(model), arguments))
        rows.append(f"| {name} | {cells} |")
        console.note(rows[-1])
    print("\n".join(rows))


if __name__ == "__main__":
    main()
