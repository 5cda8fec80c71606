"""Computes, in another way, what XLA's CPU backend is slow at; without effect on results."""

import jax
import jax.numpy as jnp
import numpy as np


def force_materialize(x: jax.Array) -> jax.Array:
    """Writes the array to memory before anything uses it, so that XLA does not fuse it.

    XLA on CPU fuses a computation into each of its uses: a filter of 9 taps after another is then
    one of 81, and a sum over it is not vectorised. It ignores `optimization_barrier`, but it fuses
    nothing into a branch; this one is always taken.
    """
    bits = {2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint64}[x.dtype.itemsize]
    always = (jax.lax.bitcast_convert_type(x.reshape(-1)[0], bits) | 1) != 0
    return jax.lax.cond(always, lambda x: x, jnp.zeros_like, x)


def order_statistic(x: jax.Array, rank: jax.Array | int) -> jax.Array:
    """Returns the `rank`-th least value (from 1) of `[..., n]`, none of them negative.

    By bisection over bit patterns, which of such floats have the order of the values: on CPU a
    sort takes many times as long.
    """
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.int32)

    def halve(index, bound):
        lower = bound - (1 << (30 - index))
        enough = jnp.sum(bits <= lower[..., None], axis=-1) >= rank
        return jnp.where(enough, lower, bound)

    start = jnp.full(x.shape[:-1], np.iinfo(np.int32).max, jnp.int32)
    least = jax.lax.fori_loop(0, 31, halve, start)
    return jax.lax.bitcast_convert_type(least, jnp.float32).astype(x.dtype)
