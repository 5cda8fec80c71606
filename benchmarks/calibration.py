"""Do the measures say what was injected? Draws docs/artifacts.png from scikit-image's pictures.

One artifact at a time is injected in three tones, then rounded to 8 bits. Lines are medians over
the pictures, bands quartiles, dots single pictures; dashes are a perfect measure.

    python benchmarks/calibration.py docs/artifacts.png
"""

import sys
from pathlib import Path

import jax
import numpy as np
import skimage.data
import skimage.transform
from matplotlib.figure import Figure

from lle_jax import artifacts, colour, degrade, files

# How many times smaller each is made first, as some were JPEG once; its middle is cut out.
PICTURES = {"astronaut": 2, "coffee": 2, "rocket": 2, "immunohistochemistry": 2, "retina": 7,
            "hubble_deep_field": 4, "camera": 2, "moon": 2, "cell": 2, "brick": 2}  # fmt: skip
TONES = {"bright": lambda x: x, "x 0.15": lambda x: 0.15 * x, "0.3 x^2.2": lambda x: 0.3 * x**2.2}
STYLES = (("#e69f00", "o"), ("#0072b2", "s"), ("#444444", "^"))
KEY = jax.random.key(0)
# How an artifact is injected, and how strongly.
INJECT = {
    "sigma of noise": (
        lambda x, s: degrade.gaussian_noise(KEY, x, sigma=s), (0.005, 0.01, 0.02, 0.05, 0.1)),
    "gain (read noise 0.002)": (
        lambda x, s: colour.linear_to_srgb(degrade.poisson_gaussian_noise(
            KEY, colour.srgb_to_linear(x), gain=s, read_noise=0.002)), (5e-4, 1e-3, 3e-3, 1e-2)),
    "share of impulses": (
        lambda x, s: degrade.salt_and_pepper(KEY, x, salt=s / 2, pepper=s / 2),
        (0, 0.01, 0.05, 0.1, 0.2)),
    "sigma of blur (pixels)": (lambda x, s: degrade.gaussian_blur(x, sigma=s), (0, 0.5, 1, 2, 4)),
    "JPEG quality": (lambda x, s: degrade.jpeg(x, s), (5, 10, 20, 30, 50, 70, 80, 90, 95)),
}  # fmt: skip
PANELS = (
    ("noise_sigma", artifacts.noise_sigma, "sigma of noise"),
    ("noise_model, gain", lambda x: artifacts.noise_model(x).gain, "gain (read noise 0.002)"),
    ("blur_sigma", artifacts.blur_sigma, "sigma of blur (pixels)"),
    ("impulse_density", lambda x: sum(artifacts.impulse_density(x)), "share of impulses"),
    ("study.salt_and_pepper_ratio", artifacts.study.salt_and_pepper_ratio, "share of impulses"),
    ("jpeg_quality", artifacts.jpeg_quality, "JPEG quality"),
)


def pictures() -> list[np.ndarray]:
    """The grey pictures and the colour ones, `[N, 192, 192, C]`."""
    found = {1: [], 3: []}
    for name, factor in PICTURES.items():
        image = np.atleast_3d(getattr(skimage.data, name)()).astype(np.float32) / 255
        image = skimage.transform.downscale_local_mean(image, (factor, factor, 1))
        top, left = ((side - 192) // 2 for side in image.shape[:2])
        found[image.shape[-1]].append(image[top : top + 192, left : left + 192])
    return list(map(np.stack, found.values()))


def draw(axes, batches, name, measure, injected) -> None:
    inject, strengths = INJECT[injected]
    run = jax.jit(lambda x, s: measure(degrade.quantise(inject(x, s), bits=8)))
    scale = "log" if name.startswith("noise") else "linear"
    axes.set(title=name, xlabel=f"{injected} injected", xscale=scale, yscale=scale)
    axes.plot(strengths, strengths, "k--", linewidth=1)
    for (tone, curve), (ink, mark) in zip(TONES.items(), STYLES, strict=True):
        found = [np.concatenate([run(curve(x), s) for x in batches]) for s in strengths]
        low, middle, high = np.nanquantile(found, (0.25, 0.5, 0.75), axis=1)
        axes.plot(strengths, found, ".", color=ink, markersize=3, alpha=0.5)
        axes.fill_between(strengths, low, high, color=ink, alpha=0.2, linewidth=0)
        axes.plot(strengths, middle, mark + "-", color=ink, markersize=4, label=tone)
    axes.legend(fontsize="small")


if __name__ == "__main__":
    figure = Figure(figsize=(11, 6.6), dpi=100, layout="constrained")
    for axes, panel in zip(figure.subplots(2, 3).flat, PANELS, strict=True):
        draw(axes, pictures(), *panel)
    files.write_figure(Path(sys.argv[1]), figure)
