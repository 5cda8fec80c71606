"""How much structure does an artifact cost, by what its measure says? The curves of severity.toml.

Each artifact is injected alone, at rising strength, into images of ../shared/data (made half as
large first, as many were JPEG once): the first IMAGES of each set's `train` role. Printed are, per
strength, the medians over the images of what the curve is a function of (`severity.argument`), of
1 - SSIM against the clean image, and the severity, which is the square root of that. Of uneven
light it is the upper decile instead of the median: half of the clean pictures are themselves
brighter on one side, more than weak uneven light makes them.

    python benchmarks/severity.py [path of shared/data]
"""

import csv
import sys
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from skimage.metrics import structural_similarity

from lle_jax import degrade
from lle_jax.artifacts import measures, severity

IMAGES = 10
SIDE = 192
SETS = ("drive", "kvasir_seg", "ham10000", "chest_xray")

STRENGTHS = {
    "impulses": (0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2),
    "noise": (0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12),
    "low_light": (1, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02),
    "uneven_light": (0, 0.5, 1, 2, 3, 5),
    "blur": (0, 0.5, 1, 1.5, 2, 3, 4, 6, 8),
    "jpeg": (100, 95, 90, 80, 70, 50, 30, 20, 10, 5),
}


def inject(artifact: str, key: jax.Array, image: jax.Array, strength: float) -> jax.Array:
    """The image with one artifact, rounded to 8 bits; no artifact for the first strength."""
    if strength == STRENGTHS[artifact][0]:
        return image
    function = {
        "impulses": lambda: degrade.salt_and_pepper(
            key, image, salt=strength / 2, pepper=strength / 2
        ),
        "noise": lambda: degrade.gaussian_noise(key, image, sigma=strength),
        "low_light": lambda: degrade.exposure(image, gain=strength),
        "uneven_light": lambda: degrade.illumination(
            image, field=degrade.light_source(*image.shape[:2], x=0.3, y=0.3, falloff=strength)
        ),
        "blur": lambda: degrade.gaussian_blur(image, sigma=strength),
        "jpeg": lambda: degrade.jpeg(image, strength),
    }[artifact]
    return jnp.round(jnp.clip(function(), 0, 1) * 255) / 255


def images(data: Path) -> list[np.ndarray]:
    """Half as large and cut to one size, so that little is compiled."""
    with (data / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if "/images/" in row["path"]]
    found = []
    for name in SETS:
        of_set = sorted(r["path"] for r in rows if r["set"] == name and r["role"] == "train")
        for path in of_set[:IMAGES]:
            image = cv2.imread(str(data / path), cv2.IMREAD_COLOR_RGB)
            small = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            top, left = (max(0, side - SIDE) // 2 for side in small.shape[:2])
            small = small[top : top + SIDE, left : left + SIDE]
            found.append(small.astype(np.float32) / 255)
            print(" ", path)
    return found


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    options = {"data_range": 1, "gaussian_weights": True, "sigma": 1.5}
    return structural_similarity(
        *(np.asarray(x) @ np.float32([0.299, 0.587, 0.114]) for x in (first, second)),
        use_sample_covariance=False, **options)  # fmt: skip


def main() -> None:
    here = Path(__file__).resolve().parents[1]
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else here.parent / "shared" / "data"
    clean = images(data)
    for artifact, strengths in STRENGTHS.items():
        print(f"\n{artifact}: strength, argument, 1 - SSIM, severity")
        for strength in strengths:
            keys = jax.random.split(jax.random.key(0), len(clean))
            low = [inject(artifact, *pair, strength) for pair in zip(keys, clean, strict=True)]
            found = [severity.argument(artifact, measures.measure(image)) for image in low]
            value = np.nanquantile(found, 0.9 if artifact == "uneven_light" else 0.5)
            loss = np.median([1 - ssim(*pair) for pair in zip(clean, low, strict=True)])
            print(f"  {strength:7g}  {value:8.4f}  {loss:7.4f}  {loss**0.5:6.3f}", flush=True)


if __name__ == "__main__":
    main()
