"""A veil of stray light, even over the image, and how it is taken off.

Veiling glare keeps the luminance of an image (`degrade.veiling_glare`), and so does its removal:
what is left becomes brighter by as much as the veil was of the light.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lle_jax import colour

# Shares of the light: a smaller veil is left, since it may be none, a larger one is taken off.
LEFT, TAKEN = 0.15, 0.3


class Veil(NamedTuple):
    """What is taken off.

    Attributes:
      light: linear light in [0, 1], `[B, 1, 1, 3]`.
      share: of the luminance of the image (ITU-R BT.709), in [0, 1), `[B, 1, 1, 1]`.
    """

    light: jax.Array
    share: jax.Array


def measure(light: jax.Array, cells: jax.Array) -> Veil:
    """Relates a veil to the image.

    Args:
      light: of the veil, `[B, 1, 1, 3]`, no more than that of the darkest cell.
      cells: of `grid.cell_means`, `[B, CELLS, CELLS, 6]`.
    """
    whole = colour.srgb_to_linear(cells[..., :3])
    whole = jnp.mean(whole, axis=(1, 2), keepdims=True)
    luminance = colour.luma(whole, colour.BT709)
    return Veil(light, colour.luma(light, colour.BT709) / jnp.maximum(luminance, 1e-6))


def certain(veil: Veil) -> Veil:
    """Leaves out what may be none, without a cliff."""
    part = jnp.clip((veil.share - LEFT) / (TAKEN - LEFT), 0, 1)
    part = part * part * (3 - 2 * part)
    return Veil(veil.light * part, veil.share * part)


def lift(image: jax.Array, veil: Veil) -> jax.Array:
    """Takes a veil off display values `[B, H, W, 3]` in [0, 1].

    Where there is none, the image is unchanged bit for bit.
    """
    left = (colour.srgb_to_linear(image) - veil.light) / jnp.maximum(1 - veil.share, 0.02)
    return jnp.where(veil.share > 0, colour.linear_to_srgb(jnp.clip(left, 0, 1)), image)


def lift_cells(cells: jax.Array, veil: Veil) -> jax.Array:
    """Takes a veil off `grid.cell_means`, `[B, CELLS, CELLS, 6]`: of the noise, to first order."""
    brightness, noise = jnp.split(cells, 2, axis=-1)
    brightness, noise = jax.jvp(lambda x: lift(x, veil), (brightness,), (noise,))
    return jnp.concatenate([brightness, noise], axis=-1)
