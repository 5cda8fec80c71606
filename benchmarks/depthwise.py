"""What is the fastest 3x3 depthwise convolution on this backend?

Forward alone, and forward with the gradients of input and kernel, of XLA's grouped convolution and
of nine shifted multiply-adds (lle_jax.models.layers). Both take turns in one process, and the least
time of many counts. `ratio` is the grouped convolution's time over the shifted one's; above 1 the
shifted one is the faster.

Measured (jax 0.10.2, two quiet cores): forward 24 to 39 times, with gradients 13 to 27 times.

    python benchmarks/depthwise.py
"""

import time

import jax
import jax.numpy as jnp

from lle_jax.models import layers

SHAPES = [(1, 256, 256, 32), (1, 128, 128, 64), (8, 48, 48, 64), (1, 32, 32, 256)]
ROUNDS = 8


def least(functions: list, *arguments) -> list[float]:
    """The least time of each function in ms, taken in turns."""
    compiled = [jax.jit(function).lower(*arguments).compile() for function in functions]
    times = [[] for _ in compiled]
    for function in compiled:
        jax.block_until_ready(function(*arguments))
    for _ in range(ROUNDS):
        for function, found in zip(compiled, times, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(function(*arguments))
            found.append(1e3 * (time.perf_counter() - start))
    return [min(found) for found in times]


def gradient(function):
    return jax.grad(lambda x, kernel: jnp.sum(function(x, kernel) ** 2), (0, 1))


def main() -> None:
    functions = (layers.depthwise_grouped, layers.depthwise_shifted, layers.depthwise)
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}; ms")
    print(f"{'shape':20}{'':10}{'grouped':>9}{'shifted':>9}{'chosen':>9}{'ratio':>8}")
    for shape in SHAPES:
        x = jax.random.normal(jax.random.key(0), shape)
        kernel = jax.random.normal(jax.random.key(1), (3, 3, 1, shape[-1]))
        for name, change in (("forward", lambda f: f), ("gradient", gradient)):
            times = least([change(function) for function in functions], x, kernel)
            columns = "".join(f"{ms:9.2f}" for ms in times)
            print(f"{shape!s:20}{name:10}{columns}{times[0] / times[1]:8.1f}", flush=True)


if __name__ == "__main__":
    main()
