"""Which images does `lle enhance` brighten, and how far off is the brightness?

    python benchmarks/decision.py MANIFEST [--data ../shared/data]

On the validation images of the four sets of ../shared/data and of MANIFEST, which
tools/more_images.py writes: in good light, clean and with noise, how many are brightened at all; in
a quarter to three quarters of the light, the root mean square error of the logarithm of the mean
luma, as the network predicts it for every image, and as the decision (`inference/exposure.py`)
leaves it. Nothing is restored. The degradations are those of tests/reference/unseen.py.
"""

import argparse
import csv
from pathlib import Path

import harm
import numpy as np

from lle_jax import images, jobs
from lle_jax.inference import enhance, exposure

NAMES = {
    "fundus": "ODIR-5K",
    "endoscopy": "kvasir_seg",
    "dermatology": "ham10000",
    "radiograph": "chest_xray",
}
R = harm.REFERENCE
KINDS = {
    "clean": lambda rng, image: image,
    "noise of 0.01": R.mild,
    "all the light, photon noise": lambda rng, image: R.photon(
        rng, image, 1.0, rng.uniform(500, 8000)
    ),
    "half the light": R.half,
    "half the light, no noise": lambda rng, image: R.rounded(R.encode(0.5 * R.decode(image))),
    "some light, photon noise": lambda rng, image: R.photon(
        rng, image, rng.uniform(0.25, 0.75), rng.uniform(800, 8000)
    ),
    "some light, correlated noise": lambda rng, image: R.correlated(
        rng, image, rng.uniform(0.25, 0.75), rng.uniform(0.003, 0.02)
    ),
}
LIT = list(KINDS)[:3]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--model", help="a release or a run directory (default: the bundled one)")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments = parser.parse_args()
    net = enhance.load(arguments.model)
    listed = harm.find(arguments.data, "val", None)
    with arguments.manifest.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["role"] == "validation":
                path = arguments.manifest.parent / row["path"]
                listed.setdefault(NAMES[row["modality"]], []).append(path)
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    paths = [(name, path) for name, of in listed.items() for path in of]
    for number, (name, path) in enumerate(jobs.track(paths, len(paths), unit="image")):
        clean = images.read(path).pixels
        for index, (kind, degrade) in enumerate(KINDS.items()):
            low = degrade(np.random.default_rng([number, index]), clean)
            found.setdefault((kind, name), []).append(brightness(net, low, clean))
    print(f"| | {' | '.join(f'{name} ({len(of)})' for name, of in listed.items())} |")
    print("|---|" + "---|" * len(listed))
    for kind in KINDS:
        print(f"| {kind} | {' | '.join(cell(found[kind, name], kind) for name in listed)} |")


def brightness(net, low: np.ndarray, clean: np.ndarray) -> tuple[float, float, float]:
    """Logarithms: how far off the prediction and what is decided are; how much that changes."""
    measured = exposure.measure(low)
    correction = exposure.decide(net, measured)
    own = np.log(exposure.mean_luma(low))
    predicted = np.log(float(np.mean(correction.predicted.exposure)))
    change = correction.amount * (predicted - own)
    truth = np.log(exposure.mean_luma(clean))
    return predicted - truth, own + change - truth, change


def cell(values: list[tuple[float, float, float]], kind: str) -> str:
    """Formats how many are changed by more than a hundredth, or the errors."""
    predicted, decided, change = np.array(values).T
    if kind in LIT:
        return str(np.sum(np.abs(change) > 0.01))
    return ", ".join(f"{np.sqrt(np.mean(error**2)):.3f}" for error in (predicted, decided))


if __name__ == "__main__":
    main()
