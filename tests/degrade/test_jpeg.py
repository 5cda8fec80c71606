"""JPEG against libjpeg-turbo as Pillow and OpenCV ship it, and the rule of its gradient."""

import io

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from PIL import Image

from lle_jax.degrade.jpeg import jpeg, jpeg_surrogate, jpeg_uint8

QUALITIES = (5, 10, 30, 50, 75, 90, 95, 100)
SIZES = ((8, 8), (17, 9), (37, 41), (250, 333), (255, 256), (258, 130), (512, 512))
FACTORS = {
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
}


def contents(height, width):
    """Photographs, one darkened, and noise: uint8 `[4, height, width, 3]`."""
    retina = skimage.data.retina()[300 : 300 + height, 300 : 300 + width]
    tissue = skimage.data.immunohistochemistry()[:height, :width]
    noise = np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.stack([retina, tissue, (0.15 * tissue).astype(np.uint8), noise])


def opencv(image, quality, subsampling):
    factor = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, FACTORS[subsampling]]
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality, *factor])
    flag = cv2.IMREAD_GRAYSCALE if image.shape[-1] == 1 else cv2.IMREAD_COLOR
    return cv2.imdecode(data, flag).reshape(image.shape)[..., ::-1]


def pillow(image, quality, subsampling):
    data = io.BytesIO()
    pixels = image[..., 0] if image.shape[-1] == 1 else image
    Image.fromarray(pixels).save(data, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(data)).reshape(image.shape)


def assert_equal_to_both(images, quality, subsampling):
    ours = np.asarray(jpeg_uint8(images, quality, subsampling))
    for image, result in zip(images, ours, strict=True):
        np.testing.assert_array_equal(result, pillow(image, quality, subsampling))
        np.testing.assert_array_equal(result, opencv(image, quality, subsampling))


@pytest.fixture(scope="module")
def photo():
    """A float photograph with saturated and black pixels, `[37, 41, 3]`."""
    pixels = skimage.data.astronaut()[:370:10, 100:510:10].astype(np.float32) / 255
    return jnp.asarray(pixels)


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_colour_equals_opencv_and_pillow_to_the_level(size, subsampling):
    images = contents(*size)
    for quality in QUALITIES:
        assert_equal_to_both(images, quality, subsampling)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_grey_equals_opencv_and_pillow_to_the_level(size):
    images = contents(*size)[..., 1:2]
    for quality in QUALITIES:
        assert_equal_to_both(images, quality, "4:2:0")


# Two chroma columns or fewer are repeated, not interpolated; one row has no neighbour.
@pytest.mark.parametrize("size", [(1, 1), (3, 4), (4, 5), (1, 20), (24, 31)], ids=str)
def test_sizes_at_which_upsampling_changes_its_rule(size):
    images = contents(*size)
    for quality in (20, 80, 100):
        assert_equal_to_both(images, quality, "4:2:0")


def test_every_quality_equals_opencv_and_pillow():
    images = contents(16, 16)
    images[2] = 255 * (images[3] > 127)  # the largest coefficients
    for quality in range(1, 101):
        assert_equal_to_both(images, quality, "4:2:0")


def test_float_result_is_a_level_over_255_of_the_nearest_levels():
    image = jnp.linspace(-0.2, 1.2, 24 * 17 * 3).reshape(24, 17, 3)
    levels = np.rint(np.clip(np.asarray(image), 0, 1) * 255).astype(np.uint8)
    expected = pillow(levels, 60, "4:2:0").astype(np.float32) / np.float32(255)
    np.testing.assert_allclose(jpeg(image, 60), expected, rtol=1e-7, atol=0)


def test_quality_may_differ_per_image_and_vmap_equals_the_loop(photo):
    images = jnp.stack([photo, photo[::-1], 0.2 * photo])
    qualities = jnp.array([10, 55, 97])
    loop = jnp.stack([jpeg(image, q) for image, q in zip(images, qualities, strict=True)])
    assert not np.array_equal(loop[0], jpeg(photo, 55))
    np.testing.assert_array_equal(jpeg(images, qualities), loop)
    np.testing.assert_array_equal(jax.vmap(jpeg)(images, qualities), loop)
    by_quality = jax.vmap(jpeg, in_axes=(None, 0))(photo, qualities)
    np.testing.assert_array_equal(by_quality[0], loop[0])


def test_any_batch_rank_and_a_traced_quality(photo):
    images = jnp.stack([photo, photo[::-1], photo[:, ::-1], 0.2 * photo])
    expected = jpeg(images, 40)
    pairs = jax.jit(jpeg)(images.reshape(2, 2, *photo.shape), 40)
    np.testing.assert_array_equal(pairs.reshape(images.shape), expected)
    np.testing.assert_array_equal(jpeg(photo, 40), expected[0])


def test_jit_equals_eager():
    image = contents(16, 16)[:2]
    with jax.disable_jit():
        eager = jpeg_uint8(image, 40)
    np.testing.assert_array_equal(jpeg_uint8(image, 40), eager)


def test_fractional_quality_is_rounded_and_traced_quality_clipped(photo):
    np.testing.assert_array_equal(jpeg(photo, 39.6), jpeg(photo, 40))
    np.testing.assert_array_equal(jax.jit(jpeg)(photo, 300), jpeg(photo, 100))
    np.testing.assert_array_equal(jax.jit(jpeg)(photo, -3), jpeg(photo, 1))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_dtype_is_kept(photo, dtype):
    image = photo.astype(dtype)
    result = jpeg(image, 75)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, jpeg(image.astype(jnp.float32), 75).astype(dtype))


def test_float64_gives_the_same_levels(photo):
    expected = np.asarray(jpeg(photo, 75))
    with jax.enable_x64(True):
        result = jpeg(jnp.asarray(np.asarray(photo), jnp.float64), 75)
        assert result.dtype == jnp.float64
    np.testing.assert_allclose(result, expected, rtol=1e-7)


def test_uniform_grey_survives_and_error_falls_with_quality(photo):
    flat = jnp.full((9, 20, 3), 77 / 255, jnp.float32)
    np.testing.assert_array_equal(jpeg(flat, 100), flat)
    errors = [float(jnp.mean((jpeg(photo, q, "4:4:4") - photo) ** 2)) for q in (5, 30, 75, 100)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < (1 / 255) ** 2


def test_compressing_again_at_the_same_quality_changes_little(photo):
    once = jpeg(photo, 50, "4:4:4")
    again = jpeg(once, 50, "4:4:4")
    assert float(jnp.mean((again - once) ** 2)) < 0.05 * float(jnp.mean((once - photo) ** 2))


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
def test_surrogate_is_the_codec_without_rounding(photo, subsampling):
    image = 0.2 + 0.6 * photo  # no clipping
    apart = 255 * jnp.abs(jpeg(image, 100, subsampling) - jpeg_surrogate(image, subsampling))
    assert float(jnp.max(apart)) < 4
    assert float(jnp.mean(apart)) < 0.7
    if subsampling == "4:2:0":  # and the smoothing of chroma is no small part of it
        assert 255 * float(jnp.max(jnp.abs(image - jpeg_surrogate(image)))) > 20


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
def test_gradient_equals_finite_differences_of_the_surrogate(photo, subsampling):
    with jax.enable_x64(True):
        image = jnp.asarray(np.asarray(photo[:9, :11]), jnp.float64)
        weights, direction = np.random.default_rng(3).standard_normal((2, *image.shape))

        def loss(function, x):
            return jnp.sum(weights * function(x))

        gradient = jax.grad(lambda x: loss(lambda y: jpeg(y, 40, subsampling), x))(image)
        ahead, behind = (
            loss(lambda y: jpeg_surrogate(y, subsampling), image + step * direction)
            for step in (1e-4, -1e-4)
        )
        along = jnp.sum(gradient * direction)
        np.testing.assert_allclose(along, (ahead - behind) / 2e-4, rtol=1e-8)


def test_gradient_of_a_grey_image_is_the_identity_and_of_quality_zero(photo):
    grey = photo[..., :1]
    gradient, slope = jax.grad(lambda x, q: jnp.sum(jpeg(x, q)), argnums=(0, 1))(grey, 30.0)
    np.testing.assert_array_equal(gradient, jnp.ones_like(grey))
    assert slope == 0


@pytest.mark.parametrize("quality", [0, 101, -1, float("nan"), np.array([50, 0])])
def test_quality_out_of_range_is_named(photo, quality):
    with pytest.raises(ValueError, match="quality"):
        jpeg(jnp.stack([photo, photo]), quality)


def test_other_bad_arguments_are_named(photo):
    with pytest.raises(ValueError, match="subsampling is '4:1:1'"):
        jpeg(photo, 50, "4:1:1")
    with pytest.raises(ValueError, match="subsampling"):
        jpeg_surrogate(photo, "4:2:2")
    with pytest.raises(ValueError, match="quality has shape"):
        jpeg(photo, jnp.array([50, 60]))
    with pytest.raises(ValueError, match="image has dtype uint8"):
        jpeg(jnp.zeros((8, 8, 3), jnp.uint8), 50)
    with pytest.raises(ValueError, match="image has dtype float32"):
        jpeg_uint8(photo, 50)
    with pytest.raises(ValueError, match="image has shape"):
        jpeg_uint8(jnp.zeros((8, 8, 4), jnp.uint8), 50)
