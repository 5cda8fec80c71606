import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.color import rgb2ycbcr, rgb2yiq
from skimage.metrics import structural_similarity

from lle_jax import metrics
from lle_jax.metrics import filters


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
        value = metrics.ssim(image, reference, window=metrics.UNIFORM_7, unbiased=True)
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
    local = metrics.ssim_map(*pair)
    assert local.shape == (2, 54, 54, 3)
    np.testing.assert_allclose(metrics.ssim(*pair), local.mean(axis=(1, 2, 3)), rtol=1e-6)


def test_ssim_beside_a_black_border_keeps_its_precision(recorded):
    image, reference, _ = recorded["black border"]
    expected = scikit_image(image, reference, **PAPER)
    np.testing.assert_allclose(metrics.ssim(image, reference), expected, atol=1e-6)


def test_ssim_with_gaussian_weights_and_sample_covariance_equals_scikit_image(pair):
    for image, reference in zip(*pair, strict=True):
        value = metrics.ssim(image, reference, unbiased=True)
        expected = scikit_image(image, reference, gaussian_weights=True, sigma=1.5)
        np.testing.assert_allclose(value, expected, atol=1e-6)


@pytest.mark.parametrize("options", [PAPER, {}])
def test_ssim_of_luma_equals_scikit_image(pair, options):
    ours = {} if options else {"window": metrics.UNIFORM_7, "unbiased": True}
    for image, reference in zip(*pair, strict=True):
        for channels, luma in (("luma", rgb2yiq), ("studio_luma", rgb2ycbcr)):
            scale = 255 if channels == "studio_luma" else 1
            a, b = (luma(i.astype(np.float64))[..., :1] / scale for i in (image, reference))
            value = metrics.ssim(image, reference, channels=channels, **ours)
            np.testing.assert_allclose(value, scikit_image(a, b, **options), atol=1e-6)


def test_ssim_in_levels_of_255_is_that_in_0_to_1(pair):
    image, reference = (255 * i for i in pair)
    for channels in ("rgb", "studio_luma"):
        levels = metrics.ssim(image, reference, channels=channels, data_range=255)
        np.testing.assert_allclose(levels, metrics.ssim(*pair, channels=channels), atol=2e-6)


def test_ssim_equals_piq(recorded):
    # piq first halves images whose shorter side is 384 or more; these are smaller.
    ssim = jax.jit(metrics.ssim)
    for image, reference, values in recorded.values():
        np.testing.assert_allclose(ssim(image, reference), values["piq.ssim"], atol=1e-6)


def test_ssim_equals_pyiqa_where_it_clips_nothing(recorded):
    # pyiqa sets negative local structure to 0, which these pairs hardly have.
    ssim, luma = jax.jit(metrics.ssim), functools.partial(metrics.ssim, channels="rounded_luma")
    for name in ("noise", "dark", "black border"):
        image, reference, values = recorded[name]
        np.testing.assert_allclose(ssim(image, reference), values["pyiqa.ssimc"], atol=1e-6)
        value = jax.jit(luma)(image, reference)
        np.testing.assert_allclose(value, values["pyiqa.ssim"], atol=5e-6)


def test_ssim_names_the_size_it_needs():
    with pytest.raises(ValueError, match=r"10x12 pixels; SSIM .* at least 11x11"):
        metrics.ssim(jnp.zeros((10, 12, 3)), jnp.zeros((10, 12, 3)))


def test_ssim_needs_a_positive_range(pair):
    for metric in (metrics.ssim, metrics.ms_ssim):
        with pytest.raises(ValueError, match="data_range is -1; expected a number > 0"):
            metric(*pair, data_range=-1)


def test_ms_ssim_equals_pyiqa(recorded):
    ms_ssim = jax.jit(
        functools.partial(metrics.ms_ssim, channels="rounded_luma", convention="pyiqa")
    )
    for image, reference, values in recorded.values():
        np.testing.assert_allclose(ms_ssim(image, reference), values["pyiqa.ms_ssim"], atol=5e-6)


def test_ms_ssim_of_even_sides_equals_piq(recorded):
    ms_ssim = jax.jit(metrics.ms_ssim)
    for name in ("noise", "dark", "black border"):
        image, reference, values = recorded[name]
        expected = values["piq.multi_scale_ssim"]
        np.testing.assert_allclose(ms_ssim(image, reference), expected, atol=2e-6)


def test_halving_repeats_the_last_pixels_of_odd_sides(recorded):
    image = recorded["odd sides"][0]
    even = np.pad(image, ((0, 1), (0, 1), (0, 0)), mode="edge")
    by_hand = even.reshape(81, 2, 97, 2, 3).mean((1, 3))
    np.testing.assert_allclose(filters.halve(jnp.asarray(image), "edge"), by_hand, atol=1e-6)
    np.testing.assert_allclose(filters.halve(jnp.asarray(even), "edge"), by_hand, atol=1e-6)


def test_ms_ssim_of_a_negative_is_zero_with_gradient_zero(recorded):
    _, reference, _ = recorded["one channel"]
    value, slope = jax.jit(jax.value_and_grad(metrics.ms_ssim))(1 - reference, reference)
    assert value == 0
    assert not slope.any()


def test_ms_ssim_knows_its_conventions(recorded):
    image, reference, _ = recorded["one channel"]
    with pytest.raises(ValueError, match="convention is 'matlab'; expected 'wang' or 'pyiqa'"):
        metrics.ms_ssim(image, reference, convention="matlab")
