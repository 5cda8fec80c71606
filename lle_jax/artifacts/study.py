"""Computes the four naive measures of the published low-light study, and its severity table.

They are here to be compared with, not to be believed: each responds to the picture as much as to
its artifact, and in the dark most of all (docs/artifacts.md). All take the image's grey levels:
MATLAB's `rgb2gray` of the 8-bit image with the weights 0.2989, 0.5870, 0.1140, rounded to whole
levels, then divided by 255. Sums are taken over integers where they fit, so that float32 loses
nothing. Rounding has no useful derivative: all gradients are 0.
"""

import operator
import tomllib

import jax
import jax.numpy as jnp
import numpy as np

from lle_jax import checks, files

_CORNER = 50
_BLOCK = 8
_COMPARISONS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def grey_levels(image: jax.Array) -> jax.Array:
    """Computes MATLAB's `rgb2gray` of the 8-bit image: int32 `[..., H, W]`, halves rounded up.

    Raises:
      ValueError: if the image is not a float image.
    """
    image = checks.image(image)
    levels = jnp.round(jnp.clip(image.astype(checks.compute_dtype(image)), 0, 1) * 255)
    levels = levels.astype(jnp.int32)
    if image.shape[-1] == 1:
        return levels[..., 0]
    weighted = jnp.sum(levels * np.array([2989, 5870, 1140], np.int32), axis=-1, dtype=jnp.int32)
    return (weighted + 5000) // 10000


def gaussian_noise_variance(image: jax.Array) -> jax.Array:
    """Computes the sample variance (n - 1) of the grey values of the top-left 50 x 50 pixels.

    Args:
      image: `[..., H, W, C]` in [0, 1], C = 1 or 3, at least 50 x 50.

    Returns:
      `[...]` in squared units of the image.

    Raises:
      ValueError: if the image is malformed or smaller.
    """
    grey = grey_levels(image)
    _at_least(grey, _CORNER)
    corner = grey[..., :_CORNER, :_CORNER].astype(_dtype(image))
    return jnp.var(corner, axis=(-2, -1), ddof=1) / 255**2


def salt_and_pepper_ratio(image: jax.Array) -> jax.Array:
    """Computes the fraction of pixels with a grey value > 0.95 or < 0.05: `[...]` in [0, 1].

    Args:
      image: `[..., H, W, C]` in [0, 1], C = 1 or 3.

    Raises:
      ValueError: if the image is malformed.
    """
    grey = grey_levels(image)
    # 0.95 * 255 = 242.25 and 0.05 * 255 = 12.75
    extreme = jnp.sum((grey >= 243) | (grey <= 12), axis=(-2, -1), dtype=jnp.int32)
    return extreme.astype(_dtype(image)) / (grey.shape[-2] * grey.shape[-1])


def blur_metric(image: jax.Array) -> jax.Array:
    """Computes the mean absolute response to `fspecial('laplacian', 0.2)`, borders replicated.

    The kernel is [1 4 1; 4 -20 4; 1 4 1] / 6. Less is blurrier, flatter or darker.

    Args:
      image: `[..., H, W, C]` in [0, 1], C = 1 or 3.

    Returns:
      `[...]` in units of the image.

    Raises:
      ValueError: if the image is malformed.
    """
    grey = grey_levels(image)
    padded = jnp.pad(grey, [(0, 0)] * (grey.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
    rows = padded[..., :-2, :] + padded[..., 2:, :]
    middle = padded[..., 1:-1, :]
    sides = rows + 4 * middle
    response = sides[..., :-2] + sides[..., 2:] + 4 * rows[..., 1:-1] - 20 * middle[..., 1:-1]
    by_row = jnp.sum(jnp.abs(response), axis=-1, dtype=jnp.int32).astype(_dtype(image))
    return jnp.mean(by_row, axis=-1) / (6 * 255 * grey.shape[-1])


def jpeg_artifact_metric(image: jax.Array) -> jax.Array:
    """Averages the sample variances (n - 1) of the whole 8 x 8 blocks of grey values.

    Args:
      image: `[..., H, W, C]` in [0, 1], C = 1 or 3, at least 8 x 8.

    Returns:
      `[...]` in squared units of the image.

    Raises:
      ValueError: if the image is malformed or smaller.
    """
    grey = grey_levels(image)
    _at_least(grey, _BLOCK)
    rows, columns = (side // _BLOCK for side in grey.shape[-2:])
    blocks = grey[..., : rows * _BLOCK, : columns * _BLOCK]
    blocks = blocks.reshape(*grey.shape[:-2], rows, _BLOCK, columns, _BLOCK)
    total = jnp.sum(blocks, axis=(-3, -1), dtype=jnp.int32)
    squares = jnp.sum(blocks**2, axis=(-3, -1), dtype=jnp.int32)
    variance = (_BLOCK**2 * squares - total**2).astype(_dtype(image))
    return jnp.mean(variance, axis=(-2, -1)) / (_BLOCK**2 * (_BLOCK**2 - 1) * 255**2)


MEASURES = {
    measure.__name__: measure
    for measure in (
        gaussian_noise_variance,
        salt_and_pepper_ratio,
        blur_metric,
        jpeg_artifact_metric,
    )
}


def measure(image: jax.Array) -> dict[str, jax.Array]:
    """Computes all four measures by name, `[...]` each; takes and raises what they do."""
    return {name: function(image) for name, function in MEASURES.items()}


def thresholds() -> dict[str, dict]:
    """Reads the severity table, `configs/artifacts/study_severity.toml`."""
    text = (files.configs() / "artifacts" / "study_severity.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def severity(measures: dict[str, jax.Array]) -> dict[str, np.ndarray]:
    """Classifies measures by the study's severity table; on the host, not under jit.

    Args:
      measures: concrete values of the four measures by name, `[...]` each, as `measure` returns.

    Returns:
      for each row of the table an array `[...]` of "weak", "moderate" or "strong".

    Raises:
      ValueError: naming the measure that is missing or NaN.
    """
    result = {}
    for artifact, row in thresholds().items():
        if row["measure"] not in measures:
            raise ValueError(f"measures lacks {row['measure']}; pass the result of study.measure")
        checks.number(row["measure"], measures[row["measure"]])
        value = np.asarray(measures[row["measure"]]) * row["scale"]
        weak, strong = (
            _COMPARISONS[sign](value, limit) for sign, limit in (row["weak"], row["strong"])
        )
        result[artifact] = np.select([weak, strong], ["weak", "strong"], "moderate")
    return result


def _dtype(image) -> jnp.dtype:
    return checks.compute_dtype(jnp.asarray(image))


def _at_least(grey: jax.Array, side: int) -> None:
    if min(grey.shape[-2:]) < side:
        raise ValueError(
            f"image is {grey.shape[-2]} x {grey.shape[-1]} pixels; this measure needs at least "
            f"{side} x {side}"
        )
