"""Small networks that answer from a thumbnail what the two-path network leaves open.

They see `grid.cell_means` alone, and their answers are means over the eight orientations of a
square: no turn of an image changes them, and their errors partly cancel.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lle_jax import colour
from lle_jax.models import grid, layers

# How the names of their parameters begin in the network.
NAMES = EXPOSURE, LIGHT, GLARE = "exposure.", "light.", "glare."
TURNS = 8
LIMIT = 1.0  # of the logarithm of what the light path multiplies by
LOGITS = 4.0  # bounds those of the veil's part of the darkest cell, so that it can always change


class _Summary(nnx.Module):
    """From the thumbnail's statistics to a few numbers."""

    def __init__(self, outputs: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.fine = layers.Conv3x3(6, 32, strides=2, **kwargs)
        self.fine_block = layers.ResidualBlock(32, **kwargs)
        self.coarse = layers.Conv3x3(32, 64, strides=2, **kwargs)
        self.coarse_block = layers.ResidualBlock(64, **kwargs)
        self.summary = nnx.Linear(128, 64, **kwargs)
        self.output = nnx.Linear(64, outputs, kernel_init=nnx.initializers.zeros_init(), **kwargs)

    def _features(self, cells: jax.Array) -> jax.Array:
        x = grid.statistics(cells).astype(self.output.dtype)
        x = self.fine_block(nnx.gelu(self.fine(x)))
        x = self.coarse_block(nnx.gelu(self.coarse(x)))
        x = jnp.concatenate(
            [part(x, axis=(1, 2), keepdims=True) for part in (jnp.mean, jnp.max)], axis=-1
        )
        return nnx.gelu(self.summary(x))


class ExposurePath(_Summary):
    """From the thumbnail's statistics to the mean luma that the image would have in good light."""

    def __init__(self, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        super().__init__(1, dtype=dtype, rngs=rngs)
        # Of `training.exposure.calibrate` alone: the logit of whether an image is one of a clinic's
        # dark ones, and what the prediction lacks then. Nothing until that is called.
        zero = nnx.initializers.zeros_init()
        self.clinic = nnx.Linear(64, 2, kernel_init=zero, rngs=nnx.Rngs(0))

    def __call__(self, cells: jax.Array) -> jax.Array:
        """`[B, CELLS, CELLS, 6]` of `grid.cell_means` -> mean luma, `[B, 1, 1, 1]`."""
        # A mean over orientations of the answers, not of the features, became NaN at some sizes of
        # the batch where XLA for CPU knew the parameters, as it does in an exported network.
        features = self.features(cells)[:, None, None]
        known, lacking = jnp.split(self.clinic(features), 2, axis=-1)
        log_gain = self.output(features).astype(jnp.float32)
        log_gain += jax.lax.stop_gradient(nnx.sigmoid(known) * lacking)
        own = jnp.maximum(colour.mean_luma(cells[..., :3]), 1e-3)
        return own * jnp.exp(log_gain)

    def log_gain(self, cells: jax.Array) -> jax.Array:
        """Predicts the logarithm of the change of the mean luma from one orientation."""
        return self.output(self._features(cells)).astype(jnp.float32)

    def features(self, cells: jax.Array) -> jax.Array:
        """Of which `log_gain` is a line: their mean over the orientations, `[B, 64]`."""
        features = self._features(_turned(cells)).astype(jnp.float32)
        return jnp.mean(features.reshape(TURNS, -1, features.shape[-1]), axis=0)


class GlarePath(_Summary):
    """From the thumbnail's statistics to the light of a veil over the image."""

    def __init__(self, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        super().__init__(3, dtype=dtype, rngs=rngs)

    def __call__(self, cells: jax.Array) -> jax.Array:
        """`[B, CELLS, CELLS, 6]` of `grid.cell_means` -> linear light, `[B, 1, 1, 3]`."""
        logits = self._logits(_turned(cells)).reshape(TURNS, -1, 1, 1, 3)
        return _part_of_darkest(jnp.mean(logits, axis=0), cells)

    def veil(self, cells: jax.Array) -> jax.Array:
        """Predicts from one orientation."""
        return _part_of_darkest(self._logits(cells), cells)

    def _logits(self, cells: jax.Array) -> jax.Array:
        output = self.output(self._features(cells)).astype(jnp.float32)
        return LOGITS * jnp.tanh(output / LOGITS - 1)  # 0.05 before anything is learned


def _part_of_darkest(logits: jax.Array, cells: jax.Array) -> jax.Array:
    """Where it is dark anywhere, there is no veil: it has no more light than the darkest cell."""
    light = colour.srgb_to_linear(jnp.clip(cells[..., :3], 0, 1))
    return nnx.sigmoid(logits) * jnp.min(light, axis=(1, 2), keepdims=True)


class LightPath(nnx.Module):
    """From the thumbnail to what is still uneven, or of another colour, in the network's result.

    A U-Net of three levels: light falls off over the whole of an image, and its parts differ.
    """

    def __init__(self, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        fine, middle = 32, 64
        self.fine = layers.Conv3x3(9, fine, strides=2, **kwargs)
        self.fine_block = layers.ResidualBlock(fine, **kwargs)
        self.middle = layers.Conv3x3(fine, middle, strides=2, **kwargs)
        self.middle_block = layers.ResidualBlock(middle, **kwargs)
        self.coarse = layers.Conv3x3(middle, middle, strides=2, **kwargs)
        self.coarse_block = layers.ResidualBlock(middle, **kwargs)
        self.summary = nnx.Linear(2 * middle, middle, **kwargs)
        self.whole = nnx.Linear(middle, middle, **kwargs)
        self.to_middle = nnx.Linear(middle, middle, **kwargs)
        self.middle_out = layers.ResidualBlock(middle, **kwargs)
        self.to_fine = nnx.Linear(middle, fine, **kwargs)
        self.fine_out = layers.ResidualBlock(fine, **kwargs)
        zero = nnx.initializers.zeros_init()
        self.output = layers.Conv3x3(fine, 3, kernel_init=zero, **kwargs)

    def __call__(self, cells: jax.Array, bright: jax.Array) -> jax.Array:
        """Predicts log gains of the result's channels, `[B, CELLS / 2, CELLS / 2, 3]`.

        Args:
          cells: of `grid.cell_means`, `[B, CELLS, CELLS, 6]`.
          bright: their colours as the curves brighten them, `[B, CELLS, CELLS, 3]` in [0, 1].
        """
        log_gain = self.log_gain(_turned(cells), _turned(bright))
        log_gain = log_gain.reshape(TURNS, -1, *log_gain.shape[1:])
        back = [turn_back(each, number) for number, each in enumerate(log_gain)]
        return jnp.mean(jnp.stack(back), axis=0)

    def log_gain(self, cells: jax.Array, bright: jax.Array) -> jax.Array:
        """Predicts from one orientation."""
        x = jnp.concatenate([grid.statistics(cells), grid.log_brightness(bright)], axis=-1)
        fine = self.fine_block(nnx.gelu(self.fine(x.astype(self.output.dtype))))
        middle = self.middle_block(nnx.gelu(self.middle(fine)))
        x = self.coarse_block(nnx.gelu(self.coarse(middle)))
        parts = [part(x, axis=(1, 2), keepdims=True) for part in (jnp.mean, jnp.max)]
        summary = nnx.gelu(self.summary(jnp.concatenate(parts, axis=-1)))
        x = nnx.gelu(x + self.whole(summary))
        x = self.middle_out(nnx.gelu(middle + self.to_middle(_twice(x))))
        x = self.fine_out(nnx.gelu(fine + self.to_fine(_twice(x))))
        return LIMIT * jnp.tanh(self.output(x).astype(jnp.float32) / LIMIT)


def _twice(x: jax.Array) -> jax.Array:
    shape = (x.shape[0], 2 * x.shape[1], 2 * x.shape[2], x.shape[3])
    return jax.image.resize(x, shape, "bilinear")


def turn(cells: jax.Array, number: int) -> jax.Array:
    """Puts a square `[..., N, N, C]` into one of its eight orientations."""
    cells = jnp.rot90(cells, number % 4, axes=(-3, -2))
    return cells[..., ::-1, :] if number >= 4 else cells


def turn_back(cells: jax.Array, number: int) -> jax.Array:
    """Inverts `turn`."""
    cells = cells[..., ::-1, :] if number >= 4 else cells
    return jnp.rot90(cells, -(number % 4), axes=(-3, -2))


def _turned(cells: jax.Array) -> jax.Array:
    """All orientations of `[B, N, N, C]`, one after the other, `[TURNS * B, N, N, C]`."""
    return jnp.concatenate([turn(cells, number) for number in range(TURNS)])
