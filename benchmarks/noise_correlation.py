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

Bars set beforehand, median over images: sigma within 15 %, lengths within 20 %.
"""

import sys
from pathlib import Path

import cv2
import jax
import numpy as np

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


def main() -> None:
    """Prints the table: true and measured medians, and median and worst relative error."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "shared/data"
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


if __name__ == "__main__":
    main()
