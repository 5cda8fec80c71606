"""Zero-DCE (Guo et al., CVPR 2020, arXiv:2001.06826): brightening curves learnt without pairs.

As published (width 32, 8 iterations): 79,416 parameters. Names of the parameters follow the public
checkpoints. It brightens and does not denoise; its losses are in lle_jax/training/zero_reference.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lle_jax.models import layers


class ZeroDCE(nnx.Module):
    """Predicts curves for every pixel by seven convolutions with symmetric skips (section 3.2).

    Args:
      width: channels.
      iterations: how often the quadratic curve is applied.
      dtype: of the computation; parameters are float32.
      rngs: initialises the parameters.
    """

    def __init__(self, *, width: int, iterations: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        if width < 1 or iterations < 1:
            raise ValueError(f"width={width}, iterations={iterations}; expected positive numbers")
        kwargs: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        self.dtype = dtype
        self.iterations = iterations
        self.e_conv1 = layers.Conv3x3(3, width, **kwargs)
        self.e_conv2 = layers.Conv3x3(width, width, **kwargs)
        self.e_conv3 = layers.Conv3x3(width, width, **kwargs)
        self.e_conv4 = layers.Conv3x3(width, width, **kwargs)
        self.e_conv5 = layers.Conv3x3(2 * width, width, **kwargs)
        self.e_conv6 = layers.Conv3x3(2 * width, width, **kwargs)
        small = nnx.initializers.normal(0.02)
        self.e_conv7 = layers.Conv3x3(2 * width, 3 * iterations, kernel_init=small, **kwargs)

    def __call__(self, image: jax.Array) -> jax.Array:
        """`[B, H, W, 3]` in [0, 1], any H and W -> the brightened image, same shape, float32."""
        return brighten(image, self.curves(image))

    def curves(self, image: jax.Array) -> jax.Array:
        """Predicts the curves' parameters in [-1, 1], `[B, H, W, 3 * iterations]`, float32."""
        x1 = nnx.relu(self.e_conv1(image.astype(self.dtype)))
        x2 = nnx.relu(self.e_conv2(x1))
        x3 = nnx.relu(self.e_conv3(x2))
        x4 = nnx.relu(self.e_conv4(x3))
        x5 = nnx.relu(self.e_conv5(jnp.concatenate([x3, x4], axis=-1)))
        x6 = nnx.relu(self.e_conv6(jnp.concatenate([x2, x5], axis=-1)))
        x = self.e_conv7(jnp.concatenate([x1, x6], axis=-1))
        return jnp.tanh(x.astype(jnp.float32))


def brighten(image: jax.Array, curves: jax.Array) -> jax.Array:
    """Iterates x <- x + a (x^2 - x) over the curves' triples.

    Equation 2 with the sign of `a` turned round, as in the public checkpoints; a < 0 brightens.
    """
    image = image.astype(jnp.float32)
    for curve in jnp.split(curves, curves.shape[-1] // 3, axis=-1):
        image = image + curve * (image**2 - image)
    return image
