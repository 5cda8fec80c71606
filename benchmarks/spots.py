"""Does a method invent lesions? Small spots added and lost in fundus photographs, per megapixel.

    python benchmarks/spots.py ../shared/data

The ten test images of DRIVE under three presets: `fundus`, of which the released model saw draws in
training, `lowlight`, and `camera`, whose noise is correlated and which it never saw.
"""

import csv
import sys
from pathlib import Path

import jax
import numpy as np

from lle_jax import classical, degrade, images, metrics
from lle_jax.inference import enhance

PRESETS, BASELINES = ("fundus", "lowlight", "camera"), ("gamma", "gamma+nlm")


def main() -> None:
    """Prints the table: means over images."""
    root = Path(sys.argv[1])
    with (root / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["modality"] == "fundus"]
    paths = [root / row["path"] for row in rows if row["role"] == "test"]
    network, change = enhance.load(), jax.jit(metrics.spot_change)
    print("| preset | method | dark added | dark lost | bright added | bright lost |")
    print("|---|---|---|---|---|---|")
    for name in PRESETS:
        preset, counts = degrade.load(name), {}
        for number, path in enumerate(paths):
            clean = images.read(path).pixels
            low = np.asarray(degrade.sample_and_apply(jax.random.key(number), preset, clean)[0])
            outputs = {"low light": low}
            outputs |= {method: np.asarray(classical.METHODS[method](low)) for method in BASELINES}
            outputs["released model"] = enhance.enhance_pixels(network, low)[0]
            for method, output in outputs.items():
                counts.setdefault(method, []).append(np.array(change(output, clean)[:4]))
        for method, each in counts.items():
            cells = " | ".join(f"{value:,.0f}" for value in np.mean(each, axis=0))
            print(f"| {name} | {method} | {cells} |")


if __name__ == "__main__":
    main()
