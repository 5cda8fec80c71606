"""How much does a still scene flicker when its frames are enhanced? Before and after smoothing.

    python benchmarks/flicker.py [path of shared/data] [folder of the frames of a real sequence]

prints the table of docs/enhance.md: of test images under the presets of their modalities, with
fixed parameters and fresh noise in each of 32 frames, how much the mean brightness varies over time
(standard deviation by mean), and how many times as much after enhancement, frame by frame and as a
sequence; and the same of 16 x 16 regions, a mean over them. In the real sequence the camera moves:
there the change from frame to frame is compared, not the standard deviation.
"""

import sys
from pathlib import Path

import cv2
import jax
import numpy as np

from lle_jax import degrade, images
from lle_jax.degrade import presets
from lle_jax.evaluation import suite
from lle_jax.inference import enhance, sequences

FRAMES, SIDE, RATE = 32, 384, 25.0
SCENES = [
    ("fundus", "fundus"), ("endoscopy", "endoscopy"), ("radiograph", "radiograph"),
    ("endoscopy", "camera"),
]  # fmt: skip


def still(image: np.ndarray, preset: str, seed: int) -> np.ndarray:
    """Frames of one image with one set of parameters and fresh noise, `[N, H, W, C]`."""
    parameters = degrade.sample(jax.random.key(seed), presets.load(preset))
    keys = jax.random.split(jax.random.key(100 + seed), FRAMES)
    return np.stack([np.asarray(degrade.apply(key, parameters, image)) for key in keys])


def scaled(image: np.ndarray, side: int) -> np.ndarray:
    """Scales `[H, W, C]` down to at most `side` pixels a side."""
    scale = min(1, side / max(image.shape[:2]))
    height, width = (round(size * scale) for size in image.shape[:2])
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return image.reshape(height, width, -1)


def variation(values: np.ndarray) -> float:
    """Standard deviation over time by the mean, of `[N, ...]`, a mean over the rest."""
    return float(np.mean(values.std(axis=0) / np.maximum(values.mean(axis=0), 1e-3)))


def steps(values: np.ndarray) -> float:
    """Mean change from frame to frame by the mean."""
    return float(np.abs(np.diff(values, axis=0)).mean() / values.mean())


def regions(sequence: np.ndarray) -> np.ndarray:
    """Means of 16 x 16 regions, `[N, 16, 16]`."""
    grey = [np.ascontiguousarray(frame.mean(axis=-1)) for frame in sequence]
    return np.stack([cv2.resize(frame, (16, 16), interpolation=cv2.INTER_AREA) for frame in grey])


def row(net, name: str, sequence: np.ndarray, measure) -> None:
    alone = enhance.enhance_pixels(net, sequence)[0]
    smooth = enhance.enhance_pixels(net, sequence, frame_rate=RATE)[0]
    cells = [name]
    for values in (lambda x: x.mean(axis=(1, 2, 3), dtype=np.float64), regions):
        before = measure(values(sequence))
        cells.append(f"{before:.3%}")
        cells += [f"{measure(values(after)) / before:.2f}" for after in (alone, smooth)]
    print("| " + " | ".join(cells) + " |", flush=True)


def main(root: Path, real: Path | None) -> None:
    net = enhance.load()
    print("| | brightness | by frame | sequence | regions | by frame | sequence |")
    print("|---|---|---|---|---|---|---|")
    clean = {}
    for case in suite.load("modalities", source=str(root / "manifest.csv")).cases():
        clean.setdefault(case.modality, np.asarray(case.clean))
    for modality, preset in SCENES:
        image = scaled(clean[modality], SIDE)
        for seed in (0, 1):
            row(net, f"{modality}, {preset}, {seed}", still(image, preset, seed), variation)
    if real is not None:
        paths = [path for path, _ in sequences.frame_pairs(real, real)]
        paths = [path for path in paths if path.stem.isdecimal()]
        sequence = np.stack([scaled(images.read(path).pixels, 2 * SIDE) for path in paths])
        row(net, real.name, sequence, steps)


if __name__ == "__main__":
    main(
        Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"),
        Path(sys.argv[2]) if len(sys.argv) > 2 else None,
    )
