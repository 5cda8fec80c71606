"""A network of two paths: brightness and contrast from the whole image, noise from nearby pixels.

How dark an image is, how its light falls off and how noisy it is are questions about the whole; a
small network answers them from a thumbnail, as smooth curves and a vector (the layout of Gharbi et
al., SIGGRAPH 2017, arXiv:1707.02880, without the bilateral guide). What a pixel's noise-free value
is depends on its surroundings; a multiscale network of NAFBlocks (Chen et al., ECCV 2022) answers
it at half resolution, steered by that vector. Everything global passes through `context`, so that
an image of any size can be restored tile by tile without seams.
"""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lle_jax import colour
from lle_jax.models import grid, layers, thumbnail_paths
from lle_jax.models import veil as veils
from lle_jax.models.nafnet import NAFBlock

GRID = grid.CELLS // 2  # the curves' side
VECTOR = 64
INITIAL_SCALE = 0.05  # the error expected before anything is learned
MAX_LOG_GAIN = 3.0  # a factor of 20, which in sRGB undoes an exposure of 1 / 1300
EXPOSURE_STEPS = 6  # of the secant method; 1 % of the wanted mean or less is left


class Context(NamedTuple):
    """All that is known of the whole image: it alone makes one tile differ from another.

    Attributes:
      curves: `[B, GRID, GRID, 9]`, for each channel log gain, bend and offset; see `brighten`.
      vector: `[B, 1, 1, VECTOR]`, steers the noise path.
      grey: `[B, 1, 1, 1]`, whether the channels are equal everywhere but for one tint.
      neutral: `[B, 1, 1, 3]`, factors of the pixels by which that tint goes; 1 without one.
      exposure: `[B, 1, 1, 1]`, the mean luma (ITU-R BT.601) in [0, 1] that the curves aim at.
      light: `[B, GRID, GRID, 3]`, log gains of the result's channels.
      veil: what is taken off the image first; None for a network that does not.
    """

    curves: jax.Array
    vector: jax.Array
    grey: jax.Array
    neutral: jax.Array
    exposure: jax.Array
    light: jax.Array
    veil: veils.Veil | None = None


class BrightnessPath(nnx.Module):
    """From the thumbnail's statistics to the curves and the vector."""

    def __init__(self, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.fine = layers.Conv3x3(6, 32, strides=2, **kwargs)
        self.fine_block = layers.ResidualBlock(32, **kwargs)
        self.coarse = layers.Conv3x3(32, VECTOR, strides=2, **kwargs)
        self.coarse_block = layers.ResidualBlock(VECTOR, **kwargs)
        self.vector = nnx.Linear(VECTOR, VECTOR, **kwargs)
        self.whole = nnx.Linear(VECTOR, 32, **kwargs)
        zero = nnx.initializers.zeros_init()
        self.curves = layers.Conv3x3(32, 9, kernel_init=zero, **kwargs)

    def __call__(self, statistics: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = self.fine_block(nnx.gelu(self.fine(statistics)))
        summary = self.coarse_block(nnx.gelu(self.coarse(x)))
        vector = nnx.gelu(self.vector(jnp.mean(summary, axis=(1, 2), keepdims=True)))
        curves = self.curves(nnx.gelu(x + self.whole(vector)))
        return curves.astype(jnp.float32), vector


class DualPath(nnx.Module):
    """Brightens by smooth curves, then removes the noise that this made visible.

    Args:
      widths: channels of the noise path's levels, from fine (half resolution) to coarse; each
        level halves the resolution.
      blocks: NAFBlocks of each level, before and again after the coarser ones.
      uncertainty: also predict the scale of the error's Laplace distribution.
      exposure_path: predict the brightness of the result by a path of its own, not by the curves.
      light_path: even out what is left of the light and its colour in the result.
      glare_path: take veiling glare off the image first.
      dtype: of the computation; parameters are float32.
      rngs: initialises the parameters.

    Attributes:
      multiple: tiles must start at multiples of this many pixels.
      reach: no pixel of `restore` depends on pixels of the tile farther away than this, along
        either axis.
    """

    def __init__(
        self,
        *,
        widths: tuple[int, ...],
        blocks: tuple[int, ...],
        uncertainty: bool = False,
        exposure_path: bool = False,
        light_path: bool = False,
        glare_path: bool = False,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        if not widths or len(widths) != len(blocks) or min(*widths, *blocks) < 1:
            raise ValueError(
                f"widths={tuple(widths)}, blocks={tuple(blocks)}; expected positive numbers, "
                "as many of both"
            )
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.dtype = dtype
        self.multiple = 2 ** len(widths)
        # every 3x3 convolution reaches one pixel of its level; folding, up to a whole block
        convolutions = sum(2 * n * 2 ** (level + 1) for level, n in enumerate(blocks))
        self.reach = 2 + convolutions + 2 + self.multiple - 1
        self.brightness = BrightnessPath(**kwargs)
        self.stem = layers.Conv3x3(4 * 6, widths[0], **kwargs)

        def stage(width: int, count: int) -> nnx.List:
            return nnx.List([NAFBlock(width, context=VECTOR, **kwargs) for _ in range(count)])

        coarser = list(itertools.pairwise(widths))
        self.encoder = nnx.List([stage(*level) for level in zip(widths, blocks, strict=True)])
        self.decoder = nnx.List([stage(*level) for level in zip(widths, blocks, strict=True)])
        self.down = nnx.List([nnx.Conv(a, b, (2, 2), strides=2, **kwargs) for a, b in coarser])
        self.up = nnx.List([nnx.Linear(b, 4 * a, **kwargs) for a, b in coarser])
        zero = nnx.initializers.zeros_init()
        self.head = layers.Conv3x3(widths[0], 4 * 6, kernel_init=zero, **kwargs)
        if uncertainty:
            self.log_scale = layers.Conv3x3(widths[0], 4, kernel_init=zero, **kwargs)
            # What the scale of grey images has more: they are calibrated by themselves.
            self.log_scale_grey = nnx.Param(jnp.zeros((1, 1, 1, 1), jnp.float32))
        self.exposure = thumbnail_paths.ExposurePath(**kwargs) if exposure_path else None
        self.light = thumbnail_paths.LightPath(**kwargs) if light_path else None
        self.glare = thumbnail_paths.GlarePath(**kwargs) if glare_path else None

    def __call__(self, image: jax.Array) -> jax.Array:
        """`[B, H, W, 3]` in [0, 1], any H and W -> the enhanced image, same shape, float32."""
        return self.restore(image, self.compute_context(image))

    def compute_context(self, image: jax.Array, exposure: jax.Array | float = jnp.nan) -> Context:
        """Computes what is global in `[B, H, W, 3]`, once for however many tiles.

        Args:
          image: in [0, 1].
          exposure: as in `finish_context`.
        """
        grey = colour.is_grey(image)
        return self.finish_context(grid.cell_means(image.astype(jnp.float32)), grey, exposure)

    def finish_context(
        self, cells: jax.Array, grey: jax.Array, exposure: jax.Array | float = jnp.nan
    ) -> Context:
        """Computes the context from the means of the cells, gathered in strips or at once.

        Args:
          cells: of `cell_means`, or the sum of `strip_means`, `[B, CELLS, CELLS, 6]`.
          grey: `[B, 1, 1, 1]`, whether all channels of an image are equal.
          exposure: the wanted mean luma in (0, 1), a number or `[B, 1, 1, 1]`; NaN where the
            network is to predict it.
        """
        cells, grey, neutral, veil = self.see(cells, grey)
        curves, vector = self.brightness(grid.statistics(cells).astype(self.dtype))
        if self.exposure is not None:
            exposure = jnp.where(jnp.isnan(exposure), self.exposure(cells), exposure)
        curves, exposure = expose(curves, cells[..., :3], exposure)
        light = jnp.zeros((*curves.shape[:-1], 3), jnp.float32)
        if self.light is not None:
            light = self.light(cells, thumbnail(curves, cells[..., :3]))
        return Context(curves, vector, grey, neutral, exposure, light, veil)

    def see(
        self, cells: jax.Array, grey: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array, veils.Veil | None]:
        """Takes veil and tint off the means of the cells, `[B, CELLS, CELLS, 6]`.

        Args:
          cells, grey: see `finish_context`.

        Returns:
          the cells, and of `Context` what was found: `grey`, `neutral` and `veil`.
        """
        veil = None
        if self.glare is not None:
            light = self.glare(cells)
            light = jnp.where(grey, jnp.mean(light, axis=-1, keepdims=True), light)
            veil = veils.certain(veils.measure(light, cells))
            cells = veils.lift_cells(cells, veil)
        tinted, neutral = colour.grey_under_tint(cells[..., :3])
        neutral = jnp.where(grey, 1.0, neutral)
        return cells * jnp.tile(neutral, 2), grey | tinted, neutral, veil

    def restore(
        self,
        tile: jax.Array,
        context: Context,
        corner: tuple[int, int] = (0, 0),
        size: tuple[int, int] | None = None,
    ) -> jax.Array:
        """Restores a tile of the image that `context` was computed from.

        Args:
          tile: `[B, h, w, 3]` in [0, 1]. It may reach beyond the image: what is beyond the last
            `multiple` of pixels has no effect, so that images of many sizes share one shape.
          context: from `compute_context`.
          corner: the tile's first row and column in the image, multiples of `multiple`; may be
            traced, so that all tiles of one shape share one program.
          size: height and width of the image, may be traced; None takes the tile's.

        Returns:
          The enhanced tile, float32; what is more than `reach` pixels from the tile's edges (those
          that are not the image's) equals the same pixels of the whole image's result.
        """
        return self._restore(tile, context, corner, size)[0]

    def restore_with_scale(
        self,
        tile: jax.Array,
        context: Context,
        corner: tuple[int, int] = (0, 0),
        size: tuple[int, int] | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Restores a tile and predicts its uncertainty, `[B, h, w, 1]` > 0, in units of the image.

        The uncertainty is the scale of the error's Laplace distribution, or, calibrated, the
        half-width of a prediction interval (see `training.uncertainty`). No gradient goes from it
        to the rest of the network.
        """
        restored, x = self._restore(tile, context, corner, size)
        log = self.log_scale(jax.lax.stop_gradient(x))
        log = layers.depth_to_space(log.astype(jnp.float32), 2)
        log = log[:, : tile.shape[1], : tile.shape[2]]
        log = jnp.clip(log, -5, 3) + jnp.where(context.grey, self.log_scale_grey[...], 0)
        return restored, INITIAL_SCALE * jnp.exp(log)

    def _restore(self, tile, context, corner, size) -> tuple[jax.Array, jax.Array]:
        """The restored tile, and the noise path's features at half its resolution."""
        height, width = tile.shape[1:3]
        tile = unveiled(tile.astype(jnp.float32), context) * context.neutral
        tile = layers.pad_to_multiple(tile, self.multiple)
        inside = self._inside(corner, size)
        size = (height, width) if size is None else size
        bright = brighten(tile, curves_at(context.curves, tile.shape[1:3], corner, size))
        x = jnp.concatenate([tile, bright], axis=-1).astype(self.dtype)
        x = layers.masked(layers.space_to_depth(x, 2), inside[0])
        x = layers.masked(self._noise(self.stem(x), context.vector, inside), inside[0])
        # Starts as the brightened image; gains multiply as photon noise grows with the signal.
        gain, offset = jnp.split(
            layers.depth_to_space(self.head(x).astype(jnp.float32), 2), 2, axis=-1
        )
        restored = (bright * (1 + gain) + offset)[:, :height, :width]
        if self.light is not None:
            restored = relit(restored, context.light, corner, size)
        grey = jnp.mean(restored, axis=-1, keepdims=True)
        return jnp.where(context.grey, grey, restored), x

    def _inside(self, corner, size) -> list[tuple | None]:
        """How many rows and columns of each level are of the image; None: all."""
        if size is None:
            return [None] * len(self.encoder)
        rows, columns = (
            -(-whole // self.multiple) * self.multiple - first
            for first, whole in zip(corner, size, strict=True)
        )
        steps = [2 ** (level + 1) for level in range(len(self.encoder))]
        return [(rows // step, columns // step) for step in steps]

    def _noise(self, x: jax.Array, vector: jax.Array, inside: list) -> jax.Array:
        skips = []
        for level, stage in enumerate(self.encoder):
            x = self.down[level - 1](x) if level else x
            for block in stage:
                x = block(x, vector, inside[level])
            skips.append(x)
        for level, stage in reversed(list(enumerate(self.decoder))):
            if level < len(self.up):
                x = layers.depth_to_space(self.up[level](x), 2) + skips[level]
            for block in stage:
                x = block(x, vector, inside[level])
        return x


def curves_at(
    curves: jax.Array, shape: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]
) -> jax.Array:
    """Bilinear samples of the curves at a tile's pixels, `[B, h, w, 9]`."""
    rows, columns = (
        jnp.maximum(0, 1 - jnp.abs(position[:, None] - jnp.arange(GRID)))
        for position in (
            jnp.clip((first + jnp.arange(count) + 0.5) * GRID / whole - 0.5, 0, GRID - 1)
            for first, count, whole in zip(corner, shape, size, strict=True)
        )
    )
    return jnp.einsum("xj,byjc->byxc", columns, jnp.einsum("yi,bijc->byjc", rows, curves))


def brighten(image: jax.Array, curves: jax.Array) -> jax.Array:
    """Applies gain, bend and offset: v = exp(gain) * image, v + tanh(bend) v (1 - v) + offset.

    A change of exposure is nearly a factor in sRGB; the second term, of Zero-DCE (Guo et al., CVPR
    2020, arXiv:2001.06826, equation 1), bends without moving 0 and 1, as a gamma does. The gain is
    squashed to +-MAX_LOG_GAIN.
    """
    gain, bend, offset = jnp.split(curves, 3, axis=-1)
    image = image * jnp.exp(MAX_LOG_GAIN * jnp.tanh(gain / MAX_LOG_GAIN))
    return image + jnp.tanh(bend) * image * (1 - image) + offset


def expose(
    curves: jax.Array, cells: jax.Array, exposure: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
    """Moves the gains of the curves so that the brightened thumbnail has the wanted mean luma.

    Brightness cannot be known from a dark image: it is predicted, or told. The gains all move by
    the same number, so that the light's evenness stays what the network made it.

    Args:
      curves: `[B, GRID, GRID, 9]`, see `brighten`.
      cells: the mean colours of the cells, `[B, CELLS, CELLS, 3]`.
      exposure: the wanted mean luma in (0, 1), a number or `[B, 1, 1, 1]`; NaN leaves the curves.

    Returns:
      the curves, and the mean luma `[B, 1, 1, 1]` of the thumbnail that they brighten: the wanted
      one as far as `MAX_LOG_GAIN` lets it.
    """
    wanted = jnp.broadcast_to(jnp.asarray(exposure, jnp.float32), (cells.shape[0], 1, 1, 1))
    told = ~jnp.isnan(wanted)
    target = jnp.log(jnp.clip(jnp.where(told, wanted, 0.5), 1e-3, 1))
    gains = np.arange(9) < 3

    def mean_luma(shift: jax.Array) -> jax.Array:
        return colour.mean_luma(thumbnail(curves + shift * gains, cells))

    # Secant method for the logarithm of the mean: in proportion to the gain until pixels clip.
    shift, slope = jnp.zeros_like(wanted), jnp.ones_like(wanted)
    mean = mean_luma(shift)
    for _ in range(EXPOSURE_STEPS):
        step = (target - jnp.log(jnp.maximum(mean, 1e-3))) / slope
        moved = jnp.where(told, jnp.clip(shift + step, -4, 4), 0)
        reached = mean_luma(moved)
        rise = jnp.log(jnp.maximum(reached, 1e-3)) - jnp.log(jnp.maximum(mean, 1e-3))
        far = jnp.abs(moved - shift) > 1e-3
        secant = jnp.clip(rise / jnp.where(far, moved - shift, 1), 0.25, 2)
        slope = jax.lax.stop_gradient(jnp.where(far, secant, slope))
        shift, mean = moved, reached
    return curves + shift * gains, mean


def unveiled(image: jax.Array, context: Context) -> jax.Array:
    """Takes the veil off `[B, H, W, 3]`, and spends no time where none of the images has one."""
    if context.veil is None:
        return image
    lifted = jnp.any(context.veil.share > 0)
    return jax.lax.cond(lifted, veils.lift, lambda image, _: image, image, context.veil)


def thumbnail(curves: jax.Array, cells: jax.Array) -> jax.Array:
    """Brightens the mean colours of the cells, `[B, CELLS, CELLS, 3]` in [0, 1]."""
    side = (grid.CELLS, grid.CELLS)
    return jnp.clip(brighten(cells, curves_at(curves, side, (0, 0), side)), 0, 1)


def relit(
    tile: jax.Array,
    log_gain: jax.Array,
    corner: tuple[int, int] = (0, 0),
    size: tuple[int, int] | None = None,
) -> jax.Array:
    """Multiplies `[B, h, w, 3]` by the smooth gains whose logarithms are `[B, GRID, GRID, 3]`.

    `corner` and `size` are those of `DualPath.restore`.
    """
    _, height, width, _ = tile.shape
    shape = (height, width)
    return tile * jnp.exp(curves_at(log_gain, shape, corner, shape if size is None else size))
