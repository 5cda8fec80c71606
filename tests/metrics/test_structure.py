import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from lle_jax import metrics
from lle_jax.metrics.structure import ssim_map


def scikit_image(image, reference, **options):
    return structural_similarity(
        reference.astype(np.float64),
        image.astype(np.float64),
        data_range=1,
        channel_axis=-1,
        **options,
    )


PAPER = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


@pytest.mark.parametrize("size", [(37, 41), (64, 64), (300, 37)])
def test_ssim_equals_scikit_image_with_the_papers_convention(pair, size):
    image, reference = (np.resize(array[0], (*size, 3)) for array in pair)
    expected = scikit_image(image, reference, **PAPER)
    np.testing.assert_allclose(metrics.ssim(image, reference), expected, atol=1e-6)
    np.testing.assert_allclose(jax.jit(metrics.ssim)(image, reference), expected, atol=1e-6)


def test_ssim_equals_scikit_image_with_its_own_defaults(pair):
    for image, reference in zip(*pair, strict=True):
        value = metrics.ssim(image, reference, window=np.full(7, 1 / 7), unbiased=True)
        np.testing.assert_allclose(value, scikit_image(image, reference), atol=1e-6)


def test_ssim_in_the_dark_keeps_its_precision(pair):
    image, reference = (0.05 * array[0] for array in pair)
    expected = scikit_image(image, reference, **PAPER)
    np.testing.assert_allclose(metrics.ssim(image, reference), expected, atol=1e-6)


def test_ssim_of_identical_images_is_one_and_of_a_negative_is_less(pair):
    image = pair[1]
    np.testing.assert_allclose(metrics.ssim(image, image), 1, atol=1e-6)
    assert (metrics.ssim(1 - image, image) < 0.5).all()


def test_ssim_is_the_mean_of_its_map(pair):
    local = ssim_map(*pair)
    assert local.shape == (2, 54, 54, 3)
    np.testing.assert_allclose(metrics.ssim(*pair), local.mean(axis=(1, 2, 3)), rtol=1e-6)


def test_ssim_gradient_equals_finite_differences(pair):
    with jax.enable_x64(True):
        image, reference = (jnp.asarray(array[0, :16, :16], jnp.float64) for array in pair)
        direction = jax.random.normal(jax.random.key(0), image.shape, jnp.float64)
        slope = jnp.vdot(jax.grad(metrics.ssim)(image, reference), direction)
        ahead = metrics.ssim(image + 1e-6 * direction, reference)
        behind = metrics.ssim(image - 1e-6 * direction, reference)
        np.testing.assert_allclose(slope, (ahead - behind) / 2e-6, rtol=1e-6)


def test_ssim_names_the_size_it_needs():
    with pytest.raises(ValueError, match=r"10x12 pixels; SSIM .* at least 11x11"):
        metrics.ssim(jnp.zeros((10, 12, 3)), jnp.zeros((10, 12, 3)))
