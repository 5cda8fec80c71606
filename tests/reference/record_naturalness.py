"""Records pyiqa's features of BRISQUE and NIQE, for tests that do not need PyTorch.

    pip install torch==2.15.0 torchvision pyiqa==0.1.16 scikit-image
    python tests/reference/record_naturalness.py

writes naturalness.json beside this file: versions, and for each image its checksum, 36 features of
BRISQUE, those of NIQE of each patch, and NIQE's score with a model made up from the patches of all.

pyiqa is given luma, as grey images, since its own conversion in float32 rounds luma that ends in
5 / 10 up or down by chance; `luma_differs` counts the pixels where it is not the one given.
"""

import hashlib
import importlib.metadata
import json
from pathlib import Path

import numpy as np
import skimage.data

PATH = Path(__file__).with_name("naturalness.json")


def images() -> dict[str, np.ndarray]:
    """Name -> float32 `[H, W, C]`, multiples of 1 / 255."""
    generator = np.random.default_rng(0)
    face = skimage.data.astronaut()[:288, 60:348] / 255
    cat = skimage.data.chelsea()[40:241, 60:373] / 255  # odd sides
    camera = skimage.data.camera()[100:388, 100:388, None] / 255
    dark = 0.3 * face**1.4 + 0.02 * generator.standard_normal(face.shape)
    blurred = sum(np.roll(cat, (i, j), (0, 1)) for i in range(-2, 3) for j in range(-2, 3)) / 25
    result = {"colour": face, "dark": dark, "odd sides": cat, "blurred": blurred, "grey": camera}
    return {
        name: (np.rint(255 * np.clip(image, 0, 1)) / 255).astype(np.float32)
        for name, image in result.items()
    }


def checksum(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def levels(image: np.ndarray) -> np.ndarray:
    """Rounded luma `[H, W]` of multiples of 1 / 255, exact; halves go to the even level."""
    parts = np.rint(255 * image.astype(np.float64)).astype(int)
    weights = [299, 587, 114] if image.shape[-1] == 3 else [1000]
    return np.rint(parts @ weights / 1000)


def model(patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A mean `[36]` and a positive definite covariance made up from patches `[n, 36]`."""
    variance = np.diag(patches.var(axis=0))
    return patches.mean(axis=0), 0.9 * np.cov(patches, rowvar=False) + 0.1 * variance


def measure(image: np.ndarray) -> tuple[list[float], np.ndarray]:
    """Features of BRISQUE `[36]` and NIQE `[n, 36]`, the latter by rows of patches, in float64."""
    import torch
    from pyiqa.archs import brisque_arch, func_util, niqe_arch
    from pyiqa.matlab_utils import blockproc, imresize

    luma = torch.from_numpy(levels(image))[None, None]
    brisque, y = [], luma
    for _ in range(2):
        brisque.append(brisque_arch.natural_scene_statistics(y, 7, 7 / 6))
        y = imresize(y, scale=0.5, antialiasing=True)
    rows, columns = luma.shape[2] // 96, luma.shape[3] // 96
    niqe, y = [], luma[..., : rows * 96, : columns * 96]
    for side in (96, 48):
        field = func_util.normalize_img_with_gauss(y, padding="replicate")
        niqe.append(blockproc(field, [side, side], fun=niqe_arch.compute_feature))
        y = imresize(y / 255, scale=0.5, antialiasing=True) * 255
    patches = torch.cat(niqe, dim=-1)[0].reshape(columns, rows, 36).transpose(0, 1)
    return torch.cat(brisque, dim=-1)[0].tolist(), patches.reshape(-1, 36).numpy()


def score(image: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> float:
    import torch
    from pyiqa.archs import niqe_arch

    x = torch.from_numpy(levels(image) / 255)[None, None].float()
    parameters = torch.from_numpy(mean)[None], torch.from_numpy(covariance)[None]
    return float(niqe_arch.calculate_niqe(x, 0, True, "yiq", *parameters))


def luma_differs(image: np.ndarray) -> int:
    import torch
    from pyiqa.utils.color_util import to_y_channel

    if image.shape[-1] == 1:
        return 0
    x = torch.from_numpy(image.transpose(2, 0, 1)[None].copy())
    return int(np.sum(to_y_channel(x, 255.0)[0, 0].numpy() != levels(image)))


def main() -> None:
    measured = {name: measure(image) for name, image in images().items()}
    mean, covariance = model(np.concatenate([patches for _, patches in measured.values()]))
    packages = ("torch", "pyiqa", "scikit-image", "numpy")
    record = {
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "images": {
            name: {
                "sha256": checksum(image),
                "brisque": np.round(measured[name][0], 7).tolist(),
                "niqe": np.round(measured[name][1], 7).tolist(),
                "score": score(image, mean, covariance),
                "luma_differs": luma_differs(image),
            }
            for name, image in images().items()
        },
    }
    PATH.write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
