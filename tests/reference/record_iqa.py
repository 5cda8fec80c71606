"""Records what PyTorch packages measure on pairs of images, for tests that do not need PyTorch.

    pip install torch==2.13.0 torchvision pyiqa==0.1.16 piq==0.8.0 scikit-image
    python tests/reference/record_iqa.py

writes iqa.json beside this file: versions, and for each pair its checksum and values. The pairs are
8-bit images, made here from scikit-image's bundled PNGs with NumPy alone.
"""

import hashlib
import importlib.metadata
import json
from pathlib import Path

import numpy as np
import skimage.data

PATH = Path(__file__).with_name("iqa.json")
Pair = tuple[np.ndarray, np.ndarray]


def _levels(image: np.ndarray) -> np.ndarray:
    return (np.rint(255 * np.clip(image, 0, 1)) / 255).astype(np.float32)


def pairs() -> dict[str, Pair]:
    """Name -> (image, reference), float32 `[H, W, C]`, multiples of 1 / 255."""
    generator = np.random.default_rng(0)

    def noise(image, sigma):
        return sigma * generator.standard_normal(image.shape)

    tissue = skimage.data.immunohistochemistry()[128:384, 128:384] / 255
    face = skimage.data.astronaut()[:256, 100:356] / 255
    cat = skimage.data.chelsea()[40:201, 60:253] / 255
    camera = skimage.data.camera()[100:292, 150:342, None] / 255
    row, column = np.mgrid[:256, :256]
    disc = ((row - 112) ** 2 + (column - 128) ** 2 < 100**2)[..., None]
    fundus = disc * tissue
    blurred = sum(np.roll(cat, (i, j), (0, 1)) for i in range(-2, 3) for j in range(-2, 3)) / 25
    result = {
        "noise": (tissue + 0.02 + noise(tissue, 0.05), tissue),
        "dark": (0.4 * face**1.4 + noise(face, 0.01), face),
        "black border": (disc * (fundus + noise(fundus, 0.03)), fundus),
        "one channel": (0.8 * camera + 0.05 + noise(camera, 0.03), camera),
        "odd sides": (blurred + noise(cat, 0.01), cat),  # 161 x 193: odd at every halving
    }
    return {name: (_levels(image), _levels(truth)) for name, (image, truth) in result.items()}


def checksum(pair: Pair) -> str:
    return hashlib.sha256(b"".join(image.tobytes() for image in pair)).hexdigest()


def measure(pair: Pair) -> dict[str, float]:
    """Values by "package.function", calculated in float64 where the package allows it."""
    import piq
    import pyiqa
    import torch

    x, y = (torch.from_numpy(image.transpose(2, 0, 1)[None].copy()) for image in pair)
    x3, y3 = (image.expand(-1, 3, -1, -1) for image in (x, y))
    names = ("psnr", "psnry", "ssim", "ssimc", "ms_ssim", "gmsd")
    values = {f"pyiqa.{n}": pyiqa.create_metric(n, device="cpu")(x3, y3) for n in names}
    x, y = x.double(), y.double()
    values["piq.gmsd"] = piq.gmsd(x, y)
    values["piq.vif_p"] = piq.vif_p(x, y)
    values["piq.ssim"] = piq.ssim(x, y, downsample=True)
    values["piq.multi_scale_ssim"] = piq.multi_scale_ssim(x, y)
    return {name: float(value) for name, value in values.items()}


def main() -> None:
    packages = ("torch", "pyiqa", "piq", "scikit-image", "numpy")
    record = {
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "pairs": {
            name: {"sha256": checksum(pair), "values": measure(pair)}
            for name, pair in pairs().items()
        },
    }
    PATH.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
