"""FLOL+ (Benito et al., 2025, arXiv:2501.09718): brighten in the Fourier domain, then denoise.

As published (width 16, amplitude width 8): 94,518 parameters. Names of the parameters follow the
public checkpoints. The authors' code takes images of even height and width only; others are here
extended by repeating the edge.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lle_jax.models import layers

MULTIPLE = 8  # height and width of the spatial stage are multiples of it
_SMALL = 1e-4  # added to noise and to signal-to-noise ratio before a division


def _leaky(x: jax.Array) -> jax.Array:
    return nnx.leaky_relu(x, 0.1)


def _gate(x: jax.Array) -> jax.Array:
    first, second = jnp.split(x, 2, axis=-1)
    return first * second


class FrequencyBlock(nnx.Module):
    """Adds a Fourier transform whose magnitude and phase went through two layers each.

    All of it is float32: a phase jumps from pi to -pi and the layers do not know that these are
    the same, so that rounding would be magnified.
    """

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.fpre = nnx.Linear(width, width, rngs=rngs)
        self.process1 = nnx.List([nnx.Linear(width, width, rngs=rngs) for _ in range(2)])
        self.process2 = nnx.List([nnx.Linear(width, width, rngs=rngs) for _ in range(2)])

    def __call__(self, x: jax.Array) -> jax.Array:
        spectrum = jnp.fft.rfft2(self.fpre(x.astype(jnp.float32)), axes=(1, 2))
        real, imaginary = spectrum.real, spectrum.imag
        zero = (real == 0) & (imaginary == 0)  # which has no phase, and both no gradient
        real = jnp.where(zero, 1.0, real)
        magnitude = jnp.where(zero, 0.0, jnp.sqrt(real**2 + imaginary**2))
        phase = jnp.arctan2(imaginary, real)
        magnitude = self.process1[1](_leaky(self.process1[0](magnitude)))
        phase = self.process2[1](_leaky(self.process2[0](phase)))
        spectrum = jax.lax.complex(magnitude * jnp.cos(phase), magnitude * jnp.sin(phase))
        return x + jnp.fft.irfft2(spectrum, x.shape[1:3], axes=(1, 2)).astype(x.dtype)


class AmplitudeBlock(nnx.Module):
    """Mixes pixels, frequencies and channels, as a block of NAFNet does."""

    def __init__(self, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.dtype = dtype
        self.norm1 = nnx.LayerNorm(width, epsilon=1e-6, **kwargs)
        self.conv1 = nnx.Linear(width, 2 * width, **kwargs)
        self.conv2 = layers.DepthwiseConv(2 * width, **kwargs)
        self.sge = layers.DepthwiseConv(width, **kwargs)
        self.fatt = FrequencyBlock(width, rngs=rngs)
        self.conv3 = nnx.Linear(width, width, **kwargs)
        self.norm2 = nnx.LayerNorm(width, epsilon=1e-6, **kwargs)
        self.conv4 = nnx.Linear(width, 2 * width, **kwargs)
        self.conv5 = nnx.Linear(width, width, **kwargs)
        self.beta = nnx.Param(jnp.zeros(width))
        self.gamma = nnx.Param(jnp.zeros(width))

    def __call__(self, x: jax.Array) -> jax.Array:
        first, second = jnp.split(self.conv2(self.conv1(self.norm1(x))), 2, axis=-1)
        x = self.conv3(self.fatt(self.sge(first) * second))
        x = x + self.beta[...].astype(self.dtype) * x
        return x + self.gamma[...].astype(self.dtype) * self.conv5(_gate(self.conv4(self.norm2(x))))


class AmplitudeNet(nnx.Module):
    """Predicts, on an image of half the size, what the amplitudes are divided by, in (0, 1)."""

    def __init__(self, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.dtype = dtype
        self.conv_init = nnx.Linear(3, width, **kwargs)
        self.conv1 = AmplitudeBlock(width, **kwargs)
        self.conv2 = AmplitudeBlock(width, **kwargs)
        self.conv3 = AmplitudeBlock(width, **kwargs)
        self.conv_out = nnx.Linear(width, 3, **kwargs)

    def __call__(self, image: jax.Array) -> jax.Array:
        half = nnx.avg_pool(image, (2, 2), (2, 2))  # bilinear at half the size
        x = self.conv_init(half.astype(self.dtype))
        for block in (self.conv1, self.conv2, self.conv3):
            x = block(x)
        x = self.conv_out(x).astype(jnp.float32)
        return nnx.sigmoid(jax.image.resize(x, image.shape, "bilinear"))


class ResidualBlock(nnx.Module):
    """Adds two 3x3 convolutions to the input."""

    def __init__(self, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        small = nnx.initializers.variance_scaling(0.02, "fan_in", "normal")  # as published
        kwargs: dict[str, Any] = {"kernel_init": small, "dtype": dtype, "rngs": rngs}
        self.conv1 = layers.Conv3x3(width, width, **kwargs)
        self.conv2 = layers.Conv3x3(width, width, **kwargs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.conv2(nnx.relu(self.conv1(x)))


class ProcessBlock(nnx.Module):
    """Adds a frequency block and a linear layer to the input."""

    def __init__(self, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.frequency_process = FrequencyBlock(width, rngs=rngs)
        self.cat = nnx.Linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.cat(self.frequency_process(x))


def signal_to_noise(image: jax.Array) -> jax.Array:
    """Estimates the ratio of signal to noise, `[B, H, W, 1]` in [0, 1], 1 where it is largest.

    Noise is what a Gaussian filter of 5 taps and sigma 1.5 pixels takes away; as Xu et al.,
    "SNR-Aware Low-Light Image Enhancement", CVPR 2022.
    """
    taps = jnp.exp(-0.5 * (jnp.arange(-2.0, 3.0) / 1.5) ** 2)
    taps /= taps.sum()
    smooth = image
    for axis in (1, 2):
        widths = [(2, 2) if axis == other else (0, 0) for other in range(4)]
        padded = jnp.pad(smooth, widths, mode="reflect")
        size = image.shape[axis]
        smooth = sum(
            tap * jax.lax.slice_in_dim(padded, start, start + size, axis=axis)
            for start, tap in enumerate(taps)
        )
    luma, light = (x @ jnp.array([[0.299], [0.587], [0.114]]) for x in (image, smooth))
    ratio = light / (jnp.abs(luma - light) + _SMALL)
    largest = jnp.max(ratio, axis=(1, 2, 3), keepdims=True)
    return jnp.clip(ratio / (largest + _SMALL), 0, 1)


class FLOL(nnx.Module):
    """Divides the amplitudes of the image, then restores it by an encoder and a decoder.

    Args:
      width: channels of the spatial stage.
      amplitude_width: channels of the frequency stage.
      frequency_blocks: blocks that restore what is noisy.
      spatial_blocks: blocks that restore what is not.
      dtype: of the computation; parameters, and all Fourier transforms, are float32.
      rngs: initialises the parameters.
    """

    def __init__(
        self,
        *,
        width: int,
        amplitude_width: int,
        frequency_blocks: int,
        spatial_blocks: int,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        if min(width, amplitude_width, frequency_blocks, spatial_blocks) < 1:
            raise ValueError(
                f"width={width}, amplitude_width={amplitude_width}, frequency_blocks="
                f"{frequency_blocks}, spatial_blocks={spatial_blocks}; expected positive numbers"
            )
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        halve = kwargs | {"strides": 2, "padding": ((1, 1), (1, 1))}
        self.dtype = dtype
        self.amp_net = AmplitudeNet(amplitude_width, **kwargs)
        self.conv_first_1 = layers.Conv3x3(6, width, **kwargs)
        self.conv_first_2 = layers.Conv3x3(width, width, **halve)
        self.conv_first_3 = layers.Conv3x3(width, width, **halve)
        self.feature_extraction = ResidualBlock(width, **kwargs)
        self.transformer = nnx.List(
            [ProcessBlock(width, **kwargs) for _ in range(frequency_blocks)]
        )
        self.recon_trunk_light = nnx.List(
            [ResidualBlock(width, **kwargs) for _ in range(spatial_blocks)]
        )
        self.recon_trunk = ResidualBlock(width, **kwargs)
        self.upconv1 = layers.Conv3x3(2 * width, 4 * width, **kwargs)
        self.upconv2 = layers.Conv3x3(2 * width, 4 * width, **kwargs)
        self.HRconv = layers.Conv3x3(2 * width, width, **kwargs)
        small = nnx.initializers.normal(0.02)  # training starts near the identity
        self.conv_last = layers.Conv3x3(width, 3, kernel_init=small, **kwargs)

    def __call__(self, image: jax.Array) -> jax.Array:
        """`[B, H, W, 3]` in [0, 1], any H and W -> the enhanced image, same shape, float32."""
        height, width = image.shape[1:3]
        image = layers.pad_to_multiple(image.astype(jnp.float32), 2)
        spectrum = jnp.fft.fft2(image, axes=(1, 2)) / (self.amp_net(image) + 1e-8)
        bright = jnp.fft.ifft2(spectrum, axes=(1, 2)).real
        image, bright = (_reflect(x, MULTIPLE) for x in (image, bright))
        x1 = jnp.concatenate([bright, image], axis=-1).astype(self.dtype)
        x1 = _leaky(self.conv_first_1(x1))
        x2 = _leaky(self.conv_first_2(x1))
        x3 = _leaky(self.conv_first_3(x2))
        x = self._restore(x3, signal_to_noise(bright)[:, ::4, ::4].astype(self.dtype))
        x = jnp.concatenate([x, x3], axis=-1)
        for upconv, finer in ((self.upconv1, x2), (self.upconv2, x1)):
            x = _leaky(layers.depth_to_space(upconv(x), 2))
            x = jnp.concatenate([x, finer], axis=-1)
        change = self.conv_last(_leaky(self.HRconv(x))).astype(jnp.float32)
        return (image + change)[:, :height, :width]

    def _restore(self, x: jax.Array, clear: jax.Array) -> jax.Array:
        """Restores what is clear by its surroundings and what is noisy by all frequencies."""
        x = self.feature_extraction(x)
        near = far = x
        for block in self.recon_trunk_light:
            near = block(near)
        for process in self.transformer:
            far = process(far)
        return self.recon_trunk((x + far) * (1 - clear) + near * clear)


def _reflect(x: jax.Array, multiple: int) -> jax.Array:
    """Extends height and width at the bottom and right to multiples, reflected."""
    height, width = x.shape[1:3]
    padding = ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0))
    return jnp.pad(x, padding, mode="reflect")
