import jax
import ml_collections
import numpy as np

from lle_jax import models
from lle_jax.inference import tiles


def test_a_network_that_needs_the_whole_image_gets_it():
    config = ml_collections.ConfigDict(
        {"name": "zero_dce", "dtype": "float32", "width": 4, "iterations": 2}
    )
    apply, params = models.build(config, jax.random.key(0))
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    net = tiles.network(config, params)
    image = np.random.default_rng(0).random((20, 31, 3), np.float32) / 2
    expected = np.clip(jax.jit(apply)(params, image), 0, 1)
    out = np.empty_like(image)
    tiles.restore(net, image, out)
    np.testing.assert_allclose(out, expected, atol=1e-5)
    assert np.abs(expected - image).max() > 0.01
    tiles.restore(net, image, out, strength=0.5)
    np.testing.assert_allclose(out, (image + expected) / 2, atol=1e-5)
