import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from lle_jax import metrics


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("compile_it", [False, True])
def test_psnr_equals_scikit_image(pair, channels, compile_it):
    image, reference = (array[..., :channels] for array in pair)
    psnr = jax.jit(metrics.psnr) if compile_it else metrics.psnr
    expected = [
        peak_signal_noise_ratio(b.astype(np.float64), a.astype(np.float64), data_range=1)
        for a, b in zip(image, reference, strict=True)
    ]
    np.testing.assert_allclose(psnr(image, reference), expected, atol=1e-4)


def test_psnr_of_a_known_error():
    # An error of 0.1 everywhere has a mean square of 0.01, that is 20 dB.
    flat = jnp.full((2, 5, 7, 3), 0.5)
    np.testing.assert_allclose(metrics.psnr(flat + 0.1, flat), 20, atol=1e-4)
    np.testing.assert_allclose(metrics.psnr(255 * flat + 25.5, 255 * flat, data_range=255), 20)


def test_psnr_of_identical_images_is_infinite(pair):
    assert np.isinf(metrics.psnr(pair[0], pair[0])).all()


def test_mae_equals_numpy(pair):
    image, reference = pair
    expected = np.abs(image.astype(np.float64) - reference).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(metrics.mae(image, reference), expected, rtol=1e-6)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.mae, metrics.ssim])
def test_metrics_reject_unlike_pairs(metric):
    flat = jnp.full((16, 16, 3), 0.5)
    with pytest.raises(ValueError, match=r"image has shape .* but reference has"):
        metric(flat, flat[:, :, :1])
    with pytest.raises(ValueError, match=r"dtype uint8; expected floating point"):
        metric((255 * flat).astype(jnp.uint8), flat)
    with pytest.raises(ValueError, match=r"1 or 3 channels"):
        metric(flat[..., 0], flat[..., 0])


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.mae, metrics.ssim])
def test_metrics_of_a_batch_equal_those_of_each_image(metric, pair):
    image, reference = pair
    each = [float(metric(a, b)) for a, b in zip(image, reference, strict=True)]
    np.testing.assert_allclose(metric(image, reference), each, rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(metric)(image, reference), each, rtol=1e-5)
