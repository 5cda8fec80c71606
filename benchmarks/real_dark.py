"""Really dim fundus and endoscopy pictures, which nobody here darkened and which have no truth.

    python benchmarks/real_dark.py ../shared/data [FOLDER]

Measures of each picture before and after gamma, gamma with non-local means and the released model,
and small spots that are in the output and not in the input, by contrast to their surroundings. With
a folder, pictures of input and outputs side by side, reduced to 480 pixels across, are written.
"""

import sys
from pathlib import Path

import cv2
import jax
import numpy as np

from lle_jax import classical, images, metrics
from lle_jax.artifacts import measures
from lle_jax.inference import enhance

MEASURES = ("luminance", "crushed", "saturated", "noise_sigma", "contrast")
BASELINES = ("gamma", "gamma+nlm")
WIDTH = 480

spots_added = jax.jit(metrics.spots_unlike_input)


def outputs_of(network, picture: np.ndarray) -> dict[str, np.ndarray]:
    """The input and what each method makes of it."""
    made = {name: np.asarray(classical.METHODS[name](picture)) for name in BASELINES}
    return {"input": picture, **made, "released model": enhance.enhance_pixels(network, picture)[0]}


def main() -> None:
    """Prints a row for each picture and method."""
    root = Path(sys.argv[1]) / "real_dark"
    network = enhance.load()
    heads = [*MEASURES, "dark spots added", "bright spots added"]
    print(f"| picture | method | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 2)}")
    for path in sorted(root.iterdir()):
        if path.suffix.lower() not in (".jpg", ".jpeg", ".png", ".bmp"):
            continue
        picture = images.read(path).pixels
        made = outputs_of(network, picture)
        for method, output in made.items():
            values = measures.measure(output)
            added = spots_added(output, picture)
            cells = [f"{values[name]:.3f}" for name in MEASURES]
            cells += [f"{float(count):,.0f}" for count in (added.dark_added, added.bright_added)]
            print(f"| {path.stem} | {method} | {' | '.join(cells)} |", flush=True)
        if len(sys.argv) > 2:
            size = (WIDTH, round(WIDTH * picture.shape[0] / picture.shape[1]))
            row = [
                cv2.resize(output, size, interpolation=cv2.INTER_AREA) for output in made.values()
            ]
            folder = Path(sys.argv[2])
            folder.mkdir(parents=True, exist_ok=True)
            images.write(folder / f"{path.stem}.jpg", np.concatenate(row, axis=1))


if __name__ == "__main__":
    main()
