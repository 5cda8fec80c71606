"""Defines layers shared by the networks. Images are `[batch, height, width, channel]`."""

import functools
import itertools
import operator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

Conv3x3 = functools.partial(nnx.Conv, kernel_size=(3, 3), param_dtype=jnp.float32)


def space_to_depth(image: jax.Array, factor: int) -> jax.Array:
    """Folds `[B, H, W, C]`, H and W multiples of f, to `[B, H / f, W / f, f * f * C]`."""
    batch, height, width, channels = image.shape
    image = image.reshape(batch, height // factor, factor, width // factor, factor, channels)
    image = image.transpose(0, 1, 3, 2, 4, 5)
    return image.reshape(batch, height // factor, width // factor, factor * factor * channels)


def depth_to_space(image: jax.Array, factor: int) -> jax.Array:
    """Inverts `space_to_depth`."""
    batch, height, width, channels = image.shape
    image = image.reshape(batch, height, width, factor, factor, channels // factor**2)
    image = image.transpose(0, 1, 3, 2, 4, 5)
    return image.reshape(batch, height * factor, width * factor, channels // factor**2)


def pad_to_multiple(image: jax.Array, multiple: int) -> jax.Array:
    """Extends height and width at the bottom and right to multiples, repeating the edge."""
    height, width = image.shape[1:3]
    padding = ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0))
    return jnp.pad(image, padding, mode="edge")


class DepthwiseConv(nnx.Module):
    """Convolves each channel with its own kernel of odd `size`, zeros outside the image.

    XLA's grouped convolution on CPU is many times slower than shifted multiply-adds (see
    benchmarks/depthwise.py); elsewhere the vendor's library does it. The choice is made per
    platform as the program is lowered.
    """

    def __init__(
        self,
        features: int,
        *,
        size: int = 3,
        use_bias: bool = True,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        initial = nnx.initializers.lecun_normal()  # fan-in size^2, as in nnx.Conv
        self.kernel = nnx.Param(initial(rngs.params(), (size, size, 1, features), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(features)) if use_bias else None
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        x = depthwise(x.astype(self.dtype), self.kernel[...].astype(self.dtype))
        return x if self.bias is None else x + self.bias[...].astype(self.dtype)


def depthwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Cross-correlates `[B, H, W, C]` with `[k, k, 1, C]`, k odd, as is fastest on the platform."""
    return jax.lax.platform_dependent(x, kernel, cpu=depthwise_shifted, default=depthwise_grouped)


def depthwise_grouped(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Computes `depthwise` as XLA's convolution with as many groups as channels."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


@jax.custom_vjp
def depthwise_shifted(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Computes `depthwise` as shifted multiply-adds, which XLA fuses into one pass."""
    height, width = x.shape[1:3]
    padded = _pad_zeros(x, kernel)
    taps = (padded[:, i : i + height, j : j + width] * kernel[i, j, 0] for i, j in _taps(kernel))
    return functools.reduce(operator.add, taps)


def _taps(kernel: jax.Array) -> list[tuple[int, int]]:
    return list(itertools.product(range(kernel.shape[0]), range(kernel.shape[1])))


def _pad_zeros(x: jax.Array, kernel: jax.Array) -> jax.Array:
    half = kernel.shape[0] // 2
    return jnp.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))


def _shifted_backward(saved, gradient: jax.Array):
    """The kernel's gradient is summed row by row: XLA's own reductions take 5 times as long (3x3).

    The accumulators are float32, for sums over whole images.
    """
    x, kernel = saved
    batch, height, width, channels = x.shape
    padded = _pad_zeros(x, kernel).astype(jnp.float32)
    rows, taps = kernel.shape[0], _taps(kernel)

    def add_row(row, sums):
        window = jax.lax.dynamic_slice_in_dim(padded, row, rows, axis=1)
        row_gradient = jax.lax.dynamic_index_in_dim(gradient, row, axis=1, keepdims=False)
        row_gradient = row_gradient.astype(jnp.float32)
        products = [window[:, i, j : j + width] * row_gradient for i, j in taps]
        return tuple(total + product for total, product in zip(sums, products, strict=True))

    zeros = jnp.zeros((batch, width, channels))
    sums = jax.lax.fori_loop(0, height, add_row, (zeros,) * len(taps))
    to_kernel = jnp.stack([jnp.sum(total, axis=(0, 1)) for total in sums])
    to_x = depthwise_shifted(gradient, kernel[::-1, ::-1])
    return to_x, to_kernel.reshape(kernel.shape).astype(kernel.dtype)


depthwise_shifted.defvjp(lambda x, k: (depthwise_shifted(x, k), (x, k)), _shifted_backward)


def unit_length(x: jax.Array) -> jax.Array:
    """Divides every channel `[B, N, ...]` by its L2 norm over the pixels (float32 sums)."""
    squares = jnp.sum(jnp.square(x.astype(jnp.float32)), axis=1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squares, 1e-24)).astype(x.dtype)


def masked(x: jax.Array, inside: tuple | None) -> jax.Array:
    """Sets `[B, H, W, C]` to 0 beyond `inside` rows and columns, as a convolution pads an image.

    The numbers may be traced; None leaves all as it is.
    """
    if inside is None:
        return x
    rows, columns = (jnp.arange(n) < m for n, m in zip(x.shape[1:3], inside, strict=True))
    return jnp.where((rows[:, None] & columns)[..., None], x, 0)


class GlobalContext(nnx.Module):
    """Scales and shifts every channel by a function of the image-wide means.

    How dark an image is as a whole cannot be seen through a convolution's window; this is
    feature-wise linear modulation (Perez et al., AAAI 2018, arXiv:1709.07871, eq. 2) conditioned
    on the globally averaged features.
    """

    def __init__(self, features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        kwargs: dict[str, Any] = {"dtype": dtype, "param_dtype": jnp.float32, "rngs": rngs}
        self.hidden = nnx.Linear(features, features, **kwargs)
        self.modulation = nnx.Linear(
            features, 2 * features, kernel_init=nnx.initializers.zeros_init(), **kwargs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        summary = jnp.mean(x, axis=(1, 2), keepdims=True)
        modulation = self.modulation(nnx.gelu(self.hidden(summary)))
        scale, shift = jnp.split(modulation, 2, axis=-1)
        return x * (1 + scale) + shift


class ResidualBlock(nnx.Module):
    """Adds two 3x3 convolutions and a global modulation to the input; no normalisation.

    Batch normalisation leaves artefacts in restoration (Lim et al., CVPRW 2017, arXiv:1707.02921,
    section 3.1), so the second convolution starts small instead.
    """

    def __init__(self, features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        small = nnx.initializers.variance_scaling(0.1, "fan_in", "truncated_normal")
        self.first = Conv3x3(features, features, dtype=dtype, rngs=rngs)
        self.context = GlobalContext(features, dtype=dtype, rngs=rngs)
        self.second = Conv3x3(features, features, dtype=dtype, kernel_init=small, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.second(self.context(nnx.gelu(self.first(x))))
