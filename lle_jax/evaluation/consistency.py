"""Consistency of an output, degraded again as its input was, with the input."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from lle_jax import checks, metrics
from lle_jax.degrade import chain, stages


def redegradation_psnr(
    output: jax.Array, low: jax.Array, parameters: Mapping[str, jax.Array]
) -> jax.Array:
    """Computes the PSNR between the output, degraded again, and the low-light input.

    An output that is a possible truth returns the input when the known degradation is applied to
    it. The noise cannot be applied again, it would be another noise; so the stages of noise and
    impulses are skipped and all others (illumination, exposure, blur, white balance, gamma,
    quantisation, JPEG) applied as they were. The input's own noise remains and bounds the value, by
    the same for all methods: the bound is that of the truth itself, `redegradation_psnr(truth, low,
    parameters)`. Above it, the output has kept the noise. Detail that the degradation removes, or
    that the dark input hides, is not evaluated.

    Args:
      output: `[..., H, W, C]` in [0, 1].
      low: what it was made from, same shape.
      parameters: of `lle_jax.degrade.apply`, each a scalar or one per image.

    Returns:
      `[...]` in dB, higher is more consistent.

    Raises:
      ValueError: if an image is malformed, shapes differ, or a parameter is unknown, missing or out
        of range.
    """
    output, low = checks.image(output, "output"), checks.image(low, "low")
    checks.same_shape(output, low, ("output", "low"))
    return metrics.psnr(redegrade(output, parameters), low)


def redegrade(output: jax.Array, parameters: Mapping[str, jax.Array]) -> jax.Array:
    """Degrades an output as its input was, without noise and impulses.

    Those stages are made inactive instead of left out, so that the program that made the input
    serves again: to compile one takes seconds.

    Args:
      output: `[..., H, W, C]` in [0, 1].
      parameters: of `lle_jax.degrade.apply`, each a scalar or one per image.

    Returns:
      The degraded image, same shape.

    Raises:
      ValueError: if the image is malformed, or a parameter is unknown, missing or out of range.
    """
    noise = chain.group(parameters).keys() & stages.noise_stages()
    quiet = {f"{stage}.active": jnp.float32(0) for stage in noise}
    key = jax.random.key(0)  # decides nothing
    return chain.apply(key, {**parameters, **quiet}, output)
