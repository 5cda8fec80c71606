"""Naturalness without a reference: BRISQUE and NIQE, from statistics of normalised luma.

Both divide out the local mean and deviation of luma and describe what is left by the shapes of its
distribution. Conventions, those of the authors' MATLAB code:

- luma is BT.601 at full range, rounded to levels of 0 to 255 ("rounded_luma");
- local moments: Gaussian window of 7 taps, sigma 7/6; beyond the border black (BRISQUE) or the
  last pixel (NIQE); the deviation is divided by after adding 1 level;
- the second scale is half the size, by the antialiased bicubic filter of MATLAB's `imresize`
  (8 taps, a = -0.5, mirrored borders, odd sides rounded up);
- the shape of a generalised Gaussian is looked up by the ratio of its moments, in a table from 0.2
  to 10 in steps of 0.001. The authors take the nearest entry; here it is interpolated between two,
  which differs by at most half a step and has a gradient.

Mittal, Moorthy and Bovik, "No-reference image quality assessment in the spatial domain", IEEE TIP
21(12), 2012, doi:10.1109/TIP.2012.2214050. Mittal, Soundararajan and Bovik, "Making a 'completely
blind' image quality analyzer", IEEE SPL 20(3), 2013, doi:10.1109/LSP.2012.2227726.

The models that come with lle_jax are trained by tools/train_naturalness.py and are not the
published ones, which `load_niqe` and `load_brisque` read from the authors' files.
"""

import functools
import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.io
import scipy.special

from lle_jax import checks
from lle_jax.metrics import filters
from lle_jax.metrics.conventions import select

FOLDER = Path(__file__).resolve().parent / "weights"
FEATURES = 36
PATCH = 96  # side of NIQE's patches, in pixels
SHARP = 0.75  # share of an image's sharpest patch that a patch of the pristine model must reach

_WINDOW = filters.gaussian(7, 7 / 6)
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
# Bicubic kernel stretched to twice its width, at the distances of half-size pixels to full ones.
_HALF = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
_SHAPES = np.arange(200, 10001) / 1000
_LOG_GAMMA = {k: scipy.special.gammaln(k / _SHAPES) for k in (1, 2, 3)}
# (E abs(x))^2 / E x^2 of a generalised Gaussian, rising with its shape.
_RATIOS = np.exp(2 * _LOG_GAMMA[2] - _LOG_GAMMA[1] - _LOG_GAMMA[3])


class NaturalnessError(ValueError):
    """The file of a model cannot be used; the message says which and what to do."""


class NiqeModel(NamedTuple):
    """Multivariate Gaussian of natural patches; make it with `niqe_model`.

    Attributes:
      mean: `[36]`.
      whitening: `[36, 36]`; its product with (features - mean) has covariance 1 on natural patches.
        Kept instead of the covariance, whose inverse float32 cannot hold.
    """

    mean: jax.Array
    whitening: jax.Array


class BrisqueModel(NamedTuple):
    """Support vector regression with a Gaussian kernel, as libsvm's.

    Attributes:
      low, high: `[36]`; features are scaled from [low, high] to [-1, 1].
      vectors: `[n, 36]`, scaled features.
      coefficients: `[n]`.
      gamma: of the kernel exp(-gamma abs(a - b)^2).
      rho: subtracted from the sum.
    """

    low: jax.Array
    high: jax.Array
    vectors: jax.Array
    coefficients: jax.Array
    gamma: jax.Array
    rho: jax.Array


def brisque_features(image: jax.Array) -> jax.Array:
    """The 36 features of BRISQUE, 18 at each of two scales.

    Shape and variance of the normalised luma; then, for its products with the right, lower, lower
    right and lower left neighbour, shape, mean, left and right variance. Neighbours wrap around.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3, at least 16 x 16.

    Returns:
      `[..., 36]`; NaN where the image is flat. Its gradient is that without rounding of luma.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, or a smaller image.
    """
    luma = _levels(image, 16, "BRISQUE")
    features, valid = [], True
    for scale in range(2):
        luma = _half(luma) if scale else luma
        field, _ = _normalised(luma, "constant")
        neighbours, told = _neighbours(field, width=False)
        features += [jnp.stack(_symmetric(field), axis=-1), neighbours]
        valid &= told
    return jnp.where(valid[..., None], jnp.concatenate(features, axis=-1), jnp.nan)


def niqe_features(image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The 36 features of each patch of 96 x 96 pixels, and how sharp the patch is.

    As BRISQUE's, with the widths of the generalised Gaussians instead of their variances. What
    fills no patch at the right and the bottom is cropped; neighbours wrap around in the patch.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3, at least 96 x 96.

    Returns:
      features: `[..., n, 36]` of n patches by rows; NaN where a patch is flat, such as the black
        beyond a field of view. Gradients as in `brisque_features`.
      sharpness: `[..., n]`, mean local deviation of luma in levels.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, or a smaller image.
    """
    features, valid, sharpness = _patches(image)
    return jnp.where(valid[..., None], features, jnp.nan), sharpness


def _patches(image) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Features with any number for flat patches, which patches are not flat, and sharpness."""
    luma = _levels(image, PATCH, "NIQE")
    rows, columns = (side // PATCH for side in luma.shape[-2:])
    luma = luma[..., : rows * PATCH, : columns * PATCH]
    features, valid, sharpness = [], True, None
    for side in (PATCH, PATCH // 2):
        luma = luma if side == PATCH else _half(luma)
        field, deviation = (_split(plane, side) for plane in _normalised(luma, "edge"))
        sharpness = jnp.mean(deviation, axis=(-2, -1)) if side == PATCH else sharpness
        (shape, _, left, right), told = _asymmetric(field, width=True)
        neighbours, also = _neighbours(field, width=True)
        features += [jnp.stack([shape, (left + right) / 2], axis=-1), neighbours]
        valid &= told & also
    return jnp.concatenate(features, axis=-1), valid, sharpness


def niqe(image: jax.Array, model: NiqeModel | None = None) -> jax.Array:
    """Distance of an image's patches from natural ones; lower is more natural.

    Noise, blur and blocks raise it; so does anything that is unlike the images of the model.
    Flat patches are left out. Fewer than some ten patches make it unsteady.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3, at least 96 x 96.
      model: from `niqe_model` or `load_niqe`; None is the one that comes with lle_jax, whose
        values are not those of the published model.

    Returns:
      `[...]`, 0 or more; NaN where all patches are flat.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, or a smaller image.
    """
    model = _shipped_niqe() if model is None else model
    features, valid, _ = _patches(image)
    # Natural patches have mean 0 and covariance 1 here, so that nothing is badly conditioned.
    white = jnp.einsum(
        "ij,...nj->...ni", model.whitening, features - model.mean, precision="highest"
    )
    weight = valid[..., None].astype(white.dtype)
    count = jnp.sum(weight, axis=-2)
    mean = jnp.sum(weight * white, axis=-2) / jnp.maximum(count, 1)
    centred = weight * (white - mean[..., None, :])
    spread = jnp.einsum("...ni,...nj->...ij", centred, centred, precision="highest")
    spread /= jnp.maximum(count - 1, 1)[..., None]
    pooled = (jnp.eye(FEATURES, dtype=white.dtype) + spread) / 2
    square = jnp.sum(mean * jnp.linalg.solve(pooled, mean[..., None])[..., 0], axis=-1)
    return jnp.where(count[..., 0] > 0, jnp.sqrt(square), jnp.nan)


def brisque(image: jax.Array, model: BrisqueModel | None = None) -> jax.Array:
    """Predicted loss of quality; lower is better.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3, at least 16 x 16.
      model: from `load_brisque`; None is the one that comes with lle_jax, which predicts
        100 (1 - SSIM) of images degraded by `lle_jax.degrade` and has not seen opinions of people.

    Returns:
      `[...]`, about 0 to 100; NaN where the image is flat.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, or a smaller image.
    """
    model = _shipped_brisque() if model is None else model
    scaled = 2 * (brisque_features(image) - model.low) / (model.high - model.low) - 1
    distance = jnp.sum((scaled[..., None, :] - model.vectors) ** 2, axis=-1)
    return jnp.sum(jnp.exp(-model.gamma * distance) * model.coefficients, axis=-1) - model.rho


def _levels(image, least: int, name: str) -> jax.Array:
    """Rounded luma `[..., H, W]` in levels of 0 to 255."""
    image = checks.image(image)
    height, width = image.shape[-3:-1]
    if min(height, width) < least:
        raise ValueError(f"image is {height}x{width} pixels; {name} needs at least {least}x{least}")
    image = image.astype(checks.compute_dtype(image))
    return 255 * select(image, "rounded_luma")[..., 0]


def _half(luma: jax.Array) -> jax.Array:
    """Half the size of `[..., H, W]`, sides rounded up; as `imresize(luma, 0.5)` of MATLAB."""
    for axis in (-2, -1):
        size = luma.shape[axis]
        pad = [(0, 0)] * luma.ndim
        pad[axis] = (3, 4 + size % 2)
        padded = jnp.pad(luma, pad, mode="symmetric")
        count = (size + 1) // 2
        luma = sum(
            float(weight) * jax.lax.slice_in_dim(padded, k, k + 2 * count - 1, 2, axis)
            for k, weight in enumerate(_HALF)
        )
    return luma


def _normalised(luma: jax.Array, border: str) -> tuple[jax.Array, jax.Array]:
    """Mean-subtracted contrast-normalised coefficients and local deviations of `[..., H, W]`."""
    padded = jnp.pad(luma, [(0, 0)] * (luma.ndim - 2) + [(3, 3), (3, 3)], mode=border)
    # About a whole level near the mean: squares of levels stay exact, and little cancels.
    centre = jax.lax.stop_gradient(jnp.round(jnp.mean(luma, axis=(-2, -1), keepdims=True)))
    padded = padded - centre
    mean, square = filters.valid(jnp.stack([padded, padded**2])[..., None], _WINDOW)[..., 0]
    deviation = _sqrt(square - mean * mean)
    difference = luma - centre - mean
    # One level in one corner of the window gives 1.6e-4. Less is rounding, which would have a sign.
    difference = jnp.where(jnp.abs(difference) > 8e-5, difference, 0)
    return difference / (deviation + 1), deviation


def _sqrt(x: jax.Array) -> jax.Array:
    """Square root with gradient 0 at 0 and below, where it is 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def _split(plane: jax.Array, side: int) -> jax.Array:
    """`[..., H, W]` -> patches `[..., n, side, side]` by rows."""
    *batch, height, width = plane.shape
    plane = plane.reshape(*batch, height // side, side, width // side, side)
    return jnp.swapaxes(plane, -3, -2).reshape(*batch, -1, side, side)


def _symmetric(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Shape and variance of a generalised Gaussian that `[..., h, w]` is drawn from."""
    variance = jnp.mean(x * x, axis=(-2, -1))
    absolute = jnp.mean(jnp.abs(x), axis=(-2, -1))
    return _shape(absolute**2 / jnp.where(variance > 0, variance, 1))[0], variance


def _asymmetric(x: jax.Array, width: bool):
    """Asymmetric generalised Gaussian of `[..., h, w]`, by its moments.

    Args:
      x: `[..., h, w]`.
      width: return the widths of the two sides instead of their deviations.

    Returns:
      (shape, mean, left, right), each `[...]`, and whether there are samples on both sides; where
      not, the numbers are finite and mean nothing.
    """
    squares = x * x

    def side(chosen):
        count = jnp.sum(chosen, axis=(-2, -1))
        return jnp.sum(jnp.where(chosen, squares, 0), axis=(-2, -1)) / jnp.maximum(count, 1)

    left, right = side(x < 0), side(x > 0)
    valid = (left > 0) & (right > 0)
    left, right = (jnp.sqrt(jnp.where(valid, square, 1)) for square in (left, right))
    square = jnp.where(valid, jnp.mean(squares, axis=(-2, -1)), 1)
    skew = left / right
    ratio = jnp.mean(jnp.abs(x), axis=(-2, -1)) ** 2 / square
    shape, ratio = _shape(ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2)
    mean = (right - left) * jnp.sqrt(ratio)
    if width:
        log_gamma = jax.scipy.special.gammaln
        factor = jnp.exp((log_gamma(1 / shape) - log_gamma(3 / shape)) / 2)
        left, right = left * factor, right * factor
    return (shape, mean, left, right), valid


def _shape(ratio: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Shape of the generalised Gaussian of this ratio of moments, and the ratio in the table."""
    ratio = jnp.clip(ratio, _RATIOS[0], _RATIOS[-1])
    table = (jnp.asarray(values, ratio.dtype) for values in (_RATIOS, _SHAPES))
    return jnp.interp(ratio, *table), ratio


def _neighbours(field: jax.Array, width: bool) -> tuple[jax.Array, jax.Array]:
    """`[..., 16]`: features of the products of `[..., h, w]` with its neighbours; if known."""
    moved = [jnp.roll(field, shift, axis=(-2, -1)) for shift in _SHIFTS]
    products = jnp.stack([field * other for other in moved], axis=-3)
    (shape, mean, left, right), told = _asymmetric(products, width)
    sides = (left, right) if width else (left**2, right**2)
    features = jnp.stack([shape, mean, *sides], axis=-1)
    return features.reshape(*features.shape[:-2], 16), jnp.all(told, axis=-1)


def niqe_model(mean, covariance) -> NiqeModel:
    """The model of natural patches with these features' mean `[36]` and covariance `[36, 36]`.

    Calculated in float64 with NumPy.

    Raises:
      ValueError: on another shape, or a covariance that is not positive definite.
    """
    mean, covariance = (np.asarray(array, np.float64) for array in (mean, covariance))
    if mean.shape != (FEATURES,) or covariance.shape != (FEATURES, FEATURES):
        raise ValueError(
            f"mean and covariance have shapes {mean.shape} and {covariance.shape}; "
            f"expected ({FEATURES},) and ({FEATURES}, {FEATURES})"
        )
    # by eigenvectors of the correlation: the features' scales differ by orders of magnitude
    deviation = np.sqrt(np.maximum(np.diag(covariance), 0))
    if np.isfinite(mean).all() and np.isfinite(covariance).all() and (deviation > 0).all():
        values, vectors = np.linalg.eigh(covariance / np.outer(deviation, deviation))
        if values[0] > 1e-10:
            whitening = vectors.T / np.sqrt(values)[:, None] / deviation
            return NiqeModel(jnp.asarray(mean, jnp.float32), jnp.asarray(whitening, jnp.float32))
    raise ValueError("covariance is not positive definite; train on more patches")


def load_niqe(path: str | Path) -> NiqeModel:
    """Reads a model: .npz with mean and covariance, or the authors' .mat.

    Args:
      path: .npz of `mean` and `covariance`, or a MATLAB file of `mu_prisparam` and
        `cov_prisparam`.

    Raises:
      NaturalnessError: if the file is missing, damaged or lacks an array.
    """
    path = Path(path)
    names = ("mean", "covariance")
    if path.suffix == ".mat":
        names = ("mu_prisparam", "cov_prisparam")
        data = _read(path)
        try:
            arrays = scipy.io.loadmat(io.BytesIO(data), variable_names=names)
        except (ValueError, TypeError, NotImplementedError, KeyError, OSError) as error:
            raise NaturalnessError(f"{path}: not a MATLAB file ({error}); copy it again") from None
    else:
        arrays = _archive(path)
    mean, covariance = (_array(path, arrays, name) for name in names)
    try:
        return niqe_model(mean.reshape(-1), covariance)
    except ValueError as error:
        raise NaturalnessError(f"{path}: {error}") from None


def load_brisque(path: str | Path, ranges: str | Path | None = None) -> BrisqueModel:
    """Reads a model: .npz of the fields of `BrisqueModel`, or the authors' libsvm text files.

    Args:
      path: .npz, or libsvm's text of a regression with a Gaussian kernel (the authors' `allmodel`).
      ranges: with text, libsvm's file of scaling (the authors' `allrange`).

    Raises:
      NaturalnessError: if a file is missing, damaged, of another kind of machine, or scales other
        than 36 features to other than [-1, 1].
    """
    path = Path(path)
    if path.suffix == ".npz":
        if ranges is not None:
            raise NaturalnessError(f"{path}: an .npz holds its ranges; leave out {ranges}")
        arrays = _archive(path)
        values = [_array(path, arrays, name) for name in BrisqueModel._fields]
        n = values[3].size
        shapes = [(FEATURES,), (FEATURES,), (n, FEATURES), (n,), (), ()]
    else:
        if ranges is None:
            raise NaturalnessError(f"{path}: text needs the file of ranges too, such as allrange")
        values = [*_ranges(Path(ranges)), *_machine(path)]
        shapes = [value.shape for value in values]
    for name, value, shape in zip(BrisqueModel._fields, values, shapes, strict=True):
        if value.shape != shape or not np.isfinite(value).all():
            raise NaturalnessError(f"{path}: {name} is {value.shape}, expected finite {shape}")
    if not (values[0] < values[1]).all():
        raise NaturalnessError(f"{path}: a feature's range is empty; train again")
    return BrisqueModel(*(jnp.asarray(value, jnp.float32) for value in values))


def _machine(path: Path) -> tuple[np.ndarray, ...]:
    """Vectors, coefficients, gamma and rho of libsvm's text file."""
    head, mark, body = _text(path).partition("\nSV\n")
    try:
        fields = dict(line.split(maxsplit=1) for line in head.splitlines())
        kinds = fields["svm_type"], fields["kernel_type"]
        gamma, rho, count = float(fields["gamma"]), float(fields["rho"]), int(fields["total_sv"])
        rows = [line.split() for line in body.splitlines()]
        vectors = np.zeros((len(rows), FEATURES))
        coefficients = np.array([float(row[0]) for row in rows])
        for vector, row in zip(vectors, rows, strict=True):
            for item in row[1:]:  # what is 0 may be left out
                index, value = item.split(":")
                if not 1 <= int(index) <= FEATURES:
                    raise ValueError(f"feature {index} of {FEATURES}")
                vector[int(index) - 1] = float(value)
    except KeyError as error:
        raise NaturalnessError(f"{path}: not a model of libsvm, it lacks {error}") from None
    except ValueError as error:
        raise NaturalnessError(f"{path}: not a model of libsvm ({error})") from None
    if not mark:
        raise NaturalnessError(f"{path}: not a model of libsvm, it has no vectors (SV)")
    if kinds not in (("epsilon_svr", "rbf"), ("nu_svr", "rbf")):
        raise NaturalnessError(f"{path}: a {' '.join(kinds)} machine; expected epsilon_svr rbf")
    if count != len(rows):
        raise NaturalnessError(f"{path}: {len(rows)} of {count} vectors are there; copy it again")
    return vectors, coefficients, np.asarray(gamma), np.asarray(rho)


def _ranges(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Lows and highs of libsvm's file of scaling."""
    try:
        lines = [line.split() for line in _text(path).splitlines()]
        if lines[0] != ["x"] or [float(value) for value in lines[1]] != [-1, 1]:
            raise ValueError("it does not scale to -1 1")
        rows = {int(index): (float(low), float(high)) for index, low, high in lines[2:]}
        if sorted(rows) != list(range(1, FEATURES + 1)):
            raise ValueError(f"{len(rows)} features, expected {FEATURES}")
    except (ValueError, IndexError) as error:
        raise NaturalnessError(f"{path}: not a file of ranges of libsvm ({error})") from None
    low, high = np.array([rows[index] for index in sorted(rows)]).T
    return low, high


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NaturalnessError(f"{path}: {error.strerror}; give the path of a model") from None


def _text(path: Path) -> str:
    try:
        return _read(path).decode().replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise NaturalnessError(f"{path}: not text; expected a file of libsvm") from None


def _archive(path: Path) -> dict[str, np.ndarray]:
    data = _read(path)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return dict(archive)
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise NaturalnessError(f"{path}: not an archive of arrays ({error})") from None


def _array(path: Path, arrays, name: str) -> np.ndarray:
    if name not in arrays:
        raise NaturalnessError(f"{path}: it lacks {name}")
    array = np.asarray(arrays[name])
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise NaturalnessError(f"{path}: {name} has dtype {array.dtype}, expected numbers")
    return array.astype(np.float64)


@functools.cache
def _shipped_niqe() -> NiqeModel:
    with jax.ensure_compile_time_eval():  # cached as numbers even if first asked for under jit
        return load_niqe(FOLDER / "niqe.npz")


@functools.cache
def _shipped_brisque() -> BrisqueModel:
    with jax.ensure_compile_time_eval():
        return load_brisque(FOLDER / "brisque.npz")
