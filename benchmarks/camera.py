"""Is the noise of the preset `camera` correlated as that of real cameras in low light is?

    python benchmarks/camera.py ../shared/data [docs/camera.png]

In the flattest blocks of the well-lit pictures of LOL's 15 real test pairs (Wei et al., BMVC 2018),
the autocorrelation at lags of 1 to 3 pixels along rows, and the power spectrum, of: the real dark
pictures, and the well-lit ones under the presets `camera` and `lowlight`, eight draws each,
darkened as much as the real ones. LOL's pictures were reduced to 600 x 400 after the camera; so is
the output of `camera` on pictures eight times as large ("camera, reduced", two draws).
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
from matplotlib.figure import Figure

from lle_jax import degrade, images
from lle_jax.degrade.presets import Distribution

BLOCK, SHARE, DRAWS, LAGS = 16, 0.1, 8, (1, 2, 3)
REDUCED, REDUCED_DRAWS = 8, 2
BANDS, WIDTH = (0.125, 0.2, 0.275, 0.35, 0.425, 0.5), 0.0375  # cycles per pixel


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


def spectrum(image: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """`[BANDS]`: power of luma by distance from frequency 0, over its mean; 1 for white noise."""
    noise = blocks(planes(image))[flat][..., 0]
    window = np.hanning(BLOCK + 2)[1:-1]
    noise = (noise - noise.mean(axis=(1, 2), keepdims=True)) * window * window[:, None]
    power = (np.abs(np.fft.fft2(noise)) ** 2).mean(axis=0)
    frequency = np.fft.fftfreq(BLOCK)
    distance = np.hypot(frequency, frequency[:, None])
    bands = [power[np.abs(distance - centre) <= WIDTH].mean() for centre in BANDS]
    return np.array(bands) / max(power[distance >= BANDS[0] - WIDTH].mean(), 1e-12)


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


def shown(key: jax.Array, preset: degrade.Preset, image: np.ndarray, factor: int) -> np.ndarray:
    """The image as the preset makes it of one `factor` times as large, reduced, of 8 bits."""
    height, width = image.shape[:2]
    large = cv2.resize(image, (factor * width, factor * height), interpolation=cv2.INTER_CUBIC)
    low = np.asarray(degrade.sample_and_apply(key, preset, np.clip(large, 0, 1))[0])
    low = cv2.resize(low, (width, height), interpolation=cv2.INTER_AREA)
    return np.rint(low * 255).astype(np.float32) / 255


def measure(image: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """The autocorrelations of luma and of colour, then the spectrum."""
    return np.concatenate([correlation(image, flat).ravel(), spectrum(image, flat)])


def measured(root: Path) -> dict[str, np.ndarray]:
    """`[pictures and draws, ...]` of `measure` for each kind of noise."""
    values: dict[str, list[np.ndarray]] = {
        "LOL, real": [], "real_dark": [], "camera": [], "camera, reduced": [], "lowlight": [],
    }  # fmt: skip
    for path in sorted(root.with_name("real_dark").iterdir()):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp"):
            image = images.read(path).pixels
            flat = flattest(cv2.GaussianBlur(image, (0, 0), 2))
            values["real_dark"].append(measure(image, flat))
    for number, path in enumerate(sorted((root / "high").iterdir())):
        high, low = (
            images.read(folder / path.name).pixels for folder in (root / "high", root / "low")
        )
        flat = flattest(high)
        values["LOL, real"].append(measure(low, flat))
        gain = float(np.clip(linear(low) / linear(high), 1e-3, 1))
        for name, factor, draws in (
            ("camera", 1, DRAWS), ("camera, reduced", REDUCED, REDUCED_DRAWS),
            ("lowlight", 1, DRAWS),
        ):  # fmt: skip
            preset = darkened(degrade.load(name.partition(",")[0]), gain)
            for draw in range(draws):
                key = jax.random.key(1000 * number + draw)
                values[name].append(measure(shown(key, preset, high, factor), flat))
    return {name: np.stack(each) for name, each in values.items()}


def draw(values: dict[str, np.ndarray], path: Path) -> None:
    """Draws autocorrelation of luma and spectrum: medians, 10th to 90th percentile shaded."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, each in values.items():
        low, middle, high = np.nanquantile(each, (0.1, 0.5, 0.9), axis=0)
        for axes, x, part in ((left, LAGS, slice(0, 3)), (right, BANDS, slice(6, None))):
            (line,) = axes.plot(x, middle[part], label=name)
            axes.fill_between(x, low[part], high[part], alpha=0.15, color=line.get_color())
    left.set(xlabel="lag (pixels)", ylabel="autocorrelation of luma", xticks=LAGS)
    right.set(xlabel="frequency (cycles per pixel)", ylabel="power over white noise's")
    right.set_yscale("log")
    left.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Prints the tables: median over pictures, and the 10th and 90th percentile."""
    values = measured(Path(sys.argv[1]) / "lol_eval15")
    lags = [f"{kind}, lag {lag}" for kind in ("luma", "red - green") for lag in LAGS]
    bands = [f"{centre:g}" for centre in BANDS]
    for heads, part in ((lags, slice(0, 6)), (bands, slice(6, None))):
        print(f"\n| noise | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")
        for name, each in values.items():
            quantiles = np.nanquantile(each[:, part], (0.1, 0.5, 0.9), axis=0)
            cells = [f"{m:.2f} ({a:.2f} to {b:.2f})" for a, m, b in quantiles.T]
            print(f"| {name} | {' | '.join(cells)} |")
    if len(sys.argv) > 2:
        draw(values, Path(sys.argv[2]))


if __name__ == "__main__":
    main()
