"""Are SSIM and CIEDE2000 fast enough to be computed everywhere, and what do conventions change?

Without arguments: time against scikit-image on one 1024 x 1024 x 3 pair, float32, all taking turns
in one process; the least time of many, as other programs can only add to it. With `conventions`:
the PSNR and SSIM that one pair of pictures has under the conventions in use, for docs/metrics.md.

Floor set beforehand: SSIM in 0.45 x, CIEDE2000 in 0.5 x scikit-image's time.

Prediction: scikit-image filters five images per channel where ours filters four, and crosses memory
once per NumPy operation where ours fuses them: a quarter to a third of the time on two cores.

Measured (jax 0.10.2, scikit-image 0.26.0, two quiet cores): SSIM 0.25 (Gaussian, 93 ms) and 0.21
(uniform, 66 ms), CIEDE2000 0.30 (58 ms), met.

    python benchmarks/metrics.py [conventions]
"""

import functools
import sys
import time

import jax
import numpy as np
import skimage.data
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

from lle_jax import degrade, metrics

ROUNDS = 8
PAPER = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


def least(contestants: dict) -> dict[str, float]:
    """Name -> least milliseconds of `ROUNDS` calls, the contestants taking turns."""
    times = {name: [] for name in contestants}
    for _ in range(ROUNDS + 1):
        for name, call in contestants.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: min(values[1:]) for name, values in times.items()}


def speed() -> None:
    reference = np.float32(skimage.data.retina()[200:1224, 200:1224] / 255)
    noise = np.random.default_rng(0).normal(0.02, 0.05, reference.shape)
    image = np.clip(reference + noise, 0, 1).astype(np.float32)
    x, y = jax.device_put((image, reference))
    ssim = jax.jit(metrics.ssim)
    uniform = jax.jit(functools.partial(metrics.ssim, window=metrics.UNIFORM_7, unbiased=True))
    ciede2000 = jax.jit(metrics.ciede2000)

    def theirs(**options):
        return structural_similarity(image, reference, data_range=1, channel_axis=-1, **options)

    times = least(
        {
            "SSIM, Gaussian 11": lambda: ssim(x, y),
            "SSIM, Gaussian 11, scikit-image": lambda: theirs(**PAPER),
            "SSIM, uniform 7": lambda: uniform(x, y),
            "SSIM, uniform 7, scikit-image": theirs,
            "CIEDE2000": lambda: ciede2000(x, y),
            "CIEDE2000, scikit-image": lambda: deltaE_ciede2000(
                rgb2lab(image), rgb2lab(reference)
            ).mean(),
        }
    )
    for name, bar in (("SSIM, Gaussian 11", 0.45), ("SSIM, uniform 7", 0.45), ("CIEDE2000", 0.5)):
        ours, other = times[name], times[f"{name}, scikit-image"]
        print(f"{name:18s} {ours:6.1f} ms, {other:6.1f} ms, ratio {ours / other:.2f}, bar {bar}")


def degraded() -> tuple[np.ndarray, np.ndarray]:
    """A retina in low light, and well lit: 8-bit levels, float32 in [0, 1], 512 x 512."""
    reference = np.float32(skimage.data.retina()[450:962, 450:962] / 255)
    low = degrade.exposure(reference, gain=0.35)
    low = degrade.gaussian_noise(jax.random.key(0), low, sigma=0.02)
    return np.rint(255 * np.asarray(low)).astype(np.float32) / 255, reference


def conventions() -> None:
    image, reference = degraded()
    halves = [i.reshape(256, 2, 256, 2, 3).mean((1, 3)) for i in (image, reference)]
    cropped = [i[16:-16, 16:-16] for i in (image, reference)]
    brighter = image * (reference.mean() / image.mean())
    default = {"window": metrics.UNIFORM_7, "unbiased": True}
    rows = {
        "`ssim(x, y)`": ((image, reference), {}),
        "`ssim(x, y, unbiased=True)`": ((image, reference), {"unbiased": True}),
        "`ssim(x, y, window=UNIFORM_7, unbiased=True)`": ((image, reference), default),
        "`channels='luma'`": ((image, reference), {"channels": "luma"}),
        "`channels='rounded_luma'`": ((image, reference), {"channels": "rounded_luma"}),
        "`channels='studio_luma'`": ((image, reference), {"channels": "studio_luma"}),
        "16 pixels cropped from each border": (cropped, {}),
        "both at half size": (halves, {}),
        "`data_range=2` for images in [0, 1]": ((image, reference), {"data_range": 2.0}),
        "`data_range=255` for images in [0, 1]": ((image, reference), {"data_range": 255.0}),
        "after matching the mean (GT-mean)": ((brighter, reference), {}),
    }
    for name, (pair, options) in rows.items():
        scale = {k: v for k, v in options.items() if k in ("channels", "data_range")}
        ssim, psnr = metrics.ssim(*pair, **options), metrics.psnr(*pair, **scale)
        print(f"| {name} | {float(ssim):.3f} | {float(psnr):.2f} |")


if __name__ == "__main__":
    conventions() if sys.argv[1:] == ["conventions"] else speed()
