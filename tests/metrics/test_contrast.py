import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.filters.rank
from scipy import ndimage

from lle_jax import metrics

WEIGHTS = np.array([0.299, 0.587, 0.114])


@pytest.fixture(scope="module")
def lumas(photographs):
    """Luma of the photographs, `[2, 64, 64]` float64."""
    return photographs.astype(np.float64) @ WEIGHTS


def region():
    row, column = np.mgrid[:64, :64]
    inside = (row - 30) ** 2 + (column - 34) ** 2
    return inside < 100, (inside > 200) & (inside < 500)


UNPAIRED = {
    "eme": metrics.eme,
    "local_entropy": metrics.local_entropy,
    "contrast_to_noise": lambda image: metrics.contrast_to_noise(image, *region()),
}


@pytest.mark.parametrize("name", UNPAIRED)
def test_compiled_batched_and_mapped_values_equal_those_of_each_image(name, photographs):
    metric = UNPAIRED[name]
    each = np.array([metric(image) for image in photographs])  # not compiled
    values = jax.jit(metric)(photographs)
    assert values.shape == (2,)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, each, rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(metric)(photographs), each, rtol=1e-5)


@pytest.mark.parametrize("name", UNPAIRED)
def test_malformed_images_are_refused(name):
    for image in (np.zeros((64, 64), np.float32), np.zeros((64, 64, 3), np.uint8)):
        with pytest.raises(ValueError, match="image has"):
            UNPAIRED[name](image)


def test_eme_equals_numpy_block_by_block(photographs, lumas):
    cut = photographs[:, :61, :50]  # no multiple of the blocks
    for block in (8, 5):
        expected = []
        for luma in 255 * lumas[:, :61, :50]:
            rows, columns = range(0, 61 - block + 1, block), range(0, 50 - block + 1, block)
            tiles = [luma[i : i + block, j : j + block] for i in rows for j in columns]
            expected.append(np.mean([20 * np.log10((t.max() + 1) / (t.min() + 1)) for t in tiles]))
        np.testing.assert_allclose(metrics.eme(cut, block=block), expected, rtol=1e-5)


def test_eme_of_known_images():
    assert metrics.eme(jnp.zeros((16, 16, 1))) == 0
    stripes = jnp.tile(jnp.array([0.0, 99 / 255])[None, :, None], (16, 8, 1))
    np.testing.assert_allclose(metrics.eme(stripes), 40, rtol=1e-6)  # 20 log10(100 / 1)


def test_contrast_improvement_equals_scipy(photographs, lumas):
    def contrast(luma):
        high, low = ndimage.maximum_filter(luma, 3), ndimage.minimum_filter(luma, 3)
        return ((high - low) / np.maximum(high + low, 1e-30))[1:-1, 1:-1].mean()

    dark = 0.5 + 0.4 * (photographs - 0.5)
    expected = [contrast(0.5 + 0.4 * (luma - 0.5)) / contrast(luma) for luma in lumas]
    found = metrics.contrast_improvement_index(dark, photographs)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # A gain changes no ratio, and black has no contrast rather than 0 / 0.
    found = metrics.contrast_improvement_index(0.5 * photographs, photographs)
    np.testing.assert_allclose(found, 1, rtol=1e-5)
    assert (metrics.contrast_improvement_index(0 * photographs, photographs) == 0).all()
    flat = jnp.full_like(photographs, 0.5)
    assert (metrics.contrast_improvement_index(flat, 0.5 * flat) == 1).all()
    assert np.isinf(metrics.contrast_improvement_index(photographs, flat)).all()
    assert np.isnan(metrics.contrast_improvement_index(flat.at[0, 0, 0].set(jnp.nan), flat)[0])
    slope = jax.grad(lambda image: metrics.contrast_improvement_index(image, flat[0]))(flat[0])
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("side", [3, 9])
def test_local_entropy_equals_scikit_image(photographs, side):
    # Of one channel: luma of colour has ties that rounding decides.
    image, edge = photographs[..., :1], side // 2
    expected = []
    for levels in np.rint(255 * image[..., 0]).astype(np.uint8):
        local = skimage.filters.rank.entropy(levels, np.ones((side, side), np.uint8))
        expected.append(local[edge:-edge, edge:-edge].mean())
    entropy = jax.jit(functools.partial(metrics.local_entropy, side=side))
    np.testing.assert_allclose(entropy(image), expected, rtol=2e-5)


def test_local_entropy_of_flat_and_of_all_different_windows():
    assert abs(metrics.local_entropy(jnp.full((12, 12, 1), 0.3))) < 1e-5
    ramp = (9 * jnp.arange(12)[:, None] + jnp.arange(12)) % 81
    different = (ramp / 255)[..., None]  # every 9 x 9 window has 81 levels once
    np.testing.assert_allclose(metrics.local_entropy(different), np.log2(81), rtol=1e-5)


def test_local_entropy_of_a_damaged_image_is_none(photographs):
    image = np.array(photographs[0])
    image[3, 4, 0] = np.nan
    assert np.isnan(metrics.local_entropy(image))


def test_contrast_to_noise_equals_numpy(photographs, lumas):
    inside, around = region()
    expected = [
        abs(luma[inside].mean() - luma[around].mean()) / luma[around].std() for luma in lumas
    ]
    found = metrics.contrast_to_noise(photographs, inside, around)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    batch = [np.stack([mask, mask.T]).astype(np.float32) for mask in (inside, around)]
    found = jax.jit(metrics.contrast_to_noise)(photographs, *batch)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(
        found[1], metrics.contrast_to_noise(photographs[1], inside.T, around.T), rtol=1e-5
    )


def test_impossible_arguments_are_named(photographs):
    inside, around = region()
    with pytest.raises(ValueError, match="region_mask marks no pixel"):
        metrics.contrast_to_noise(photographs, 0 * inside, around)
    with pytest.raises(ValueError, match=r"background_mask has shape \(63, 64\); expected \(64"):
        metrics.contrast_to_noise(photographs, inside, around[1:])
    with pytest.raises(ValueError, match="block is 0"):
        metrics.eme(photographs, block=0)
    with pytest.raises(ValueError, match="side is 4"):
        metrics.local_entropy(photographs, side=4)
    with pytest.raises(ValueError, match="64x64 pixels; EME needs at least 65x65"):
        metrics.eme(photographs, block=65)
    with pytest.raises(ValueError, match="64x64 pixels; local entropy needs at least 65x65"):
        metrics.local_entropy(photographs, side=65)


def test_gradients_equal_finite_differences(photographs):
    with jax.enable_x64(True):
        image = jnp.asarray(photographs[0], jnp.float64)
        direction = np.random.default_rng(0).normal(size=image.shape)
        for name in ("eme", "contrast_to_noise"):
            metric = UNPAIRED[name]
            slope = jnp.vdot(jax.grad(metric)(image), direction)
            ahead, behind = (metric(image + s * direction) for s in (1e-7, -1e-7))
            np.testing.assert_allclose(slope, (ahead - behind) / 2e-7, rtol=1e-4)
