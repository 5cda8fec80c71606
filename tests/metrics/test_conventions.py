"""What every measure of an image pair promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.color import rgb2ycbcr, rgb2yiq

from lle_jax import metrics
from lle_jax.metrics.conventions import select

PAIRED = {
    "psnr": metrics.psnr,
    "mae": metrics.mae,
    "brightness_ratio": metrics.brightness_ratio,
    "ssim": metrics.ssim,
    "ms_ssim": metrics.ms_ssim,
    "ciede2000": metrics.ciede2000,
    "gmsd": metrics.gmsd,
    "vif": metrics.vif,
    "contrast_improvement_index": metrics.contrast_improvement_index,
    "lightness_order_error": metrics.lightness_order_error,
}
CHOOSE = ("psnr", "mae", "ssim", "ms_ssim", "gmsd", "vif")  # those with an argument `channels`
LOSSES = [n for n in PAIRED if n not in ("psnr", "contrast_improvement_index")]  # finite always
BY_NAME = pytest.mark.parametrize("name", PAIRED)


@pytest.fixture(scope="module")
def sized(pair):
    """Name -> the pair of two images, for MS-SSIM as large as five scales need."""
    large = tuple(np.pad(i, ((0, 0), (52, 52), (56, 56), (0, 0)), mode="symmetric") for i in pair)
    return {name: large if name == "ms_ssim" else pair for name in PAIRED}


@BY_NAME
def test_compiled_batched_and_mapped_values_equal_those_of_each_image(name, sized):
    metric, (images, references) = PAIRED[name], sized[name]
    values = jax.jit(metric)(images, references)
    each = np.array([metric(a, b) for a, b in zip(images, references, strict=True)])  # eager
    assert values.shape == (2,)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, each, rtol=2e-5)
    np.testing.assert_allclose(jax.jit(jax.vmap(metric))(images, references), each, rtol=2e-5)


@BY_NAME
def test_sixteen_bit_floats_are_measured_in_float32(name, sized):
    image, reference = (jnp.asarray(i[0], jnp.bfloat16) for i in sized[name])
    metric = jax.jit(PAIRED[name])
    wide = metric(image.astype(jnp.float32), reference.astype(jnp.float32))
    value = metric(image, reference)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, wide, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in PAIRED if name != "lightness_order_error"])
def test_gradients_equal_finite_differences(name, pair):
    with jax.enable_x64(True):
        side = 161 if name == "ms_ssim" else 48
        image, reference = (
            jnp.asarray(np.resize(i[0], (side, side, 3)).astype(np.float64)) for i in pair
        )
        metric = jax.jit(PAIRED[name])
        direction = np.random.default_rng(0).normal(size=image.shape)
        slope = jnp.vdot(jax.jit(jax.grad(metric))(image, reference), direction)
        ahead, behind = (metric(image + s * direction, reference) for s in (1e-6, -1e-6))
        np.testing.assert_allclose(slope, (ahead - behind) / 2e-6, rtol=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_finite_at_equal_black_white_and_grey_images(name):
    side = 161 if name == "ms_ssim" else 48
    ramp = jnp.linspace(0, 1, side * side).reshape(side, side, 1) * jnp.ones(3)
    flat = [jnp.full((side, side, 3), level) for level in (0.0, 1.0, 0.5)]
    slope = jax.jit(jax.grad(PAIRED[name]))
    for image, reference in ((ramp, ramp), (flat[0], ramp), (flat[2], flat[2]), (flat[1], flat[0])):
        assert np.isfinite(slope(image, reference)).all()


@BY_NAME
def test_unlike_pairs_are_refused(name):
    metric, flat = PAIRED[name], jnp.full((16, 16, 3), 0.5)
    with pytest.raises(ValueError, match=r"image has shape .* but reference has"):
        metric(flat, flat[:, :, :1])
    with pytest.raises(ValueError, match=r"dtype uint8; expected floating point"):
        metric((255 * flat).astype(jnp.uint8), flat)
    with pytest.raises(ValueError, match=r"1 or 3 channels"):
        metric(flat[..., 0], flat[..., 0])


@pytest.mark.parametrize("name", CHOOSE)
def test_unknown_channels_are_refused(name):
    flat = jnp.full((16, 16, 3), 0.5)
    with pytest.raises(ValueError, match=r"channels is 'ycbcr'; expected one of rgb, luma, "):
        PAIRED[name](flat, flat, channels="ycbcr")


@pytest.mark.parametrize(
    ("name", "least"),
    [("ssim", 11), ("ms_ssim", 161), ("gmsd", 4), ("vif", 41), ("contrast_improvement_index", 3)],
)
def test_images_that_are_too_small_are_refused_with_the_size_needed(name, least):
    small = jnp.zeros((least - 1, 200, 3))
    with pytest.raises(ValueError, match=rf"{least - 1}x200 pixels; .* at least {least}x{least}"):
        PAIRED[name](small, small)
    enough = jnp.full((least, least, 1), 0.5).at[0, 0].set(0)
    assert np.isfinite(jax.jit(PAIRED[name])(enough, enough))


def test_luma_equals_scikit_image(photographs):
    wide = photographs.astype(np.float64)
    luma, studio = rgb2yiq(wide)[..., :1], rgb2ycbcr(wide)[..., :1] / 255
    np.testing.assert_allclose(select(photographs, "luma"), luma, atol=2e-7)
    np.testing.assert_allclose(select(photographs, "studio_luma"), studio, atol=2e-7)
    rounded = np.asarray(select(photographs, "rounded_luma"))
    assert (np.rint(255 * luma) != np.rint(255 * rounded)).mean() < 1e-3  # ties
    np.testing.assert_allclose(rounded, np.rint(255 * rounded) / 255, atol=1e-7)
    # In levels of 0 to 255 the same, where white is 255.
    np.testing.assert_allclose(
        select(255 * photographs, "studio_luma", 255), 255 * studio, atol=1e-4
    )
    grey = photographs[..., :1]
    np.testing.assert_allclose(select(grey, "luma"), grey)
    np.testing.assert_allclose(select(grey, "studio_luma"), (16 + 219 * grey) / 255, atol=1e-7)


def test_rounding_of_luma_passes_the_gradient_of_luma(photographs):
    slope = jax.grad(lambda x: select(x, "rounded_luma").sum())(photographs[0])
    np.testing.assert_allclose(
        slope, np.broadcast_to([0.299, 0.587, 0.114], slope.shape), rtol=1e-6
    )


@pytest.mark.parametrize("level", [0, 3])
def test_rounded_luma_is_exact_in_eight_bit_images_however_compiled(level):
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3))
    thousandths = pixels @ [299, 587, 114]
    assert np.sum(thousandths % 1000 == 500) > 50
    rounded = jax.jit(
        lambda x: 255 * select(x, "rounded_luma"),
        compiler_options={
            "xla_backend_optimization_level": level,
            "xla_cpu_use_fusion_emitters": level == 3,
        },
    )(pixels.astype(np.float32) / 255)
    np.testing.assert_allclose(rounded[..., 0], np.rint(thousandths / 1000), atol=1e-3)


HARM = (
    "structure_change",
    "spot_change",
    "line_change",
    "hallucination_rate",
    "background_colour_shift",
)


@pytest.mark.parametrize("name", [*PAIRED, *HARM])
def test_a_pixel_that_is_nan_is_never_perfect(name, sized):
    measure = getattr(metrics, name)
    image, reference = (np.array(each[0]) for each in sized[name if name in PAIRED else "ssim"])
    damaged = image.copy()
    damaged[20, 20, 1] = np.nan
    for pair in ((damaged, reference), (image, damaged)):
        found = [value for value in jax.tree.leaves(measure(*pair)) if value.ndim == 0]
        assert found
        assert np.isnan(found).all()
