"""Computes all measures of an image by name, as a pure function or on the host at any size.

XLA compiles anew for every size of picture, for seconds each, so that a folder of many sizes would
be compiled rather than measured. `measure` therefore measures parts of a few sizes, the same ones
of an image in any folder. Nothing is averaged to fit, as that would change what is measured:

- noise, impulses, blur and JPEG by a square in the middle, on the grid of JPEG's blocks. Its side
  is the largest power of two up to 1024 that fits;
- exposure by pixels evenly spread over all the image, 512 x 512 of them, or as many as the largest
  power of two that fits;
- the study's measures by the whole image, in NumPy.
"""

import functools
import math
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import UnidentifiedImageError

from lle_jax import checks
from lle_jax.artifacts import study
from lle_jax.artifacts.blocking import blockiness, file_quality, jpeg_traces
from lle_jax.artifacts.blur import blur_sigma
from lle_jax.artifacts.exposure import exposure
from lle_jax.artifacts.impulses import impulse_density
from lle_jax.artifacts.noise import noise_sigma
from lle_jax.artifacts.noise_correlation import MIN_SIDE, PlaneNoise, noise_correlation
from lle_jax.artifacts.sensor import noise_model
from lle_jax.images.errors import quiet

_CROP_SIDE = 1024
_SUBSAMPLED_SIDE = 512
_MAX_EXECUTABLES = 32  # kept in memory
_COMPILING = threading.Lock()
_STRIP = 256  # rows, whole blocks
_MIN_SIDE = 16  # two blocks
_SENSOR_MIN_SIDE = 64
_STUDY_MIN_SIDE = {"gaussian_noise_variance": 50, "jpeg_artifact_metric": 8}

# Name, in the order of tables -> unit.
UNITS = {
    "noise_sigma": "of [0, 1]",
    "gain": "linear light per photon",
    "read_noise": "linear, of [0, 1]",
    "noise_luma_sigma": "of [0, 1]",
    "noise_luma_length_x": "pixels",
    "noise_luma_length_y": "pixels",
    "noise_luma_slope": "log power per log frequency",
    "noise_chroma_sigma": "of [0, 1]",
    "noise_chroma_length_x": "pixels",
    "noise_chroma_length_y": "pixels",
    "noise_chroma_slope": "log power per log frequency",
    "salt": "fraction",
    "pepper": "fraction",
    "blur_sigma": "pixels",
    "jpeg_quality": "1 to 100",
    "jpeg_log_odds": "nats",
    "blockiness": "of [0, 1]",
    "luminance": "linear, of [0, 1]",
    "crushed": "fraction",
    "saturated": "fraction",
    "non_uniformity": "std / mean",
    "contrast": "of [0, 1]",
    "cast": "std / mean",
    "entropy": "bits",
    "darkest": "of the mean luminance",
    "gaussian_noise_variance": "of [0, 1], squared",
    "salt_and_pepper_ratio": "fraction",
    "blur_metric": "of [0, 1]",
    "jpeg_artifact_metric": "of [0, 1], squared",
}


def all_measures(image: jax.Array) -> dict[str, jax.Array]:
    """Computes every measure of the package by name; pure, to be compiled as one function.

    Args:
      image: `[..., H, W, C]` in [0, 1], C = 1 or 3.

    Returns:
      `[...]` each; NaN for what needs a larger image: 16 x 16 pixels for noise, blur, JPEG and
      blockiness, 64 x 64 for a sensor's noise and the correlation of noise, and what `study` says
      for its measures.

    Raises:
      ValueError: if the image is malformed.
    """
    return {**_of_centre_crop(image), **_of_subsampled(image), **_of_whole(image)}


def measure(image: np.ndarray, quality: int | None = None) -> dict[str, float]:
    """Computes every measure of one image as Python numbers, of the parts the module names.

    Args:
      image: `[H, W, C]` in [0, 1], C = 1 or 3.
      quality: of the JPEG header (`header_quality`), which is preferred to that of the pixels.

    Returns:
      the measures by name, in the order of `UNITS`; NaN where the image is too small.

    Raises:
      ValueError: if the image is malformed.
    """
    image = np.asarray(image)
    checks.image_shape(image.shape)
    if image.ndim != 3:
        raise ValueError(f"image has shape {image.shape}; expected one image, [H, W, C]")
    if image.dtype != np.float64 or not jax.config.read("jax_enable_x64"):
        image = image.astype(np.float32, copy=False)
    results = study_measures(image)
    for group, part in ((_of_centre_crop, centre_crop(image)), (_of_subsampled, subsample(image))):
        with _COMPILING:  # so that threads do not all compile for one size
            program = _compiled(group, part.shape, part.dtype)
        results |= jax.device_get(program(part))
    values = {name: float(results[name]) for name in UNITS}
    if quality is not None:
        values["jpeg_quality"] = float(quality)
    return values


def header_quality(path: Path) -> int | None:
    """Reads the JPEG quality of a readable file's header; None where the header has none."""
    try:
        with quiet():
            return file_quality(path)
    except (OSError, ValueError, KeyError, SyntaxError, UnidentifiedImageError):
        return None


def study_measures(image: np.ndarray) -> dict[str, float]:
    """Computes `study.measure` of `[H, W, C]` in NumPy, without compiling; NaN if too small.

    The definitions are documented there.
    """
    height, width = image.shape[:2]
    rows, columns = height // 8, width // 8
    corner = _grey_levels(image[:50, :50])
    extreme = laplacian = 0
    variance = 0.0
    for top in range(0, height, _STRIP):  # 1.3 GB less for an image of 12,000 x 9,000
        bottom = min(top + _STRIP, height)
        above, below = int(top > 0), int(bottom < height)  # a row that the filter needs
        grey = _grey_levels(image[top - above : bottom + below])
        padded = np.pad(grey, ((1 - above, 1 - below), (1, 1)), mode="edge")
        across = padded[:, :-2] + 4 * padded[:, 1:-1] + padded[:, 2:]
        grey = grey[above : above + bottom - top]
        laplacian += int(np.abs(across[:-2] + 4 * across[1:-1] + across[2:] - 36 * grey).sum())
        extreme += int(np.count_nonzero((grey >= 243) | (grey <= 12)))
        whole = (bottom - top) // 8
        blocks = grey[: 8 * whole, : 8 * columns].reshape(whole, 8, columns, 8).swapaxes(1, 2)
        variance += float(blocks.reshape(-1, 64).var(axis=1, ddof=1).sum())
    return {
        "gaussian_noise_variance": (
            float(corner.var(ddof=1)) / 255**2 if corner.size == 2500 else math.nan
        ),
        "salt_and_pepper_ratio": extreme / (height * width),
        "blur_metric": laplacian / (height * width * 6 * 255),
        "jpeg_artifact_metric": (
            variance / (rows * columns) / 255**2 if rows * columns else math.nan
        ),
    }


def _grey_levels(image: np.ndarray) -> np.ndarray:
    """The grey levels 0 to 255 of `[h, W, C]`, `[h, W]` int32."""
    levels = np.rint(np.clip(image, 0, 1) * 255).astype(np.int32)
    if levels.shape[-1] == 3:
        return (levels @ np.array([2989, 5870, 1140], np.int32) + 5000) // 10000
    return levels[..., 0]


def centre_crop(image: np.ndarray) -> np.ndarray:
    """Crops the centre square of `[H, W, C]`, for noise, impulses, blur and JPEG."""
    side = min(_power_of_two(min(image.shape[:2])), _CROP_SIDE)
    # a multiple of 8 from the corner, where the grid of JPEG's blocks begins
    top, left = ((whole - side) // 16 * 8 for whole in image.shape[:2])
    return np.ascontiguousarray(image[top : top + side, left : left + side])


def subsample(image: np.ndarray) -> np.ndarray:
    """Subsamples `[H, W, C]` to a square of evenly spaced pixels, for exposure."""
    side = min(_power_of_two(min(image.shape[:2])), _SUBSAMPLED_SIDE)
    rows, columns = ((2 * np.arange(side) + 1) * whole // (2 * side) for whole in image.shape[:2])
    return np.ascontiguousarray(image[rows[:, None], columns])


def _power_of_two(number: int) -> int:
    """The largest that is no larger than a whole number."""
    return 1 << (number.bit_length() - 1)


@functools.lru_cache(maxsize=_MAX_EXECUTABLES)
def _compiled(group, shape: tuple[int, ...], dtype):
    """The measures of a group for one size; a bounded number is kept, unlike by `jax.jit`."""

    # A function of its own for each size: what jax itself keeps of it goes with it.
    def measures_of_group(image):
        return group(image)

    lowered = jax.jit(measures_of_group).lower(jax.ShapeDtypeStruct(shape, dtype))
    # these compile in half the time, and run as fast
    options: dict[str, str | bool] = {"xla_backend_optimization_level": "1"}
    if jax.default_backend() == "cpu":
        options["xla_cpu_use_fusion_emitters"] = False
    return lowered.compile(compiler_options=options)


def _of_centre_crop(image: jax.Array) -> dict[str, jax.Array]:
    image = checks.image(image)
    large_enough = min(image.shape[-3:-1]) >= _MIN_SIDE
    nan = jnp.full(image.shape[:-3], jnp.nan, checks.compute_dtype(image))
    sensor = noise_model(image) if min(image.shape[-3:-1]) >= _SENSOR_MIN_SIDE else (nan, nan)
    correlated = min(image.shape[-3:-1]) >= MIN_SIDE
    planes = noise_correlation(image) if correlated else (PlaneNoise(*[nan] * 4),) * 2
    salt, pepper = impulse_density(image)
    traces = jpeg_traces(image) if large_enough else (nan, nan)
    return {
        "noise_sigma": noise_sigma(image) if large_enough else nan,
        "gain": sensor[0],
        "read_noise": sensor[1],
        **{
            f"noise_{plane}_{name}": value
            for plane, noise in zip(("luma", "chroma"), planes, strict=True)
            for name, value in noise._asdict().items()
        },
        "salt": salt,
        "pepper": pepper,
        "blur_sigma": blur_sigma(image) if large_enough else nan,
        "jpeg_quality": traces[0],
        "jpeg_log_odds": traces[1],
        "blockiness": blockiness(image) if large_enough else nan,
    }


def _of_subsampled(image: jax.Array) -> dict[str, jax.Array]:
    return exposure(image)._asdict()


def _of_whole(image: jax.Array) -> dict[str, jax.Array]:
    image = checks.image(image)
    smallest = min(image.shape[-3:-1])
    nan = jnp.full(image.shape[:-3], jnp.nan, checks.compute_dtype(image))
    return {
        name: function(image) if smallest >= _STUDY_MIN_SIDE.get(name, 1) else nan
        for name, function in study.MEASURES.items()
    }
