"""Consistency of an output, degraded again as its input was, with the input."""

from collections.abc import Mapping

import jax

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
    chain.group(parameters)
    noise = stages.noise_stages()
    kept = {k: v for k, v in parameters.items() if k.partition(".")[0] not in noise}
    again = chain.apply(jax.random.key(0), kept, output)  # the key decides nothing
    return metrics.psnr(again, low)
