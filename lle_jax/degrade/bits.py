"""Random words for pixels: threefry, twelve times as fast on CPU as `jax.random.bits`.

The same counter-based generator that jax keys stand for, threefry-2x32 with all 20 rounds (Salmon,
Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011,
doi:10.1145/2063384.2063405), but written out rather than looped over, and with both words of a
block used. 3.1 million words take 2 ms on two cores where `jax.random.bits` takes 26: in a chain of
degradations random bits are otherwise most of the time. Integers are the same on every backend.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
# Second word of every counter. jax derives keys from a key with small numbers there, so that no
# pixel's words are another key.
_DOMAIN = np.uint32(0x6C6C655F)


def words(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Independent uniform 32-bit words, uint32 of `shape`; another key, other words."""
    data = jax.random.key_data(key) if _is_typed(key) else key
    size = math.prod(shape)

    def draw(data):
        counter = jax.lax.iota(jnp.uint32, -(-size // 2))
        blocks = threefry(data[0], data[-1], counter, jnp.full_like(counter, _DOMAIN))
        return jnp.concatenate(blocks)[:size].reshape(shape)

    # Always taken. Without the branch XLA on CPU fuses the generator with what uses its words, does
    # not vectorise the whole, and a normal deviate takes eight times as long.
    always = (data[0] | 1) != 0
    return jax.lax.cond(always, draw, lambda _: jnp.zeros(shape, jnp.uint32), data)


def _is_typed(key: jax.Array) -> bool:
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key)


def threefry(
    key_0: jax.Array, key_1: jax.Array, x_0: jax.Array, x_1: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Encrypts the counter words `x_0, x_1` with a two-word key; all uint32."""
    schedule = (key_0, key_1, key_0 ^ key_1 ^ _PARITY)
    x_0, x_1 = x_0 + schedule[0], x_1 + schedule[1]
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            x_0 = x_0 + x_1
            x_1 = (x_1 << np.uint32(distance)) | (x_1 >> np.uint32(32 - distance))
            x_1 = x_0 ^ x_1
        x_0 = x_0 + schedule[(group + 1) % 3]
        x_1 = x_1 + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return x_0, x_1


def uniform(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """Uniform deviates in the open interval (0, 1), multiples of 2^-24 (of 2^-33 in float64)."""
    drop = 0 if dtype == jnp.float64 else 9
    steps = (words(key, shape) >> np.uint32(drop)).astype(dtype)
    return (steps + 0.5) * 2.0 ** (drop - 32)


def normal(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """Standard normal deviates, cut off at 5.4 standard deviations (6.3 in float64)."""
    return normal_quantile(uniform(key, shape, dtype))


def normal_quantile(u: jax.Array) -> jax.Array:
    """The standard normal deviate below which a fraction `u` lies."""
    return math.sqrt(2) * jax.lax.erf_inv(2 * u - 1)
