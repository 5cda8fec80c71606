"""Measures of artifacts by which real and synthetic images are compared, and two-sample tests."""

import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from lle_jax import artifacts, colour
from lle_jax.fit import distributions
from lle_jax.xla import force_materialize

_OUTLIER = 0.1

CAST = "colour cast"
# Name and unit of each measure, and whether its logarithm is compared.
MEASURES = {
    "noise sigma": ("of [0, 1]", 1e-4),
    "luma noise sigma": ("of [0, 1]", 1e-4),
    "luma noise length x": ("pixels", None),
    "luma noise length y": ("pixels", None),
    "luma noise slope": ("log per log", None),
    "chroma noise sigma": ("of [0, 1]", 1e-4),
    "chroma noise length x": ("pixels", None),
    "chroma noise length y": ("pixels", None),
    "chroma noise slope": ("log per log", None),
    "salt": ("fraction", 1e-5),
    "pepper": ("fraction", 1e-5),
    "blur sigma": ("pixels", None),
    "blur sigma of medians": ("pixels", None),
    "bright outliers": ("fraction", 1e-5),
    "dark outliers": ("fraction", 1e-5),
    "JPEG quality": ("1 to 100", None),
    "blockiness": ("of [0, 1]", None),
    "luminance": ("linear, of [0, 1]", 1e-6),
    "crushed": ("fraction", 1e-4),
    "saturated": ("fraction", 1e-4),
    "non-uniformity": ("std / mean", None),
    "contrast": ("of [0, 1]", 1e-4),
    CAST: ("std / mean", None),
    "entropy": ("bits", None),
}


@jax.jit
def measure(image: jax.Array) -> jax.Array:
    """MEASURES of images `[b, H, W, C]`, `[b, measures]`; logarithms where MEASURES says so.

    JPEG moves impulses off 0 and 1, and impulses look sharp: so that both can be told from blur and
    noise, luma is also compared with its median over 3 x 3 pixels, and the medians' blur measured.
    Outliers are pixels a tenth of the range from the median.
    """
    noise = artifacts.noise_correlation(image)
    salt, pepper = artifacts.impulse_density(image)
    luma = colour.luma(image)
    median = force_materialize(_median(luma))
    axes = (-3, -2, -1)
    light = artifacts.exposure(image)
    values = (
        artifacts.noise_sigma(image),
        *noise.luma,
        *noise.chroma,
        salt,
        pepper,
        artifacts.blur_sigma(image),
        artifacts.blur_sigma(median),
        jnp.mean(luma > median + _OUTLIER, axis=axes),
        jnp.mean(luma < median - _OUTLIER, axis=axes),
        artifacts.jpeg_quality(image),
        artifacts.blockiness(image),
        light.luminance,
        light.crushed,
        light.saturated,
        light.non_uniformity,
        light.contrast,
        light.cast,
        light.entropy,
    )
    floors = [floor for _, floor in MEASURES.values()]
    return jnp.stack(
        [
            value if floor is None else jnp.log10(value + floor)
            for value, floor in zip(values, floors, strict=True)
        ],
        axis=-1,
    )


def _median(luma: jax.Array) -> jax.Array:
    """Median of 3 x 3 pixels of `[..., H, W, 1]`, by columns: Smith, Xilinx XCELL 23, 1996."""
    padding = [(0, 0)] * (luma.ndim - 3) + [(1, 1), (1, 1), (0, 0)]
    padded = jnp.pad(luma, padding, mode="symmetric")
    height, width = luma.shape[-3:-1]
    low, middle, high = _sort(*(padded[..., y : y + height, :, :] for y in range(3)))
    shifts = [[v[..., x : x + width, :] for x in range(3)] for v in (low, middle, high)]
    lowest = jnp.maximum(jnp.maximum(*shifts[0][:2]), shifts[0][2])
    highest = jnp.minimum(jnp.minimum(*shifts[2][:2]), shifts[2][2])
    return _sort(lowest, _sort(*shifts[1])[1], highest)[1]


def _sort(a: jax.Array, b: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    a, b = jnp.minimum(a, b), jnp.maximum(a, b)
    b, c = jnp.minimum(b, c), jnp.maximum(b, c)
    return jnp.minimum(a, b), jnp.maximum(a, b), c


def classify(
    real: np.ndarray, synthetic: np.ndarray, real_files: np.ndarray, synthetic_files: np.ndarray
) -> float:
    """How well a nearest-neighbour classifier tells real from synthetic measures.

    The two-sample test of Lopez-Paz and Oquab, "Revisiting classifier two-sample tests", ICLR 2017:
    each image is scored by the share of real ones among its neighbours; the mean over ten draws of
    as many real as synthetic images, one at most of a file: frames of a film, and versions of a
    clean image, are nearest to each other whatever else they show.

    Args:
      real: measures, `[n, measures]`.
      synthetic: measures, `[m, measures]`.
      real_files: which file each is of, `[n]`.
      synthetic_files: which clean image's file each was made of, `[m]`.

    Returns:
      area under the receiver operating characteristic, expected to be 0.5 for equal distributions;
      NaN where all are of one file.
    """
    generator = np.random.default_rng(0)
    count = min(len(np.unique(real_files)), len(np.unique(synthetic_files)))
    if count < 2:
        return math.nan
    neighbours = min(max(1, round(np.sqrt(count))), 2 * count - 2)
    areas = []
    for _ in range(10):
        points = np.concatenate(
            [
                real[_one_of_each(generator, real_files, count)],
                synthetic[_one_of_each(generator, synthetic_files, count)],
            ]
        )
        # where points are equal, those of neither class come first
        order = generator.permutation(2 * count)
        points, is_real = points[order], order < count
        points = distributions.scale(points, points)  # by the real ones alone, they would differ
        # An image is not its own neighbour, which leaves one less of its class; so that chance is
        # 0.5, one of the other class, drawn at random, is none either.
        hidden = np.empty(2 * count, int)
        for kind in (True, False):
            others = np.flatnonzero(is_real != kind)
            hidden[is_real == kind] = generator.choice(others, count)
        _, nearest = scipy.spatial.cKDTree(points).query(points, neighbours + 2)
        left_out = (nearest == np.arange(2 * count)[:, None]) | (nearest == hidden[:, None])
        first = np.argsort(left_out, axis=1, kind="stable")[:, :neighbours]
        share = is_real[np.take_along_axis(nearest, first, axis=1)].mean(axis=1)
        statistic = scipy.stats.mannwhitneyu(share[is_real], share[~is_real]).statistic
        areas.append(statistic / count**2)
    return float(np.mean(areas))


def _one_of_each(generator: np.random.Generator, files: np.ndarray, count: int) -> np.ndarray:
    """Draws images of `count` different files: the first of each, of all in random order."""
    order = generator.permutation(len(files))
    _, first = np.unique(files[order], return_index=True)
    return generator.permutation(order[first])[:count]


def kolmogorov_smirnov(real: np.ndarray, synthetic: np.ndarray):
    real, synthetic = (np.nan_to_num(values, nan=-1e30) for values in (real, synthetic))
    # of few images the p-value is exact, unless that fails, of which SciPy warns
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        return scipy.stats.ks_2samp(real, synthetic)
