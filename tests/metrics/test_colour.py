import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from lle_jax import metrics

# Sharma, Wu and Dalal 2005, table 1: L* a* b* of both colours, and the difference.
SHARMA = np.array(
    [
        [50.0000, 2.6772, -79.7751, 50.0000, 0.0000, -82.7485, 2.0425],
        [50.0000, 3.1571, -77.2803, 50.0000, 0.0000, -82.7485, 2.8615],
        [50.0000, 2.8361, -74.0200, 50.0000, 0.0000, -82.7485, 3.4412],
        [50.0000, -1.3802, -84.2814, 50.0000, 0.0000, -82.7485, 1.0000],
        [50.0000, -1.1848, -84.8006, 50.0000, 0.0000, -82.7485, 1.0000],
        [50.0000, -0.9009, -85.5211, 50.0000, 0.0000, -82.7485, 1.0000],
        [50.0000, 0.0000, 0.0000, 50.0000, -1.0000, 2.0000, 2.3669],
        [50.0000, -1.0000, 2.0000, 50.0000, 0.0000, 0.0000, 2.3669],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0009, 7.1792],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0010, 7.1792],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0011, 7.2195],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0012, 7.2195],
        [50.0000, -0.0010, 2.4900, 50.0000, 0.0009, -2.4900, 4.8045],
        [50.0000, -0.0010, 2.4900, 50.0000, 0.0010, -2.4900, 4.8045],
        [50.0000, -0.0010, 2.4900, 50.0000, 0.0011, -2.4900, 4.7461],
        [50.0000, 2.5000, 0.0000, 50.0000, 0.0000, -2.5000, 4.3065],
        [50.0000, 2.5000, 0.0000, 73.0000, 25.0000, -18.0000, 27.1492],
        [50.0000, 2.5000, 0.0000, 61.0000, -5.0000, 29.0000, 22.8977],
        [50.0000, 2.5000, 0.0000, 56.0000, -27.0000, -3.0000, 31.9030],
        [50.0000, 2.5000, 0.0000, 58.0000, 24.0000, 15.0000, 19.4535],
        [50.0000, 2.5000, 0.0000, 50.0000, 3.1736, 0.5854, 1.0000],
        [50.0000, 2.5000, 0.0000, 50.0000, 3.2972, 0.0000, 1.0000],
        [50.0000, 2.5000, 0.0000, 50.0000, 1.8634, 0.5757, 1.0000],
        [50.0000, 2.5000, 0.0000, 50.0000, 3.2592, 0.3350, 1.0000],
        [60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644],
        [63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.2630],
        [61.2901, 3.7196, -5.3901, 61.4292, 2.2480, -4.9620, 1.8731],
        [35.0831, -44.1164, 3.7933, 35.0232, -40.0716, 1.5901, 1.8645],
        [22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373],
        [36.4612, 47.8580, 18.3852, 36.2715, 50.5065, 21.2231, 1.4146],
        [90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441],
        [90.9257, -0.5406, -0.9208, 88.6381, -0.8985, -0.7239, 1.5381],
        [6.7747, -0.2908, -2.4247, 5.8714, -0.0985, -2.2286, 0.6377],
        [2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082],
    ]
)
DELTA_E = jax.jit(metrics.delta_e_2000)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_pairs_of_sharma_wu_and_dalal(dtype):
    first, second, expected = SHARMA[:, :3], SHARMA[:, 3:6], SHARMA[:, 6]
    with jax.enable_x64(dtype == np.float64):
        there = DELTA_E(first.astype(dtype), second.astype(dtype))
        back = DELTA_E(second.astype(dtype), first.astype(dtype))
        assert there.dtype == dtype
        np.testing.assert_allclose(there, expected, atol=1e-4)
        np.testing.assert_allclose(back, expected, atol=1e-4)


def test_any_two_colours_differ_as_in_scikit_image():
    generator = np.random.default_rng(0)
    low, high = [0, -100, -100], [100, 100, 100]
    first, second = generator.uniform(low, high, (2, 20000, 3))
    second[:10000] = first[:10000] + generator.normal(0, 2, (10000, 3))
    first[:100, 1:] = 0
    second[50:150, 1:] = 0
    with jax.enable_x64(True):
        found = np.asarray(DELTA_E(first, second))
    np.testing.assert_allclose(found, deltaE_ciede2000(first, second), atol=2e-5)


def scikit_image(image, reference):
    return deltaE_ciede2000(*(rgb2lab(i.astype(np.float64)) for i in (image, reference)))


def test_lab_equals_scikit_image(photographs):
    images = np.concatenate([photographs, 0.05 * photographs])
    lab = metrics.srgb_to_lab(images)
    np.testing.assert_allclose(lab, rgb2lab(images.astype(np.float64)), atol=2e-4)
    grey = photographs[..., :1]
    np.testing.assert_allclose(
        metrics.srgb_to_lab(grey), metrics.srgb_to_lab(np.repeat(grey, 3, -1)), atol=1e-4
    )


def test_ciede2000_equals_scikit_image(recorded):
    local, mean = jax.jit(metrics.ciede2000_map), jax.jit(metrics.ciede2000)
    for name in ("noise", "black border", "odd sides"):
        image, reference, _ = recorded[name]
        expected = scikit_image(image, reference)
        np.testing.assert_allclose(local(image, reference), expected, atol=5e-3)
        np.testing.assert_allclose(mean(image, reference), expected.mean(), atol=1e-6)
    image, reference, _ = recorded["dark"]  # a mean of 27, where float32 has steps of 2e-6
    np.testing.assert_allclose(
        mean(image, reference), scikit_image(image, reference).mean(), rtol=2e-7
    )
    with jax.enable_x64(True):
        wide = mean(image.astype(np.float64), reference.astype(np.float64))
        np.testing.assert_allclose(wide, scikit_image(image, reference).mean(), atol=1e-6)


def test_identical_images_do_not_differ_and_black_and_white_by_a_hundred(photographs):
    assert (metrics.ciede2000_map(photographs, photographs) == 0).all()
    black = jnp.zeros((3, 4, 1))
    np.testing.assert_allclose(metrics.ciede2000_map(black, 1 - black), 100, atol=1e-3)


def test_gradients_are_finite_wherever_the_formula_has_a_corner():
    lab = jnp.array(
        [
            [50, 0, 0],
            [50, 1e-12, 0],
            [50, 2.49, -0.001],
            [50, -2.49, 0.001],
            [0, 0, 0],
            [100, 0, 0],
            [50, 30, 30],
        ],
        jnp.float32,
    )
    first, second = jnp.repeat(lab, len(lab), 0), jnp.tile(lab, (len(lab), 1))
    slopes = jax.jit(jax.grad(lambda a, b: metrics.delta_e_2000(a, b).sum(), (0, 1)))(first, second)
    assert all(np.isfinite(slope).all() for slope in slopes)
    assert max(float(jnp.abs(slope).max()) for slope in slopes) < 1000


def test_colours_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"lab1 has shape .* but lab2 has"):
        metrics.delta_e_2000(jnp.zeros((2, 3)), jnp.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"expected .* L"):
        metrics.delta_e_2000(jnp.zeros((3, 2)), jnp.zeros((3, 2)))
