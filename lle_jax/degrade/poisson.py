"""A Poisson sampler that runs at the speed of arithmetic under jit.

`jax.random.poisson` uses rejection, whose loops wait for the unluckiest pixel of the image. Here
every count is a fixed function of one uniform deviate: its inverse distribution function.
"""

import jax
import jax.numpy as jnp
import numpy as np

from lle_jax import checks

SWITCH = 10.0  # mean above which the series is used
TERMS = 36  # P(N > 36) < 1e-9 at the switch


def poisson(key: jax.Array, mean: jax.Array) -> jax.Array:
    """Draws independent Poisson counts.

    Up to a mean of 10 the distribution function is summed term by term until it passes the uniform
    deviate. Above, the asymptotic expansion of its inverse in powers of mean^-1/2 is rounded down:
    Giles, "Algorithm 955: approximation of the inverse Poisson cumulative distribution function",
    ACM TOMS 42(1), 2016, doi:10.1145/2699466, the expansion Q_N3; it gives another count than the
    exact inverse for fewer than one deviate in ten thousand. Uniform deviates have 23 bits,
    so that events rarer than 1e-7 are not told apart.

    Args:
      key: random key.
      mean: any shape, >= 0; a negative mean counts as 0, NaN gives NaN.

    Returns:
      Counts as floats of the mean's dtype and shape, without a derivative.
    """
    mean = jax.lax.stop_gradient(jnp.asarray(mean))
    mean = mean.astype(checks.compute_dtype(mean))
    tiny = float(jnp.finfo(mean.dtype).eps) / 4
    u = jax.random.uniform(key, mean.shape, mean.dtype, minval=tiny)
    few = _by_summation(u, jnp.clip(mean, 0, SWITCH))
    many = _by_expansion(u, jnp.maximum(mean, SWITCH))
    count = jnp.where(mean > SWITCH, many, few)
    return jnp.where(jnp.isnan(mean), mean, count)


def _by_summation(u: jax.Array, mean: jax.Array) -> jax.Array:
    """The number of k >= 0 with P(N <= k) < u."""
    term = jnp.exp(-mean)
    below, count = term, jnp.zeros_like(mean)
    for k in range(1, TERMS + 1):
        # A sum that rounding keeps below u must not count on: a term this small ends it.
        count += (below < u) & (term > 1e-10)
        term = term * mean * np.float32(1 / k)
        below = below + term
    return count


def _by_expansion(u: jax.Array, mean: jax.Array) -> jax.Array:
    w = jax.scipy.special.ndtri(u)
    root = jnp.sqrt(mean)
    series = mean + root * w + (1 / 3 + w * w / 6) - (w / 36 + w**3 / 72) / root
    series += (-8 / 405 + 7 * w * w / 810 + w**4 / 270) / mean
    return jnp.maximum(jnp.floor(series), 0)
