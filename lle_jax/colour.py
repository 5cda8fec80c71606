"""Converts colours: sRGB to and from linear light, and luma.

All functions take and return floating-point arrays with the channel last, any leading axes.
"""

import jax
import jax.numpy as jnp

from lle_jax import checks

# Luma weights of ITU-R BT.601-7 section 2.5.1 and BT.709-6 item 3.2.
BT601 = (0.299, 0.587, 0.114)
BT709 = (0.2126, 0.7152, 0.0722)

# Of `grey_under_tint`, root mean squares relative to the image's. The 32 x 32 cells of tinted
# radiographs are 0.001 to 0.003 from a line, those of colour images 0.024 or more.
_AWAY, _CONTRAST = 0.006, 0.1


def srgb_to_linear(image: jax.Array) -> jax.Array:
    """Converts display-referred sRGB in [0, 1] to linear light in [0, 1] (IEC 61966-2-1:1999).

    Values below 0 continue the linear segment, so that the function is finite and has a finite
    gradient everywhere.
    """
    safe = jnp.maximum(image, 0.04045)  # keeps the power's gradient finite in the unused branch
    return jnp.where(image <= 0.04045, image / 12.92, _power((safe + 0.055) / 1.055, 2.4))


def linear_to_srgb(image: jax.Array) -> jax.Array:
    """Converts linear light in [0, 1] to display-referred sRGB in [0, 1] (IEC 61966-2-1:1999)."""
    safe = jnp.maximum(image, 0.0031308)
    return jnp.where(image <= 0.0031308, image * 12.92, 1.055 * _power(safe, 1 / 2.4) - 0.055)


def _power(base: jax.Array, exponent: float) -> jax.Array:
    """base ** exponent for base > 0 to 3e-7 in float32; on CPU twice as fast as a general power."""
    return jnp.exp(exponent * jnp.log(base))


def is_grey(image: jax.Array) -> jax.Array:
    """Tells of each image `[..., H, W, C]` if its channels are equal, bool `[..., 1, 1, 1]`."""
    return jnp.all(image == image[..., :1], axis=(-3, -2, -1), keepdims=True)


def luma(image: jax.Array, weights: tuple[float, float, float] = BT601) -> jax.Array:
    """Sums the weighted channels, `[..., H, W, 3]` -> `[..., H, W, 1]`; grey is returned as is.

    On sRGB values with `BT601` this is the full-range Y' of JPEG (ITU-T T.871); on linear light
    with `BT709` it is relative luminance.
    """
    image = checks.image(image)
    if image.shape[-1] == 1:
        return image
    # written out: XLA on CPU takes twelve times as long for a sum over so short an axis
    red, green, blue = (image[..., channel : channel + 1] for channel in range(3))
    return weights[0] * red + weights[1] * green + weights[2] * blue


def mean_luma(image: jax.Array) -> jax.Array:
    """Averages luma (ITU-R BT.601) over an image, `[..., H, W, C]` -> `[..., 1, 1, 1]`."""
    return jnp.mean(luma(image), axis=(-3, -2, -1), keepdims=True)


def grey_under_tint(image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Tells if an image is grey but for one tint, and what undoes the tint.

    The colours of a grey image under a coloured light, a film or a screen lie on one line through
    black in linear light. Those of skin, mucosa and retina are at least four times as far from a
    line as is allowed here. An even surface of one colour is not called grey: it has no contrast.

    Args:
      image: display values (sRGB) `[..., H, W, 3]` in [0, 1], without noise: means of cells.

    Returns:
      bool `[..., 1, 1, 1]`, and factors of the display values, `[..., 1, 1, 3]`; 1 where it is not.
    """
    light = srgb_to_linear(image)
    axes = (-3, -2)
    line = jnp.mean(light, axis=axes, keepdims=True)
    line = line / jnp.maximum(jnp.linalg.norm(line, axis=-1, keepdims=True), 1e-9)
    along = jnp.sum(light * line, axis=-1, keepdims=True)
    size = jnp.mean(along**2, axis=axes, keepdims=True)
    spread = size - jnp.mean(along, axis=axes, keepdims=True) ** 2
    away = jnp.sum((light - along * line) ** 2, axis=-1, keepdims=True)
    away = jnp.mean(away, axis=axes, keepdims=True)
    tinted = (away < _AWAY**2 * size) & (size > 0) & (spread > _CONTRAST**2 * size)
    channels = jnp.mean(image, axis=axes, keepdims=True)
    factors = jnp.mean(channels, axis=-1, keepdims=True) / jnp.maximum(channels, 1e-6)
    return tinted, jnp.where(tinted, factors, 1.0)
