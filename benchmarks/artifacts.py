"""Do the measures hold in the dark, and are they better than what they replace?

Known artifacts are injected into medical images of ../shared/data (made half as large first, as
many were JPEG once) in three tones: bright, x 0.15, and 0.3 x^2.2; clipped, 8-bit. Constants of the
measures were chosen on the first eight (impulses and JPEG: ten) images of each set's `train` role
in the manifest; what is printed here comes from the first IMAGES of each set's `test` role,
which are listed. Bars are the project's, set beforehand. Needs the extra `bench`.

Measured with jax 0.10.2, as bar; result:
sigma in the dark, relative error, median (0.11; 0.007) and worst (0.15; 0.100);
sigma when bright, median and worst (Liu's 0.076, 0.463; 0.015, 0.149);
impulse density, absolute error, worst (0.01; 0.0035);
blur, Spearman (0.87; 0.921) and with noise (0.79; 0.906);
JPEG, Spearman (0.97; 0.998), error, median (0; 0) and 90th percentile (1; 0), false alarms (0; 0).

    python benchmarks/artifacts.py [path of shared/data]
"""

import csv
import io
import itertools
import sys
import time
from pathlib import Path

import cv2
import jax
import numpy as np
import scipy.ndimage
import skimage.measure
import skimage.restoration
from PIL import Image
from scipy.stats import spearmanr

from lle_jax import artifacts
from lle_jax.artifacts import study

IMAGES = 4
SETS = ("drive", "kvasir_seg", "ham10000", "chest_xray")
TONES = {"bright": lambda x: x, "x0.15": lambda x: 0.15 * x, "0.3x^2.2": lambda x: 0.3 * x**2.2}
SIGMAS = (0.005, 0.01, 0.02, 0.05, 0.1)
DENSITIES = (0, 0.01, 0.05, 0.2)
BLURS = (0, 0.5, 1, 1.5, 2, 3, 4)
QUALITIES = (5, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 95, 98)


def chosen(data: Path, role: str, count: int) -> list[Path]:
    with (data / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if "/images/" in row["path"]]
    paths = []
    for name in SETS:
        of_set = sorted(r["path"] for r in rows if r["set"] == name and r["role"] == role)
        paths += [data / path for path in of_set[:count]]
    return paths


def half(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    image = image[..., None] if image.ndim == 2 else image[..., ::-1]
    height, width = image.shape[:2]
    small = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    # whole blocks and few different sizes, each of which is compiled for
    height, width = (min(side // 8 * 8, 384) for side in small.shape[:2])
    return small.reshape(*small.shape[:2], -1)[:height, :width] / 255


def eight_bit(image: np.ndarray) -> np.ndarray:
    return (np.rint(np.clip(image, 0, 1) * 255) / 255).astype(np.float32)


noise_sigma = jax.jit(artifacts.noise_sigma)
impulse_density = jax.jit(artifacts.impulse_density)
blur_sigma = jax.jit(artifacts.blur_sigma)
jpeg_traces = jax.jit(artifacts.jpeg_traces)
blockiness = jax.jit(artifacts.blockiness)
study_measures = jax.jit(study.measure)


def channels(image):
    return [image[..., c] for c in range(image.shape[-1])]


def grey(image):
    return image @ [0.299, 0.587, 0.114] if image.shape[-1] == 3 else image[..., 0]


def immerkaer(image):
    """Fast noise variance estimation, CVIU 64(2), 1996."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    one = [np.abs(scipy.ndimage.convolve(c, kernel)[1:-1, 1:-1]).mean() for c in channels(image)]
    return np.sqrt(np.pi / 2) / 6 * np.mean(one)


def wavelet_mad(image):
    return np.mean([skimage.restoration.estimate_sigma(c) for c in channels(image)])


def liu(image):
    """Liu, Tanaka and Okutomi, TIP 2013: least eigenvalue over patches of weak texture."""
    return np.mean([_liu_channel(channel.astype(np.float64)) for channel in channels(image)])


def _liu_channel(x, side=7, confidence=1 - 1e-6, rounds=3):
    from scipy.stats import gamma

    windows = np.lib.stride_tricks.sliding_window_view
    across = np.zeros((side * (side - 2), side * side))
    down = np.zeros_like(across)
    for row, (i, j) in enumerate(itertools.product(range(side), range(side - 2))):
        across[row, i * side + j], across[row, i * side + j + 2] = -0.5, 0.5
        down[row, j * side + i], down[row, (j + 2) * side + i] = -0.5, 0.5
    gram = across.T @ across + down.T @ down
    rank, trace = np.linalg.matrix_rank(gram), np.trace(gram)
    threshold = gamma.ppf(confidence, rank / 2, scale=2 * trace / rank)
    patches = windows(x, (side, side)).reshape(-1, side * side)
    horizontal = windows((x[:, 2:] - x[:, :-2]) / 2, (side, side - 2))
    vertical = windows((x[2:] - x[:-2]) / 2, (side - 2, side))
    texture = (horizontal**2).sum((2, 3)).ravel() + (vertical**2).sum((2, 3)).ravel()

    def least(some):
        return max(np.linalg.eigvalsh(np.cov(some.T, bias=True))[0], 0)

    variance = least(patches)
    for _ in range(rounds):
        weak = texture < threshold * variance
        if weak.sum() < side * side:
            break
        variance = least(patches[weak])
    return np.sqrt(variance)


def sigma_table(images, generator):
    print("\nnoise sigma: relative error, median / worst")
    methods = {
        "noise_sigma": lambda y: float(noise_sigma(y)),
        "Liu": liu,
        "wavelet MAD": wavelet_mad,
        "Immerkaer": immerkaer,
    }
    errors = {(m, tone): [] for m in methods for tone in TONES}
    for image, (tone, curve), sigma in itertools.product(images, TONES.items(), SIGMAS):
        noisy = eight_bit(curve(image) + sigma * generator.standard_normal(image.shape))
        for name, method in methods.items():
            errors[name, tone].append(abs(method(noisy) / sigma - 1))
    for name in methods:
        dark = np.array(errors[name, "x0.15"] + errors[name, "0.3x^2.2"])
        cells = [f"{np.median(errors[name, t]):.3f} / {max(errors[name, t]):.3f}" for t in TONES]
        print(f"  {name:14s}", *cells, f"dark {np.median(dark):.3f} / {dark.max():.3f}", sep="  ")
    print("  bar: dark 0.11 / 0.15, bright no worse than Liu;", "columns", *TONES)


def impulse_table(images, generator):
    print("\nimpulse density: absolute error against the share injected, median / worst")
    errors = {(m, t): [] for m in ("impulse_density", "naive ratio") for t in TONES}
    grid = itertools.product(images, TONES.items(), (0, 0.02), DENSITIES)
    for image, (tone, curve), sigma, density in grid:
        base = eight_bit(curve(image) + sigma * generator.standard_normal(image.shape))
        u = generator.random(image.shape[:2])[..., None]
        low, high = u < density / 2, u > 1 - density / 2
        hit = np.where(low, 0, np.where(high, 1, base)).astype(np.float32)
        salt, pepper = map(float, impulse_density(hit))
        errors["impulse_density", tone] += [abs(salt - high.mean()), abs(pepper - low.mean())]
        ratio = float(study_measures(hit)["salt_and_pepper_ratio"])
        errors["naive ratio", tone].append(abs(ratio - low.mean() - high.mean()))
    for name in ("impulse_density", "naive ratio"):
        cells = [f"{np.median(errors[name, t]):.4f} / {max(errors[name, t]):.4f}" for t in TONES]
        print(f"  {name:16s}", *cells, sep="  ")
    print("  bar: worst 0.01")


def blur_table(images, generator):
    print("\nblur 0 to 4 px: Spearman correlation pooled over images and tones")
    methods = {
        "blur_sigma": lambda y: float(blur_sigma(y)),
        "-Laplacian variance": lambda y: -scipy.ndimage.laplace(grey(y).astype(float)).var(),
        "Crete-Roffet": lambda y: skimage.measure.blur_effect(grey(y)),
        "-study": lambda y: -float(study_measures(y)["blur_metric"]),
    }
    for noise, bar in ((0, 0.87), (0.01, 0.79)):
        found = {name: [] for name in methods}
        truth = []
        for image, curve, blur in itertools.product(images, TONES.values(), BLURS):
            dark = scipy.ndimage.gaussian_filter(curve(image), (blur, blur, 0), mode="reflect")
            dark = eight_bit(dark + noise * generator.standard_normal(dark.shape))
            truth.append(blur)
            for name, method in methods.items():
                found[name].append(method(dark))
        cells = [f"{name} {spearmanr(truth, v)[0]:.3f}" for name, v in found.items()]
        print(f"  noise {noise}:", ", ".join(cells), f"(bar {bar})")
        measured, injected = np.array(found["blur_sigma"]), np.array(truth)
        medians = [f"{blur}: {np.median(measured[injected == blur]):.2f}" for blur in BLURS]
        print("    median blur_sigma at", ", ".join(medians))


def encode(image, quality, subsampling):
    levels = np.rint(image * 255).astype(np.uint8)
    data = io.BytesIO()
    pixels = levels if levels.shape[-1] == 3 else levels[..., 0]
    Image.fromarray(pixels).save(data, "JPEG", quality=quality, subsampling=subsampling)
    return (np.asarray(Image.open(data)).reshape(levels.shape) / 255).astype(np.float32)


def wang_sheikh_bovik(image):
    """No-reference perceptual quality of JPEG images, ICIP 2002; larger is better."""
    x = grey(image).astype(np.float64) * 255
    blockings, activities, crossings = [], [], []
    for values in (x, x.T):
        steps = np.diff(values, axis=1)
        block = np.abs(steps[:, 7::8]).mean()
        blockings.append(block)
        activities.append((8 * np.abs(steps).mean() - block) / 7)
        crossings.append((steps[:, 1:] * steps[:, :-1] < 0).mean())
    b, a, z = (max(np.mean(v), 1e-6) for v in (blockings, activities, crossings))
    return -245.8909 + 261.9373 * b ** (-239.8886 / 1e4) * a ** (160.1664 / 1e4) * z ** (
        64.2859 / 1e4
    )


def jpeg_table(images, clean, generator):
    print("\nJPEG quality", QUALITIES)
    pooled = {name: [] for name in ("truth", "ours", "wsb", "naive", "blockiness")}
    for tone, curve in TONES.items():
        start = len(pooled["truth"])
        for image, quality in itertools.product(images, QUALITIES):
            y = encode(eight_bit(curve(image)), quality, int(generator.choice([0, 2])))
            pooled["truth"].append(quality)
            pooled["ours"].append(float(jpeg_traces(y).quality))
            pooled["wsb"].append(wang_sheikh_bovik(y))
            pooled["naive"].append(-float(study_measures(y)["jpeg_artifact_metric"]))
            pooled["blockiness"].append(-float(blockiness(y)))
        report(tone, {name: values[start:] for name, values in pooled.items()})
    report("all tones", pooled)
    print("  bar: Spearman 0.97, median error 0, 90th percentile 1")
    for tone, curve in TONES.items():
        odds = [float(jpeg_traces(eight_bit(curve(i))).log_odds) for i in clean]
        alarms = sum(value > 8 for value in odds)
        print(f"  never compressed, {tone}: {alarms} false alarms in {len(odds)}, bar 0")


def report(tone, values):
    errors = np.abs(np.subtract(values["ours"], values["truth"]))
    others = {n: spearmanr(values["truth"], v)[0] for n, v in values.items() if n != "truth"}
    print(
        f"  {tone:10s} Spearman",
        ", ".join(f"{name} {value:.3f}" for name, value in others.items()),
        f"error median {np.median(errors):g}, 90th {np.percentile(errors, 90):g}, "
        f"worst {errors.max():g}",
    )


def timing():
    image = np.random.default_rng(0).random((512, 512, 3)).astype(np.float32)

    @jax.jit
    def everything(x):
        return (
            artifacts.noise_sigma(x),
            artifacts.impulse_density(x),
            artifacts.blur_sigma(x),
            artifacts.jpeg_traces(x),
            artifacts.blockiness(x),
            artifacts.exposure(x),
        )

    def other():
        skimage.restoration.estimate_sigma(image, channel_axis=-1)
        skimage.measure.blur_effect(image, channel_axis=-1)

    def least(run):
        run()
        times = []
        for _ in range(5):
            start = time.perf_counter()
            run()
            times.append(1e3 * (time.perf_counter() - start))
        return min(times)

    ours, theirs = least(lambda: jax.block_until_ready(everything(image))), least(other)
    print(f"\n512 x 512 x 3: all measures {ours:.0f} ms (bar 60 on one core), ", end="")
    print(f"scikit-image's estimate_sigma and blur_effect {theirs:.0f} ms")


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "shared/data"
    paths = chosen(root, "test", IMAGES)
    print("scored on", *(f"{p.parent.parent.name}/{p.name}" for p in paths))
    images = [half(path) for path in paths]
    generator = np.random.default_rng(0)
    timing()
    impulse_table(images, generator)
    jpeg_table(images, [half(p) for p in chosen(root, "test", 14)], generator)
    blur_table(images, generator)
    sigma_table(images, generator)


if __name__ == "__main__":
    main()
