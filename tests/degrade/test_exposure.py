import jax
import numpy as np
import pytest
import skimage.color
import skimage.exposure

from lle_jax import degrade


def linear(image: np.ndarray) -> np.ndarray:
    """scikit-image's XYZ, turned back into linear RGB by its own matrix."""
    return skimage.color.rgb2xyz(image) @ np.linalg.inv(skimage.color.colorconv.xyz_from_rgb).T


def test_exposure_scales_the_linear_light_of_scikit_image(photographs):
    gain = np.array([0.1, 0.5], np.float32)
    dark = degrade.exposure(photographs, gain=gain)
    expected = linear(photographs) * gain[:, None, None, None]
    np.testing.assert_allclose(linear(np.asarray(dark)), expected, atol=2e-6)


def test_overexposure_clips_at_white(photographs):
    assert float(degrade.exposure(photographs, gain=50.0).max()) == pytest.approx(1, abs=1e-6)


def test_gamma_equals_scikit_image(photographs):
    expected = skimage.exposure.adjust_gamma(photographs, 1.7)
    np.testing.assert_allclose(degrade.gamma(photographs, gamma=1.7), expected, atol=1e-6)


def test_the_tone_curve_is_smoothstep_at_full_contrast_and_rises_everywhere(photographs):
    smoothstep = 3 * photographs**2 - 2 * photographs**3
    np.testing.assert_allclose(degrade.tone_curve(photographs, contrast=1.0), smoothstep, atol=1e-6)
    ramp = np.linspace(0, 1, 257, dtype=np.float32)[None, :, None]
    for contrast in (-1.0, -0.3, 0.4, 1.0):
        bent = np.asarray(degrade.tone_curve(ramp, contrast=contrast))[0, :, 0]
        assert (np.diff(bent) >= 0).all()
        np.testing.assert_allclose(bent[[0, 128, 256]], [0, 0.5, 1], atol=1e-6)
        assert (bent[64] < 0.25) == (contrast > 0)


def test_white_balance_scales_red_and_blue_in_linear_light(photographs):
    tinted = np.asarray(degrade.white_balance(photographs, red=0.8, blue=0.6))
    np.testing.assert_allclose(
        linear(tinted), linear(photographs) * np.array([0.8, 1, 0.6]), atol=2e-6
    )
    np.testing.assert_array_equal(tinted[..., 1], photographs[..., 1])


def test_grey_images_have_no_white_balance(photographs):
    grey = photographs[..., :1]
    np.testing.assert_array_equal(degrade.white_balance(grey, red=0.5, blue=2.0), grey)


def test_a_gain_at_its_identity_still_has_a_gradient(photographs):
    image, step = 0.9 * photographs, 1e-2  # below white, where clipping has a kink
    slope = jax.grad(lambda gain: degrade.exposure(image, gain=gain).mean())(1.0)
    rise = degrade.exposure(image, gain=1 + step) - degrade.exposure(image, gain=1 - step)
    assert float(slope) == pytest.approx(float(rise.mean()) / (2 * step), rel=1e-3)
