"""Does `lle adapt` help under degradations that the released model handles badly?

    python benchmarks/adaptation.py grain FOLDER [--minutes 10] [--data ../shared/data]

Of the four sets of ../shared/data: 60 validation images under the degradation are a clinic's dark
images, 60 test images its clean ones, and the other 45 test images are what the adapted network
never saw. Prints PSNR on these before and after, by `lle_jax.enhance` as it is and with the truth's
brightness told, and the spots added per megapixel. The degradations are those of
tests/reference/unseen.py; an adaptation that writes no release is judged all the same.
"""

import argparse
from pathlib import Path

import harm
import numpy as np

from lle_jax import adapt, images, metrics
from lle_jax.adapt import fine_tune
from lle_jax.checkpoints import load
from lle_jax.inference import enhance, exposure, tiles

SETS = ("drive", "kvasir_seg", "ham10000", "chest_xray")
DARK = dict(zip(SETS, (6, 20, 20, 14), strict=True))
CLEAN = dict(zip(SETS, (5, 23, 18, 14), strict=True))
KINDS = harm.REFERENCE.CLINICS | harm.REFERENCE.UNSEEN


def make(folder: Path, root: Path, kind: str) -> list[tuple[str, Path]]:
    """Writes the clinic's images; returns (set, path) of those that it never sees."""
    validation, test = (harm.find(root, role, None) for role in ("val", "test"))
    for part in ("dark", "clean"):
        (folder / part).mkdir(parents=True)
    dark = [path for name in SETS for path in validation[name][: DARK[name]]]
    for number, path in enumerate(dark):
        low = KINDS[kind](np.random.default_rng([number, 0]), images.read(path).pixels)
        images.write(folder / "dark" / f"{number:03}.png", low)
    clean = [path for name in SETS for path in test[name][: CLEAN[name]]]
    for number, path in enumerate(clean):
        images.write(folder / "clean" / f"{number:03}.png", images.read(path).pixels)
    return [(name, path) for name in SETS for path in test[name][CLEAN[name] :]]


def judge(net, held: list[tuple[str, Path]], kind: str) -> dict[str, dict[str, list[float]]]:
    """Computes `{figure: {set: [values]}}` on images that were never seen."""
    values: dict[str, dict[str, list[float]]] = {}
    for number, (name, path) in enumerate(held):
        clean = images.read(path).pixels
        low = KINDS[kind](np.random.default_rng([number, 1]), clean)
        clean = np.broadcast_to(clean, low.shape)  # grey under a tint
        told = exposure.Wish(exposure.Aim(mean=exposure.mean_luma(clean)))
        auto = enhance.enhance_pixels(net, low)[0]
        spots = metrics.spot_change(auto, clean)
        figures = {
            "PSNR": metrics.psnr(auto, clean),
            "PSNR, told": metrics.psnr(enhance.enhance_pixels(net, low, wish=told)[0], clean),
            "dark spots": spots.dark_added,
            "bright spots": spots.bright_added,
        }
        for figure, value in figures.items():
            values.setdefault(figure, {}).setdefault(name, []).append(float(value))
    return values


def main() -> None:
    """Adapts, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("folder", type=Path, help="made; for images and the adaptation")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments = parser.parse_args()
    held = make(arguments.folder, arguments.data, arguments.kind)
    before = judge(enhance.load(None), held, arguments.kind)
    dark, clean, clinic = (arguments.folder / name for name in ("dark", "clean", "clinic"))
    settings = adapt.Settings(minutes=arguments.minutes)
    print(adapt.adapt([dark], [clean], clinic, settings).line)
    adapted, _ = fine_tune.read(clinic, load.load_model(None))
    after = judge(tiles.network(adapted.config, adapted.params), held, arguments.kind)
    print(f"\n| {arguments.kind} | | {' | '.join(SETS)} | all |\n|---|---|" + "---|" * 5)
    for figure in before:
        for when, values in (("before", before), ("after", after)):
            groups = [values[figure][name] for name in SETS]
            means = [np.mean(group) for group in (*groups, np.concatenate(groups))]
            print(f"| {figure} | {when} | {' | '.join(f'{mean:.2f}' for mean in means)} |")


if __name__ == "__main__":
    main()
