import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from flax import nnx

from lle_jax.models import layers


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(2, 9, 6, 4)),
        rng.normal(size=(3, 3, 1, 4)),
        rng.normal(size=(2, 9, 6, 4)),
    )


def test_shifted_depthwise_equals_scipy_and_the_grouped_convolution(arrays):
    x, kernel, _ = arrays
    shifted = layers.depthwise_shifted(x, kernel)
    expected = [
        [
            scipy.ndimage.correlate(x[b, ..., c], kernel[:, :, 0, c], mode="constant")
            for c in range(4)
        ]
        for b in range(2)
    ]
    np.testing.assert_allclose(shifted, np.moveaxis(expected, 1, -1), atol=1e-5)
    np.testing.assert_allclose(layers.depthwise_grouped(x, kernel), shifted, atol=1e-5)
    np.testing.assert_allclose(jax.jit(layers.depthwise)(x, kernel), shifted, atol=1e-5)


def test_gradients_of_shifted_depthwise_equal_those_of_the_grouped_convolution(arrays):
    x, kernel, weight = arrays

    def gradients(function):
        loss = lambda x, k: jnp.sum(weight * function(x, k) ** 2)  # noqa: E731
        return jax.jit(jax.grad(loss, (0, 1)))(x, kernel)

    expected = gradients(layers.depthwise_grouped)
    for function in (layers.depthwise_shifted, layers.depthwise):
        for found, value in zip(gradients(function), expected, strict=True):
            np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-4)


def test_the_layer_is_flax_own_depthwise_convolution(arrays):
    x = arrays[0]
    ours = layers.DepthwiseConv(4, dtype=jnp.float32, rngs=nnx.Rngs(0))
    ours.bias[...] = jnp.arange(4.0)
    flax = nnx.Conv(4, 4, (3, 3), feature_group_count=4, rngs=nnx.Rngs(0))
    flax.kernel[...], flax.bias[...] = ours.kernel[...], ours.bias[...]
    np.testing.assert_allclose(ours(x), flax(x), atol=1e-5)
    half = layers.DepthwiseConv(4, dtype=jnp.bfloat16, use_bias=False, rngs=nnx.Rngs(0))
    assert half(x).dtype == jnp.bfloat16
