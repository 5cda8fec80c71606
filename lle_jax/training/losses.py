"""What training minimises. Each takes `[..., H, W, C]` pairs in [0, 1] and returns one scalar."""

import jax
import jax.numpy as jnp

from lle_jax import metrics


def charbonnier(image: jax.Array, target: jax.Array, *, epsilon: float = 1e-3) -> jax.Array:
    """Mean of sqrt(error^2 + epsilon^2), a differentiable L1 in units of the image.

    Charbonnier et al., ICIP 1994, doi:10.1109/ICIP.1994.413553; the form used for restoration by
    Lai et al., CVPR 2017, arXiv:1704.03915, section 3.2.
    """
    return jnp.mean(jnp.sqrt((image - target) ** 2 + epsilon**2))


def restoration(image: jax.Array, target: jax.Array, *, ssim_weight: float) -> jax.Array:
    """Charbonnier plus `ssim_weight` times (1 - SSIM)."""
    loss = charbonnier(image, target)
    if ssim_weight:
        loss += ssim_weight * (1 - jnp.mean(metrics.ssim(image, target)))
    return loss
