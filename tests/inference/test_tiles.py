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


def test_the_central_tile_is_restored_as_in_the_whole(net):
    rows, columns = np.mgrid[:300, :420].astype(np.float32)
    noise = np.random.default_rng(0).random((300, 420), np.float32)
    image = np.stack([rows / 300, columns / 420, noise], axis=-1)
    context = tiles.finish_context(net, tiles.cell_means(image), False)
    whole = np.empty_like(image)
    tiles.restore(net, image, whole, context=context)
    pixels, restored = tiles.central_tile(net, image, context, 256)
    top, left = np.rint(pixels[0, 0, :2] * (300, 420)).astype(int)
    height, width = pixels.shape[:2]
    assert height < 300 or width < 420
    inside = tuple(
        slice(net.reach if first else 0, length - net.reach if first + length < side else length)
        for first, length, side in ((top, height, 300), (left, width, 420))
    )
    expected = whole[top : top + height, left : left + width]
    np.testing.assert_allclose(restored(pixels)[inside], expected[inside], atol=1e-5)
    assert expected[inside].size
    grey = image[..., 2:]
    pixels, restored = tiles.central_tile(net, grey, context, 256)
    assert restored(pixels).shape == pixels.shape
