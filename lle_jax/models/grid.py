"""A thumbnail of an image of any size: the means of brightness and noise in CELLS x CELLS cells."""

import jax
import jax.numpy as jnp
import numpy as np

CELLS = 32  # the thumbnail's side


def statistics(cells: jax.Array) -> jax.Array:
    """Takes the logarithms of brightness and noise, `[B, CELLS, CELLS, 6]` of `cell_means`."""
    brightness, noise = jnp.split(cells, 2, axis=-1)
    # offsets and scales bring both to about [-1, 1] from full light down to 1 %
    noise = jnp.log(noise + 1e-3) / 3 + 1.3
    return jnp.concatenate([log_brightness(brightness), noise], axis=-1)


def log_brightness(brightness: jax.Array) -> jax.Array:
    """Takes the logarithm of display values in [0, 1], to about [-1, 1]."""
    return jnp.log(brightness + 0.01) / 2 + 1


def cell_means(image: jax.Array) -> jax.Array:
    """Averages brightness and noise in CELLS x CELLS cells, `[B, CELLS, CELLS, 6]`.

    The noise of a cell is the mean magnitude of the diagonal difference of 2 x 2 pixels, in which
    planes and straight horizontal and vertical edges cancel. Both are means over the cell's area,
    so an image of any size, even a single pixel, has all cells.
    """
    padded = jnp.pad(image, ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge")
    below = padded[:, 1:] - padded[:, :-1]
    diagonal = jnp.abs(below[:, :, 1:] - below[:, :, :-1])
    values = jnp.concatenate([image, diagonal], axis=-1)
    rows, columns = (cell_weights(side, 0, side) for side in image.shape[1:3])
    values = jnp.einsum("yh,bhwc->bywc", rows, values)
    return jnp.einsum("xw,bywc->byxc", columns, values)


def strip_means(strip, last: bool, rows, columns, xp=np):
    """Computes what a strip `[n + 1, W, 3]`, or the last `[n, W, 3]`, adds to the cells' means.

    Args:
      strip: rows of the image and the one below them.
      last: the strip is the lowest, so there is none below.
      rows, columns: of `cell_weights`.
      xp: numpy, or jax.numpy to be traced.
    """
    padded = xp.pad(strip, ((0, int(last)), (0, 1), (0, 0)), mode="edge")
    below = padded[1:] - padded[:-1]
    values = xp.concatenate([padded[:-1, :-1], xp.abs(below[:, 1:] - below[:, :-1])], axis=-1)
    values = xp.tensordot(rows, values, 1)  # [CELLS, W, 6]
    return xp.tensordot(values, columns, ((1,), (1,))).swapaxes(1, 2)


def cell_weights(size: int, first: int, count: int, xp=np):
    """Computes the share of each of `count` pixels, from `first`, in each cell's mean.

    Returns:
      `[CELLS, count]` float32: each row averages the pixels that a cell covers, by covered length.
    """
    edges = xp.arange(CELLS + 1)[:, None] * size / CELLS
    pixel = first + xp.arange(count)
    covered = xp.minimum(edges[1:], pixel + 1) - xp.maximum(edges[:-1], pixel)
    return (xp.maximum(covered, 0) * CELLS / size).astype(np.float32)
