"""A Poisson sampler that runs at the speed of arithmetic under jit.

`jax.random.poisson` uses rejection, whose loops wait for the unluckiest pixel of the image. Here
every count is a fixed function of one uniform deviate: its inverse distribution function.
"""

import jax
import jax.numpy as jnp
import numpy as np

from lle_jax import checks
from lle_jax.degrade import bits

SWITCH = 8.0  # mean above which the series is used
TERMS = 14  # counts told apart by summation; the few greater ones come from the series too


def poisson(key: jax.Array, mean: jax.Array) -> jax.Array:
    """Draws independent Poisson counts.

    Up to a mean of 8 the distribution function is summed term by term until it passes the uniform
    deviate. Above that mean, and from the 14th count on, the asymptotic expansion of its inverse in
    powers of mean^-1/2 is rounded down: Giles, "Algorithm 955: approximation of the inverse Poisson
    cumulative distribution function", ACM TOMS 42(1), 2016, doi:10.1145/2699466, the expansion
    Q_N3. It gives a neighbouring count for 7 deviates in 10,000 at a mean of 8, 2 at 20, 0.5 at 50,
    and beyond the 14th count for 1 in 10,000 at most. Uniform deviates have 23 bits, so that events
    rarer than 1e-7 are not told apart.

    Args:
      key: random key.
      mean: any shape, >= 0; a negative mean counts as 0, NaN gives NaN.

    Returns:
      Counts as floats of the mean's dtype and shape, without a derivative.
    """
    mean = jax.lax.stop_gradient(jnp.asarray(mean))
    mean = mean.astype(checks.compute_dtype(mean))
    u = bits.uniform(key, mean.shape, mean.dtype)
    # The branches skip what no pixel needs. They also make XLA on CPU write what is between them to
    # memory: fused with each other the parts do not vectorise, and take four times as long.
    dark = jnp.any((mean > 0) & (mean <= SWITCH))
    few = jax.lax.cond(dark, _by_summation, _nothing, u, mean)
    beyond = (mean > SWITCH) | (few >= TERMS)
    many = jax.lax.cond(jnp.any(beyond), _by_expansion, _nothing, u, mean)
    count = jnp.where(beyond, many, few)
    return jnp.where(jnp.isnan(mean), mean, count)


def _nothing(u: jax.Array, mean: jax.Array) -> jax.Array:
    return jnp.zeros_like(mean)


def _by_summation(u: jax.Array, mean: jax.Array) -> jax.Array:
    """The number of k >= 0 with P(N <= k) < u, at most TERMS, for means up to the switch.

    More terms than these in one loop are no longer vectorised: 16 take three times as long.
    """
    mean = jnp.clip(mean, 0, SWITCH)
    term = jnp.exp(-mean)
    left, count = u - term, jnp.zeros_like(mean)
    for k in range(1, TERMS + 1):
        count = count + jnp.where(left > 0, 1.0, 0.0)
        term = term * (mean * np.float32(1 / k))
        left = left - term
    # At a mean below 2 the last term is not reached but where rounding leaves the sum just short of
    # u: then the count of about that rare a deviate, five standard deviations up.
    return jnp.where((mean >= 2) | (count < TERMS), count, jnp.round(mean + 5 * jnp.sqrt(mean)))


def _by_expansion(u: jax.Array, mean: jax.Array) -> jax.Array:
    mean = jnp.maximum(mean, 2)
    w = bits.normal_quantile(u)
    root = jnp.sqrt(mean)
    series = mean + root * w + (1 / 3 + w * w / 6) - (w / 36 + w**3 / 72) / root
    series += (-8 / 405 + 7 * w * w / 810 + w**4 / 270) / mean
    return jnp.maximum(jnp.floor(series), 0)
