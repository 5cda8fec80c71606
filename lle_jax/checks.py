"""Checks the arguments of pure image functions.

Each raises a one-line `ValueError` that names the argument. Values that are being traced by jax
cannot be looked at, so range checks apply to concrete numbers only and cost nothing under jit.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np


class ConfigError(ValueError):
    """Reports a wrong field of the configuration, by name, and what is expected."""


class CheckpointError(ValueError):
    """A checkpoint is missing or does not fit; the message says what to change."""


def image(value, name: str = "image") -> jax.Array:
    """Returns `value` as an array after checking that it is a float image `[..., H, W, C]`.

    Raises:
      ValueError: if it has fewer than three axes, a channel count other than 1 or 3, an empty
        axis, or a dtype that is not floating point.
    """
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(
            f"{name} has dtype {array.dtype}; expected floating point in [0, 1] "
            "(divide 8-bit values by 255, 16-bit by 65535)"
        )
    image_shape(array.shape, name)
    return array


def image_shape(shape: tuple[int, ...], name: str = "image") -> None:
    """Raises ValueError unless `shape` is `[..., H, W, C]`, C 1 or 3, with no empty image."""
    if len(shape) < 3 or shape[-1] not in (1, 3):
        raise ValueError(
            f"{name} has shape {shape}; expected [..., height, width, channel] with 1 or 3 channels"
        )
    if 0 in shape[-3:]:
        raise ValueError(f"{name} has shape {shape}; height and width must not be zero")


def same_shape(first: jax.Array, second: jax.Array, names: tuple[str, str]) -> None:
    """Raises ValueError unless both arrays have the same shape (nothing is broadcast silently)."""
    if first.shape != second.shape:
        raise ValueError(
            f"{names[0]} has shape {first.shape} but {names[1]} has {second.shape}; "
            "they must be equal"
        )


def number(name: str, value, low: float = -math.inf, high: float = math.inf) -> None:
    """Raises ValueError when a concrete `value` is NaN or outside [low, high].

    Accepts Python numbers, NumPy and concrete jax arrays of any shape; traced values pass.
    """
    if isinstance(value, jax.core.Tracer):
        return
    values = np.asarray(value)
    if np.isnan(values).any():
        raise ValueError(f"{name} is NaN; expected a number{_interval(low, high)}")
    if (values < low).any() or (values > high).any():
        worst = values.min() if (values < low).any() else values.max()
        raise ValueError(f"{name} is {worst:g}; expected a number{_interval(low, high)}")


def _interval(low: float, high: float) -> str:
    if math.isinf(low) and math.isinf(high):
        return ""
    if math.isinf(high):
        return f" >= {low:g}"
    if math.isinf(low):
        return f" <= {high:g}"
    return f" in [{low:g}, {high:g}]"


def compute_dtype(array: jax.Array) -> jnp.dtype:
    """Returns the compute dtype: at least float32, float64 where the input is float64."""
    return jnp.promote_types(array.dtype, jnp.float32)


def per_image(name: str, value, image: jax.Array) -> jax.Array:
    """Shapes a parameter so that it multiplies an image: `[]` or `[...]` -> `[..., 1, 1, 1]`.

    Args:
      name: the parameter's name, for the error.
      value: one number for all images, or one per image with the image's leading batch shape.
      image: `[..., H, W, C]`.

    Raises:
      ValueError: if `value` is neither a scalar nor of the image's batch shape.
    """
    value = jnp.asarray(value, compute_dtype(image))
    if value.ndim == 0:
        return value
    if value.shape != image.shape[:-3]:
        raise ValueError(
            f"{name} has shape {value.shape}; expected a single number or one per image, "
            f"{image.shape[:-3]}"
        )
    return value[..., None, None, None]
