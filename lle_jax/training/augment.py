"""Photometric augmentation: other exposures and contrasts of clean images.

They change what the network should give back, not what it is given: that is degraded afterwards.
All take `[H, W, C]` in [0, 1], C 1 or 3, and return the same; `vmap` them over a batch.
"""

import jax
import jax.numpy as jnp

from lle_jax import colour
from lle_jax.xla import order_statistic

SPREAD = 0.4  # of log gamma: exponents of 0.67 to 1.5
TAIL = 0.05  # of the pixels that may saturate at each end
SHARE = 0.5  # of the equalised image, at most: all of it is no image that one would want


def contrast_stretch(image: jax.Array, tail: jax.Array) -> jax.Array:
    """Maps luma's quantiles `tail` and 1 - `tail` to 0 and 1, the channels alike."""
    luma = colour.luma(image).ravel()
    positions = (luma.size - 1) * jnp.stack([tail, 1 - tail])
    ranks = jnp.stack([jnp.floor(positions), jnp.ceil(positions)]) + 1
    below, above = jax.vmap(jax.vmap(order_statistic, (None, 0)), (None, 0))(luma, ranks)
    low, high = below + (positions % 1) * (above - below)
    return jnp.clip((image - low) / jnp.maximum(high - low, 1 / 255), 0, 1)


def gamma(image: jax.Array, exponent: jax.Array) -> jax.Array:
    """Computes image ** exponent; 0 stays 0, with a finite gradient."""
    positive = image > 0
    return jnp.where(positive, jnp.where(positive, image, 1) ** exponent, 0)


def equalise(image: jax.Array) -> jax.Array:
    """Equalises the histogram of luma in 256 levels, as OpenCV; colours keep their proportions.

    Of an image of one level, that image.
    """
    luma = colour.luma(image)
    levels = jnp.round(255 * luma).astype(jnp.int32)
    counts = jnp.zeros(256, jnp.int32).at[levels.ravel()].add(1)
    below = jnp.cumsum(counts)
    least = counts[jnp.min(levels)]
    table = jnp.round(255 * (below - least) / jnp.maximum(levels.size - least, 1)) / 255
    wanted = table[levels]
    if image.shape[-1] == 3:
        wanted = jnp.clip(image * wanted / jnp.maximum(luma, 1 / 255), 0, 1)
    return jnp.where(least == levels.size, image, wanted)


def random(key: jax.Array, images: jax.Array, fraction: float) -> jax.Array:
    """Changes a fraction of the images `[B, H, W, C]`, each in one of the three ways."""

    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        apply, which, amount = jax.random.split(key, 3)
        amount = jax.random.uniform(amount)
        ways = [
            contrast_stretch(image, TAIL * amount),
            gamma(image, jnp.exp(SPREAD * (2 * amount - 1))),
            image + SHARE * amount * (equalise(image) - image),
            image,
        ]
        chosen = jax.random.randint(which, (), 0, 3)
        chosen = jnp.where(jax.random.bernoulli(apply, fraction), chosen, 3)
        return jnp.select([chosen == number for number in range(4)], ways)

    return jax.vmap(one)(jax.random.split(key, len(images)), images)


def mixup(
    key: jax.Array, alpha: float, low: jax.Array, clean: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Mixes each pair with a random other one of the batch, both images alike.

    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, arXiv:1710.09412, with the
    low-light and the clean image in place of input and label, as MIRNet trains (Zamir et al.,
    arXiv:2205.01649). Every pair has its own weight.

    Args:
      key: of the weights and the order.
      alpha: of the symmetric Beta distribution of the weights, above 0.
      low, clean: `[B, H, W, C]`.

    Returns:
      (low, clean), mixed.
    """
    weight_key, order_key = jax.random.split(key)
    weight = jax.random.beta(weight_key, alpha, alpha, (len(low), 1, 1, 1), low.dtype)
    order = jax.random.permutation(order_key, len(low))

    def mix(image: jax.Array) -> jax.Array:
        return weight * image + (1 - weight) * image[order]

    return mix(low), mix(clean)
