import jax.numpy as jnp
import numpy as np
from skimage.metrics import structural_similarity

from lle_jax.training import losses


def test_charbonnier_equals_its_formula(pair):
    image, target = pair
    expected = np.sqrt((image.astype(np.float64) - target) ** 2 + 1e-6).mean()
    np.testing.assert_allclose(losses.charbonnier(image, target), expected, rtol=1e-5)


def test_charbonnier_of_identical_images_is_epsilon(photographs):
    value = losses.charbonnier(photographs, photographs, epsilon=0.25)
    np.testing.assert_allclose(value, 0.25, rtol=1e-6)


def test_the_restoration_loss_adds_one_minus_ssim(pair):
    image, target = pair
    ssim = [
        structural_similarity(
            b.astype(np.float64),
            a.astype(np.float64),
            data_range=1,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(image, target, strict=True)
    ]
    expected = losses.charbonnier(image, target) + 0.3 * (1 - np.mean(ssim))
    value = losses.restoration(jnp.asarray(image), jnp.asarray(target), ssim_weight=0.3)
    np.testing.assert_allclose(value, expected, atol=1e-6)
