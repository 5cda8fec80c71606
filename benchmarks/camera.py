"""Is the noise of the preset `camera` correlated as that of real cameras in low light is?

    python benchmarks/camera.py ../shared/data

In the flattest blocks of the well-lit pictures of LOL's 15 real test pairs (Wei et al., BMVC 2018),
the autocorrelation at lags of 1 to 3 pixels along rows of: the real dark pictures, and the well-lit
ones under the presets `camera` and `lowlight`, eight draws each, darkened as much as the real ones.
Of the dim fundus and endoscopy pictures of `real_dark`, which have no truth, those blocks that are
flattest when blurred, and neither black nor white. A plane is taken from each block first. Nothing
here is fitted to these pictures.
"""

import dataclasses
import sys
from pathlib import Path

import cv2
import jax
import numpy as np

from lle_jax import degrade, images
from lle_jax.degrade.presets import Distribution

BLOCK, SHARE, DRAWS, LAGS = 16, 0.1, 8, (1, 2, 3)


def blocks(image: np.ndarray) -> np.ndarray:
    """`[H, W, C]` -> `[N, BLOCK, BLOCK, C]`."""
    rows, columns = (side // BLOCK for side in image.shape[:2])
    image = image[: rows * BLOCK, : columns * BLOCK]
    image = image.reshape(rows, BLOCK, columns, BLOCK, -1).swapaxes(1, 2)
    return image.reshape(rows * columns, BLOCK, BLOCK, -1)


def planes(image: np.ndarray) -> np.ndarray:
    """Luma, and red less green: `[H, W, 2]`."""
    luma = image @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.stack([luma, image[..., 0] - image[..., 1]], axis=-1)


def correlation(image: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """`[2, LAGS]`: of luma and of colour, pooled over the flat blocks."""
    noise = blocks(planes(image))[flat]
    row, column = np.indices((BLOCK, BLOCK)).reshape(2, -1) - (BLOCK - 1) / 2
    basis = np.linalg.qr(np.stack([np.ones(BLOCK**2), row, column], axis=1))[0]
    pixels = noise.reshape(len(noise), BLOCK**2, 2)
    noise = (pixels - basis @ (basis.T @ pixels)).reshape(noise.shape)
    variance = (noise**2).mean(axis=(0, 1, 2))
    variance = np.where(variance > 1e-9, variance, np.nan)  # rounding to 8 bits left no noise
    return np.stack(
        [(noise[:, :, lag:] * noise[:, :, :-lag]).mean(axis=(0, 1, 2)) / variance for lag in LAGS],
        axis=-1,
    )


def flattest(image: np.ndarray) -> np.ndarray:
    """The numbers of the blocks whose luma varies least."""
    luma = blocks(planes(image))[..., 0]
    mean, spread = luma.mean(axis=(1, 2)), luma.std(axis=(1, 2))
    usable = np.flatnonzero((mean > 0.03) & (mean < 0.97))
    return usable[np.argsort(spread[usable])][: max(1, int(SHARE * len(usable)))]


def darkened(preset: degrade.Preset, gain: float) -> degrade.Preset:
    """The preset with this exposure."""
    stages = [
        dataclasses.replace(stage, parameters=(("gain", Distribution("fixed", (gain,))),))
        if stage.name == "exposure"
        else stage
        for stage in preset.stages
    ]
    return dataclasses.replace(preset, stages=tuple(stages))


def linear(image: np.ndarray) -> float:
    """The mean in linear light."""
    return float(np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4).mean())


def main() -> None:
    """Prints the table: median over pictures, and the 10th and 90th percentile."""
    root = Path(sys.argv[1]) / "lol_eval15"
    values: dict[str, list[np.ndarray]] = {
        "LOL, real": [], "real_dark": [], "camera": [], "lowlight": [],
    }  # fmt: skip
    for path in sorted(root.with_name("real_dark").iterdir()):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp"):
            image = images.read(path).pixels
            values["real_dark"].append(
                correlation(image, flattest(cv2.GaussianBlur(image, (0, 0), 2)))
            )
    for number, path in enumerate(sorted((root / "high").iterdir())):
        high, low = (
            images.read(folder / path.name).pixels for folder in (root / "high", root / "low")
        )
        flat = flattest(high)
        values["LOL, real"].append(correlation(low, flat))
        gain = float(np.clip(linear(low) / linear(high), 1e-3, 1))
        for name in ("camera", "lowlight"):
            preset = darkened(degrade.load(name), gain)
            for draw in range(DRAWS):
                key = jax.random.key(1000 * number + draw)
                shown = np.asarray(degrade.sample_and_apply(key, preset, high)[0])
                shown = np.rint(shown * 255).astype(np.float32) / 255
                values[name].append(correlation(shown, flat))
    print("| noise | luma, lag 1 | 2 | 3 | red - green, lag 1 | 2 | 3 |")
    print("|---|---|---|---|---|---|---|")
    for name, each in values.items():
        low, middle, high = np.nanquantile(
            np.stack(each).reshape(len(each), -1), (0.1, 0.5, 0.9), axis=0
        )
        cells = [f"{m:.2f} ({a:.2f} to {b:.2f})" for a, m, b in zip(low, middle, high, strict=True)]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
