import jax
import numpy as np
import pytest
import skimage.data
from skimage.color import rgb2xyz
from skimage.measure import shannon_entropy

from lle_jax import colour, degrade
from lle_jax.artifacts import exposure


@pytest.fixture(scope="module")
def photo():
    return skimage.data.astronaut()[::4, ::4].astype(np.float32) / 255


def test_luminance_is_the_y_of_scikit_image(photo):
    # its matrix is given to six digits
    assert exposure(photo).luminance == pytest.approx(rgb2xyz(photo)[..., 1].mean(), rel=1e-4)


def test_entropy_is_that_of_scikit_image(photo):
    grey = photo[..., :1]
    levels = np.rint(grey * 255).astype(np.uint8)
    assert exposure(grey).entropy == pytest.approx(shannon_entropy(levels), abs=1e-4)


def test_clipped_fractions_and_contrast_of_a_known_image():
    image = np.full((10, 10, 1), 0.5, np.float32)
    image[:2], image[9] = 0, 1
    found = exposure(image)
    assert found.crushed == pytest.approx(0.2)
    assert found.saturated == pytest.approx(0.1)
    assert found.contrast == pytest.approx(np.std(image), rel=1e-5)


def test_an_even_grey_image_has_no_cast_and_no_unevenness():
    found = exposure(np.full((32, 40, 3), 0.3, np.float32))
    assert found.cast == pytest.approx(0, abs=1e-5)
    assert found.non_uniformity == pytest.approx(0, abs=1e-5)
    assert found.entropy == 0
    assert found.saturated == 0


def test_cast_and_unevenness_do_not_depend_on_exposure():
    ramp = np.linspace(0.05, 0.6, 64, dtype=np.float32)[None, :, None]
    linear = ramp * np.array([1, 0.8, 0.5], np.float32) * np.ones((48, 1, 1), np.float32)

    def srgb(x):
        return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)

    bright, dark = exposure(srgb(linear)), exposure(srgb(0.15 * linear))
    assert dark.luminance == pytest.approx(0.15 * float(bright.luminance), rel=1e-4)
    assert dark.cast == pytest.approx(float(bright.cast), rel=1e-4)
    assert bright.cast == pytest.approx(np.std([1, 0.8, 0.5]) / np.mean([1, 0.8, 0.5]), rel=1e-4)
    assert dark.non_uniformity == pytest.approx(float(bright.non_uniformity), rel=1e-4)
    assert bright.non_uniformity > 0.3


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7])
def test_over_a_black_part_the_darkest_is_the_share_of_a_veil(photo, share):
    image = photo[:96, :96].copy()
    image[32:40, 32:40] = 0  # tiles of 3 x 3 pixels, some of them inside
    light = degrade.veiling_glare(colour.srgb_to_linear(image), share=share)
    veiled = exposure(colour.linear_to_srgb(light))
    dimmed = exposure(colour.linear_to_srgb(0.1 * light))
    assert veiled.darkest == pytest.approx(share, abs=1e-3)
    assert dimmed.darkest == pytest.approx(share, abs=1e-3)


def test_the_darkest_of_an_even_image_is_its_mean():
    assert exposure(np.full((40, 50, 3), 0.3, np.float32)).darkest == pytest.approx(1, abs=1e-4)
    assert exposure(np.zeros((40, 50, 1), np.float32)).darkest == 0


def test_a_batch_under_jit_is_measured_image_by_image(photo):
    batch = np.stack([photo, 0.15 * photo])
    together = jax.jit(exposure)(batch)
    for index, image in enumerate(batch):
        for name, value in exposure(image)._asdict().items():
            np.testing.assert_allclose(getattr(together, name)[index], value, rtol=1e-4, atol=1e-6)


def test_a_black_image_has_finite_measures():
    assert np.isfinite(exposure(np.zeros((16, 16, 3), np.float32))).all()
    with pytest.raises(ValueError, match="dtype int"):
        exposure(np.zeros((16, 16, 3), np.int32))
