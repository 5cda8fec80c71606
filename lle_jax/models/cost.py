"""Computes what a network costs: parameters, multiply-accumulates, seconds."""

import math
import statistics
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from lle_jax import models


class Cost(NamedTuple):
    """Holds `parameters` (trainable scalars) and `macs` (multiply-accumulates for one image)."""

    parameters: int
    macs: int


def cost(config: ml_collections.ConfigDict, height: int, width: int) -> Cost:
    """Counts parameters and multiply-accumulates without running the network.

    Multiply-accumulates are those of convolutions and matrix products, a padded position counted
    as any other, as thop, fvcore and ptflops count them. Element-wise work, normalisation and means
    are not counted. Papers differ in this, and in whether G is 10^9 or 2^30.

    Args:
      config: the network, as of `models.build`.
      height: of the image of three channels, in pixels.
      width: likewise.

    Raises:
      checks.ConfigError: as `models.build`.
    """
    params = models.shapes(config)
    network = models.bind(config)
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    traced = jax.make_jaxpr(lambda params, image: network(params)(image))(params, image)
    return Cost(models.parameter_count(params), macs(traced.jaxpr))


def macs(jaxpr: Any) -> int:
    """Counts the multiply-accumulates of a traced function, `jax.make_jaxpr(f)(...).jaxpr`.

    Of the branches of a condition the dearest counts. A depthwise convolution is such a condition,
    on the platform, and only the branch for accelerators is a convolution (`models.layers`).

    Raises:
      ValueError: for a loop whose length is not known that convolves or multiplies matrices.
    """
    return sum(_equation(equation) for equation in jaxpr.eqns)


def _equation(equation: Any) -> int:
    name, parameters = equation.primitive.name, equation.params
    if name == "conv_general_dilated":
        return _convolution(equation)
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
    if name == "cond":
        return max(macs(branch.jaxpr) for branch in parameters["branches"])
    inner = sum(macs(part) for part in _inner(parameters))
    if name == "while" and inner:
        raise ValueError("a loop of unknown length; its multiply-accumulates cannot be counted")
    return inner * parameters["length"] if name == "scan" else inner


def _convolution(equation: Any) -> int:
    kernel, numbers = equation.invars[1].aval.shape, equation.params["dimension_numbers"]
    outputs = kernel[numbers.rhs_spec[0]]  # the kernel's other axes are summed over
    # a transposed convolution multiplies only where its input is not dilated with zeros
    dilation = math.prod(equation.params["lhs_dilation"])
    return equation.outvars[0].aval.size * (math.prod(kernel) // outputs) // dilation


def _inner(parameters: dict[str, Any]) -> list[Any]:
    """The functions that an equation calls: of jit, scan, checkpoint, custom gradients, ..."""
    functions = []
    for value in parameters.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            part = getattr(part, "jaxpr", part)  # of a closed one
            if hasattr(part, "eqns"):
                functions.append(part)
    return functions


def seconds_per_image(
    config: ml_collections.ConfigDict, height: int, width: int, *, repeats: int = 5
) -> float:
    """Measures the median seconds to enhance one image of three channels, without compilation."""
    apply, params = models.build(config, jax.random.key(0))
    run = jax.jit(apply)
    image = jnp.full((height, width, 3), 0.5)
    jax.block_until_ready(run(params, image))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run(params, image))
        times.append(time.perf_counter() - start)
    return statistics.median(times)
