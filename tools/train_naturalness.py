"""Trains the models of lle_jax/metrics/weights, NIQE's Gaussian and BRISQUE's machine.

    python tools/train_naturalness.py [path of shared/data]

Images are the training samples of scikit-image and pydicom and, where the path is given, role train
of the sets SETS of its manifest.csv, whose licences allow to pass on what is learned.

NIQE: mean and covariance of the features of sharp patches of the clean images. BRISQUE: a Gaussian
kernel machine, by ridge regression, from features to 100 (1 - SSIM) of luma of the same images
degraded by a preset of lle_jax.degrade at random severities, and of the clean ones, which are 0.
No person was asked how the images look. Kernel and penalty are chosen on the validation roles, on
which the rank correlation is reported; role test is never read.
"""

import csv
import datetime
import io
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import jax
import numpy as np
import scipy.stats
import tqdm

import lle_jax
from lle_jax import degrade, files, images, metrics
from lle_jax.data import samples, sources
from lle_jax.metrics import naturalness, naturalness_models

SETS = {
    "drive": "DRIVE, CC BY 4.0 as published on its challenge site",
    "chest_xray": "NIH ChestX-ray8, no restriction on use, attribution asked",
}
PRESET = "lowlight"
SIDE = (
    480  # pixels: largest middle square of whole patches that is used, so that little is compiled
)
LIMIT = 20  # images of a set and role
VERSIONS = 3  # degraded versions of each image
VECTORS = 128


def middle(image: np.ndarray) -> np.ndarray:
    """The middle square of SIDE pixels; smaller images are enlarged to it."""
    scale = SIDE / min(image.shape[:2])
    if scale > 1:
        size = [max(SIDE, round(side * scale)) for side in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC).reshape(*size[::-1], -1)
    top, left = ((side - SIDE) // 2 for side in image.shape[:2])
    image = np.clip(image[top : top + SIDE, left : left + SIDE], 0, 1)
    return np.broadcast_to(image, (SIDE, SIDE, 3))


def clean(root: Path | None, role: str) -> Iterator[np.ndarray]:
    """Middle squares `[SIDE, SIDE, 3]` of the clean images of a role, "train" or "val"."""
    for package, name, _, of in samples.SAMPLES:
        image = samples.load(package, name)
        if of[:3] == role[:3] and min(image.shape[:2]) >= SIDE // 2:
            yield middle(image)
    if root is not None:
        with (root / "manifest.csv").open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["role"] == role]
        for name in SETS:
            of_set = [r for r in rows if r["set"] == name and r["modality"] in sources.MODALITIES]
            for row in of_set[:LIMIT]:
                yield middle(images.read(root / row["path"]).pixels)


def measured(root: Path | None, role: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features `[n, 36]` and levels `[n]` for BRISQUE, and sharp clean patches `[m, 36]`."""

    @jax.jit
    def worse(key, parameters, image):
        low = degrade.apply(key, parameters, image)
        return low, 100 * (1 - metrics.ssim(low, image, channels="luma"))

    brisque, niqe = jax.jit(naturalness.brisque_features), jax.jit(naturalness.niqe_features)
    preset = degrade.load(PRESET)
    features, levels, patches = [], [], []
    key = jax.random.key(seed)
    for image in tqdm.tqdm(list(clean(root, role)), desc=role, disable=None, mininterval=5):
        patch, sharpness = map(np.asarray, niqe(image))
        sharp = sharpness > naturalness.SHARP * sharpness.max()
        patches.append(patch[sharp & np.isfinite(patch).all(axis=1)])
        features.append(np.asarray(brisque(image)))
        levels.append(0.0)
        for _ in range(VERSIONS):
            key, *keys = jax.random.split(key, 4)
            severity = jax.random.uniform(keys[0])
            parameters = degrade.sample(keys[1], preset, (), severity)
            low, level = worse(keys[2], parameters, image)
            features.append(np.asarray(brisque(low)))
            levels.append(float(level))
    features, levels = np.array(features, np.float64), np.array(levels)
    told = np.isfinite(features).all(axis=1)
    return features[told], levels[told], np.concatenate(patches).astype(np.float64)


def regression(train, validation, seed: int = 0) -> tuple[dict[str, np.ndarray], dict]:
    """Ridge regression on kernels around VECTORS training images; what was chosen and reached."""
    (features, levels), (held, truth) = train, validation
    low, high = np.percentile(features, [1, 99], axis=0)  # a few outliers would flatten the rest
    scaled, held = (2 * (x - low) / (high - low) - 1 for x in (features, held))
    chosen = np.random.default_rng(seed).permutation(len(scaled))[:VECTORS]
    vectors = np.float32(scaled[chosen]).astype(np.float64)
    rho = -levels.mean()

    def kernel(x, gamma):
        return np.exp(-gamma * ((x[:, None] - vectors) ** 2).sum(axis=-1))

    best = None
    for gamma, penalty in itertools.product((0.003, 0.01, 0.03, 0.1), (1e-4, 1e-3, 1e-2, 1e-1, 1)):
        k = kernel(scaled, gamma)
        system = k.T @ k + penalty * (kernel(vectors, gamma) + 1e-3 * np.eye(len(vectors)))
        coefficients = np.linalg.solve(system, k.T @ (levels + rho))
        predicted = kernel(held, gamma) @ coefficients - rho
        error = float(np.sqrt(np.mean((predicted - truth) ** 2)))
        if best is None or error < best[1]["validation_rmse"]:
            rank = float(scipy.stats.spearmanr(predicted, truth).statistic)
            record = {
                "gamma": gamma,
                "penalty": penalty,
                "validation_rmse": round(error, 2),
                "validation_rank_correlation": round(rank, 3),
                "validation_images": len(truth),
            }
            model = naturalness_models.BrisqueModel(low, high, vectors, coefficients, gamma, rho)
            best = model._asdict(), record
    return best


def save(name: str, arrays: dict[str, np.ndarray], record: dict) -> None:
    """Writes `name.npz` and the record beside it."""
    sink = io.BytesIO()
    np.savez_compressed(sink, **{key: np.asarray(value) for key, value in arrays.items()})
    naturalness_models.FOLDER.mkdir(exist_ok=True)
    files.write_bytes(naturalness_models.FOLDER / f"{name}.npz", sink.getvalue())
    record = {"sha256": files.sha256(naturalness_models.FOLDER / f"{name}.npz"), **record}
    text = json.dumps(record, indent=2) + "\n"
    files.write_bytes(naturalness_models.FOLDER / f"{name}.json", text.encode())
    print(name, record)


def main(root: Path | None) -> None:
    features, levels, patches = measured(root, "train", seed=0)
    held, truth, _ = measured(root, "val", seed=1)
    common = {
        "licence": "; ".join(
            ["samples of scikit-image and pydicom", *(SETS.values() if root else [])]
        ),
        "script": "tools/train_naturalness.py",
        "date": datetime.date.today().isoformat(),
        "lle_jax": lle_jax.__version__,
        "jax": jax.__version__,
    }
    mean, covariance = patches.mean(axis=0), np.cov(patches, rowvar=False)
    save(
        "niqe",
        {"mean": mean, "covariance": covariance},
        {"data": f"{len(patches)} sharp patches of clean training images", **common},
    )
    arrays, record = regression((features, levels), (held, truth))
    arrays = {key: np.asarray(value, np.float32) for key, value in arrays.items()}
    target = f"100 (1 - SSIM) of luma after the preset {PRESET}; no opinions of people"
    data = f"{len(levels)} clean and degraded training images"
    save("brisque", arrays, {"predicts": target, "data": data, **record, **common})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
