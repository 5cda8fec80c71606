"""Prevents XLA fusions that its CPU backend compiles badly, without effect on results."""

import jax
import jax.numpy as jnp


def force_materialize(x: jax.Array) -> jax.Array:
    """Writes the array to memory before anything uses it, so that XLA does not fuse it.

    XLA on CPU fuses a computation into each of its uses: a filter of 9 taps after another is then
    one of 81, and a sum over it is not vectorised. It ignores `optimization_barrier`, but it fuses
    nothing into a branch; this one is always taken.
    """
    bits = {2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint64}[x.dtype.itemsize]
    always = (jax.lax.bitcast_convert_type(x.reshape(-1)[0], bits) | 1) != 0
    return jax.lax.cond(always, lambda x: x, jnp.zeros_like, x)
