"""Layers shared by the networks. Images are `[batch, height, width, channel]`."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

Conv3x3 = functools.partial(nnx.Conv, kernel_size=(3, 3), param_dtype=jnp.float32)


def space_to_depth(image: jax.Array, factor: int) -> jax.Array:
    """`[B, H, W, C]` -> `[B, H / f, W / f, f * f * C]`; H and W must be multiples of `factor`."""
    batch, height, width, channels = image.shape
    image = image.reshape(batch, height // factor, factor, width // factor, factor, channels)
    image = image.transpose(0, 1, 3, 2, 4, 5)
    return image.reshape(batch, height // factor, width // factor, factor * factor * channels)


def depth_to_space(image: jax.Array, factor: int) -> jax.Array:
    """The inverse of `space_to_depth`."""
    batch, height, width, channels = image.shape
    image = image.reshape(batch, height, width, factor, factor, channels // factor**2)
    image = image.transpose(0, 1, 3, 2, 4, 5)
    return image.reshape(batch, height * factor, width * factor, channels // factor**2)


def pad_to_multiple(image: jax.Array, multiple: int) -> jax.Array:
    """Extends height and width at the bottom and right to multiples, repeating the edge."""
    height, width = image.shape[1:3]
    padding = ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0))
    return jnp.pad(image, padding, mode="edge")


class GlobalContext(nnx.Module):
    """Scales and shifts every channel by a function of the image-wide means.

    How dark an image is as a whole cannot be seen through a convolution's window; this is
    feature-wise linear modulation (Perez et al., AAAI 2018, arXiv:1709.07871, eq. 2) conditioned
    on the globally averaged features.
    """

    def __init__(self, features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        kwargs = {"dtype": dtype, "param_dtype": jnp.float32, "rngs": rngs}
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
    """Two 3x3 convolutions and a global modulation, added to the input; no normalisation.

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
