"""Veiling glare: light that lens, cornea or smoke scatter evenly over the image."""

import jax
import jax.numpy as jnp
import numpy as np

from lle_jax import checks, colour


def veiling_glare(
    image: jax.Array, *, share: jax.Array | float, white: jax.Array | float = 0.0
) -> jax.Array:
    """Spreads a share of the light evenly over the image, which keeps its mean luminance.

    (1 - share) * image + share * veil. The veil has the image's mean colour, as stray light of a
    lens has; with `white`, as much as that, the lamp's, of the same luminance (ITU-R BT.709), as
    smoke before a red tissue has. A veil of constant light is the model of haze, too (Narasimhan
    and Nayar, IJCV 48, 2002, equation 11, at one depth), and `share` then 1 less the transmission.

    Args:
      image: `[..., H, W, C]` in [0, 1]; linear light, for what optics do.
      share: of the light in the veil, in [0, 1), one number or one per image. ISO 9358 calls the
        light of a black spot in an evenly white field, relative to that of the field, the veiling
        glare index; it is the share.
      white: from 0 to 1, one number or one per image.

    Returns:
      The image with less contrast; at share 0 the image bit for bit.

    Raises:
      ValueError: for a malformed image, or a number outside its range.
    """
    image = checks.image(image)
    checks.number("share", share, 0, 1)
    checks.number("white", white, 0, 1)
    x = image.astype(checks.compute_dtype(image))
    share, white = checks.per_image("share", share, x), checks.per_image("white", white, x)
    mean = jnp.mean(x, axis=(-3, -2), keepdims=True)
    if x.shape[-1] == 3:
        luminance = jnp.sum(mean * np.array(colour.BT709, x.dtype), axis=-1, keepdims=True)
        mean = mean + white * (luminance - mean)
    y = jnp.clip(x + share * (mean - x), 0, 1)  # of rounding
    return jnp.where(share > 0, y, x).astype(image.dtype)
