"""Loads the models of natural images that NIQE and BRISQUE need.

The bundled ones are trained by tools/train_naturalness.py and are not the published ones, which
`load_niqe` and `load_brisque` read from the authors' files.
"""

import functools
import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy

FOLDER = Path(__file__).resolve().parent / "weights"
FEATURES = 36


class NaturalnessError(ValueError):
    """Reports a model file that cannot be used and how to repair it."""


class NiqeModel(NamedTuple):
    """Holds the multivariate Gaussian of natural patches; make it with `niqe_model`.

    Attributes:
      mean: `[36]`.
      whitening: `[36, 36]`; its product with (features - mean) has covariance 1 on natural patches.
        Kept instead of the covariance, whose inverse float32 cannot hold.
    """

    mean: jax.Array
    whitening: jax.Array


class BrisqueModel(NamedTuple):
    """Holds a support vector regression with a Gaussian kernel, as libsvm's.

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


def niqe_model(mean, covariance) -> NiqeModel:
    """Makes a model of natural patches from their features' mean `[36]` and covariance `[36, 36]`.

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
    """Loads a NIQE model: .npz with mean and covariance, or the authors' .mat.

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
    """Loads a BRISQUE model: .npz of `BrisqueModel`'s fields, or the authors' libsvm text.

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
        raise NaturalnessError(f"{path}: {len(rows)} of {count} vectors are present; copy it again")
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
def bundled_niqe() -> NiqeModel:
    """Loads the NIQE model bundled with lle_jax."""
    with jax.ensure_compile_time_eval():  # cached as numbers even if first asked for under jit
        return load_niqe(FOLDER / "niqe.npz")


@functools.cache
def bundled_brisque() -> BrisqueModel:
    """Loads the BRISQUE model bundled with lle_jax."""
    with jax.ensure_compile_time_eval():
        return load_brisque(FOLDER / "brisque.npz")
