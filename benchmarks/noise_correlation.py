"""Do sigma and correlation of noise, from the dark picture alone, agree with real pairs?

    python benchmarks/noise_correlation.py [path of shared/data]

LOL's 15 real test pairs (Wei et al., BMVC 2018): the same scene with little light and with much.
The truth is the residual of the dark picture to the bright one. The change of exposure is neither a
gain nor the same everywhere, so that in each window of 48 x 48 pixels the dark channel is fitted by
least squares: a quadratic surface, the three bright channels, and the derivatives of bright luma,
for pictures that are shifted by part of a pixel. Of the windows that are nowhere clipped, the 15 %
whose bright picture is flattest count, for there the fit cannot fail much. The autocorrelation is
the mean product of residuals; nothing of `noise_correlation` is used. Variances are less that of
rounding. A length is the lag at which the autocorrelation falls to 1/e, linear between lags.

As this noise turns out to be white, the pairs are also compared after a Gaussian filter of 0.7 and
of 1 pixel on both pictures, the dark one brightened four times before it is rounded.

Then known noise is added to the held-back medical images of `artifacts.py`, bright and x 0.15:
white, and filtered by a Gaussian of 1 pixel, of sigma 0.01 and 0.03.

Bars set beforehand, median over images: sigma within 15 %, lengths within 20 %. Measured with jax
0.10.2 on 600 x 400 pixels: sigma 0.05 of luma and 0.03 of chroma, lengths 0.06 and 0.05, and 0.02.
With a filter of 1 pixel luma misses both, sigma 0.16, lengths 0.28 and 0.24; chroma does not, 0.06,
0.12 and 0.11. Tried, and worse for filtered luma: planes in place of quadratic surfaces (lengths
0.41 and 0.37), with them the flattest 3, 5 and 15 % of the blocks, and a tilt whose degrees of
freedom are those of the corrected spectrum, which diverges where texture is left.
"""

import sys
from pathlib import Path

import cv2
import jax
import numpy as np
import scipy.ndimage
from artifacts import IMAGES, TONES, chosen, eight_bit, half

from lle_jax import artifacts, images
from lle_jax.artifacts.measures import centre_crop

WINDOW, SHARE, LAGS = 48, 0.15, 8
# Luma, and two orthonormal differences of colours.
PLANES = np.array(
    [[0.299, 0.587, 0.114], [2**-0.5, -(2**-0.5), 0], [6**-0.5, 6**-0.5, -2 * 6**-0.5]]
)
FILTERS = (0, 0.7, 1)


def windows(image: np.ndarray) -> np.ndarray:
    """`[H, W, C]` -> `[N, WINDOW, WINDOW, C]`, by half a window."""
    views = np.lib.stride_tricks.sliding_window_view(image, (WINDOW, WINDOW), (0, 1))
    views = views[:: WINDOW // 2, :: WINDOW // 2]
    return views.transpose(0, 1, 3, 4, 2).reshape(-1, WINDOW, WINDOW, image.shape[-1])


def residuals(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Noise of the dark picture in flat windows, `[N, WINDOW, WINDOW, 3]`."""
    luma = cv2.GaussianBlur(high @ PLANES[0], (0, 0), 1)
    derivatives = np.stack(np.gradient(luma), axis=-1)
    dark, bright, slopes, smooth = map(windows, (low, high, derivatives, luma[..., None]))
    clipped = np.maximum((dark <= 0).mean((1, 2)), (bright >= 0.98).mean((1, 2))).max(axis=-1)
    usable = np.flatnonzero(clipped < 0.01)
    relative = smooth.std(axis=(1, 2))[:, 0] / (smooth.mean(axis=(1, 2))[:, 0] + 0.02)
    flat = usable[np.argsort(relative[usable])][: max(4, int(SHARE * len(usable)))]
    y, x = (np.indices((WINDOW, WINDOW)) / WINDOW - 0.5).reshape(2, -1)
    surface = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    noise = []
    for number in flat:
        seen = np.concatenate([bright[number], slopes[number]], axis=-1).reshape(WINDOW**2, -1)
        regressors = np.concatenate([surface, seen], axis=1)
        values = dark[number].reshape(-1, 3)
        fitted = regressors @ np.linalg.lstsq(regressors, values, rcond=None)[0]
        freedom = 1 - regressors.shape[1] / WINDOW**2
        noise.append((values - fitted).reshape(WINDOW, WINDOW, 3) / np.sqrt(freedom))
    return np.stack(noise)


def truth(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Sigma, length along rows and along columns, of luma and of chroma: `[2, 3]`."""
    noise = residuals(low, high) @ PLANES.T
    products = np.stack(
        [
            [(noise[:, :, k:] * noise[:, :, : WINDOW - k]).mean((0, 1, 2)) for k in range(LAGS)],
            [(noise[:, k:] * noise[:, : WINDOW - k]).mean((0, 1, 2)) for k in range(LAGS)],
        ]
    )
    products[:, 0] -= (PLANES**2).sum(axis=1) / (12 * 255**2)
    result = []
    for planes in ([0], [1, 2]):
        rows, columns = products[..., planes].mean(axis=-1)
        result.append([np.sqrt(rows[0]), length(rows / rows[0]), length(columns / columns[0])])
    return np.array(result)


def length(correlation: np.ndarray) -> float:
    last = int(np.argmax(correlation < 1 / np.e))
    above, below = correlation[last - 1], correlation[last]
    return last - 1 + (above - 1 / np.e) / (above - below)


measure = jax.jit(artifacts.noise_correlation)


def measured(image: np.ndarray) -> np.ndarray:
    return np.array([plane[:3] for plane in measure(image.astype(np.float32))])


def filtered(picture: np.ndarray, sigma: float, gain: float) -> np.ndarray:
    if sigma == 0:
        return picture
    return np.rint(np.clip(gain * cv2.GaussianBlur(picture, (0, 0), sigma), 0, 1) * 255) / 255


def real_pairs(root: Path) -> None:
    """Prints medians, true and measured, and the median and worst relative error."""
    pairs = []
    for path in sorted((root / "lol_eval15" / "low").iterdir()):
        pairs.append([images.read(p).pixels.astype(np.float64)
                      for p in (path, path.parents[1] / "high" / path.name)])  # fmt: skip
    print("| filter | plane | measured on | sigma | along rows | along columns |")
    print("|---|---|---|---|---|---|")
    for sigma in FILTERS:
        expected, whole, cropped = [], [], []
        for dark, bright in pairs:
            low, high = filtered(dark, sigma, 4), filtered(bright, sigma, 1)
            expected.append(truth(low, high))
            whole.append(measured(low))
            cropped.append(measured(centre_crop(low)))
        true = np.stack(expected)
        for part, values in (("600 x 400", np.stack(whole)), ("256 x 256", np.stack(cropped))):
            error = np.abs(values / true - 1)
            for index, plane in enumerate(("luma", "chroma")):
                cells = []
                for column, digits in enumerate((4, 2, 2)):
                    middle = [np.nanmedian(v[:, index, column]) for v in (true, values)]
                    off = error[:, index, column]
                    cells.append(
                        f"{middle[0]:.{digits}f}, {middle[1]:.{digits}f}; "
                        f"{np.nanmedian(off):.2f} / {np.nanmax(off):.2f}"
                    )
                print(f"| {sigma or 'none'} | {plane} | {part} | {' | '.join(cells)} |", flush=True)
        print("not measured:", int(np.isnan(np.stack(whole + cropped)).any(axis=(1, 2)).sum()))


def injected(root: Path) -> None:
    """Prints the relative error, median / worst, of noise added to medical images."""
    pictures = [half(path) for path in chosen(root, "test", IMAGES)]
    pictures = [p.repeat(3 // p.shape[-1], axis=-1) for p in pictures]
    impulse = np.zeros(33)
    impulse[16] = 1
    print("| noise | tone | plane | sigma | along rows | along columns |")
    print("|---|---|---|---|---|---|")
    for blur, sigma in ((0, 0.01), (0, 0.03), (1, 0.01), (1, 0.03)):
        taps = scipy.ndimage.gaussian_filter1d(impulse, blur) if blur else impulse
        correlation = np.correlate(taps, taps, "full")[32 : 32 + LAGS]
        lag = length(correlation / correlation[0])
        for tone in ("bright", "x0.15"):
            errors = []
            for number, picture in enumerate(pictures):
                noise = np.random.default_rng(number).standard_normal(picture.shape)
                if blur:
                    noise = scipy.ndimage.gaussian_filter(noise, (blur, blur, 0), mode="wrap")
                noise *= sigma / correlation[0]
                true = [[sigma * np.sqrt((PLANES[0] ** 2).sum()), lag, lag], [sigma, lag, lag]]
                values = measured(eight_bit(TONES[tone](picture) + noise))
                errors.append(np.abs(values / np.array(true) - 1))
            for index, plane in enumerate(("luma", "chroma")):
                off = np.stack(errors)[:, index]
                cells = [f"{np.nanmedian(o):.2f} / {np.nanmax(o):.2f}" for o in off.T]
                name = f"{sigma}, {'filtered' if blur else 'white'}"
                print(f"| {name} | {tone} | {plane} | {' | '.join(cells)} |", flush=True)
            print("not measured:", int(np.isnan(np.stack(errors)).any(axis=(1, 2)).sum()))


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "shared/data"
    real_pairs(root)
    injected(root)


if __name__ == "__main__":
    main()
