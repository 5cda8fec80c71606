import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.color import rgb2ycbcr, rgb2yiq
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


LUMAS = {
    "luma": lambda x: rgb2yiq(x)[..., :1],
    "studio_luma": lambda x: rgb2ycbcr(x)[..., :1] / 255,
}


@pytest.mark.parametrize("channels", LUMAS)
def test_fidelity_of_luma_equals_scikit_image(pair, channels):
    image, reference = (LUMAS[channels](i.astype(np.float64)) for i in pair)
    psnr = [
        peak_signal_noise_ratio(b, a, data_range=1) for a, b in zip(image, reference, strict=True)
    ]
    np.testing.assert_allclose(metrics.psnr(*pair, channels=channels), psnr, atol=1e-4)
    mae = np.abs(image - reference).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(metrics.mae(*pair, channels=channels), mae, rtol=2e-6)


def test_psnr_in_levels_of_255_is_that_in_0_to_1(pair):
    image, reference = (255 * i for i in pair)
    for channels in ("rgb", "luma", "rounded_luma", "studio_luma"):
        levels = metrics.psnr(image, reference, channels=channels, data_range=255)
        np.testing.assert_allclose(levels, metrics.psnr(*pair, channels=channels), atol=1e-4)


def test_studio_range_adds_1_32_db(pair):
    gain = metrics.psnr(*pair, channels="studio_luma") - metrics.psnr(*pair, channels="luma")
    np.testing.assert_allclose(gain, 20 * np.log10(255 / 219), atol=1e-4)


def test_psnr_equals_pyiqa(recorded):
    for image, reference, values in recorded.values():
        # pyiqa adds 1e-8 to the mean square error.
        for name, channels in (("pyiqa.psnr", "rgb"), ("pyiqa.psnry", "luma")):
            error = 10 ** (-values[name] / 10) - 1e-8
            value = metrics.psnr(image, reference, channels=channels)
            np.testing.assert_allclose(value, -10 * np.log10(error), atol=1e-4)


def test_psnr_needs_a_positive_range(pair):
    with pytest.raises(ValueError, match="data_range is 0; expected a number > 0"):
        metrics.psnr(*pair, data_range=0)


def test_gt_mean_takes_the_references_mean_luma_and_keeps_ratios():
    rng = np.random.default_rng(0)
    image, reference = (
        rng.random((2, 9, 8, 3), np.float32) * 0.3,
        rng.random((2, 9, 8, 3), np.float32),
    )
    matched = np.asarray(metrics.gt_mean(image, reference), np.float64)
    luma = [0.299, 0.587, 0.114]
    for have, want, raw in zip(matched, reference, image, strict=True):
        scale = (want @ luma).mean() / (raw @ luma).mean()
        np.testing.assert_allclose(have, np.clip(raw * scale, 0, 1), atol=1e-5)
    np.testing.assert_array_equal(metrics.gt_mean(0 * image, reference), 0)
    with pytest.raises(ValueError, match="shape"):
        metrics.gt_mean(image, reference[:, :4])
