"""Lines that are planted are measured, and what is no line is not."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
import skimage.filters
import skimage.morphology

from lle_jax import metrics

SIDE = 192
LENGTH = 30  # of each planted vessel, and 16 of them
change = jax.jit(metrics.line_change)


@pytest.fixture(scope="module")
def flat():
    return np.full((SIDE, SIDE, 3), 0.5, np.float32)


def grid():
    return [(28 + 40 * (i // 4), 28 + 40 * (i % 4)) for i in range(16)]


def vessels(image, contrast, width, length=LENGTH):
    """Sixteen parabolas in random directions, drawn at four times the size."""
    mask, rng = np.zeros((4 * SIDE, 4 * SIDE), np.uint8), np.random.default_rng(0)
    for row, column in grid():
        angle, bend = rng.uniform(0, np.pi), rng.uniform(-0.01, 0.01)
        along = np.linspace(-length / 2, length / 2, 60)
        across = bend * along**2
        x = column + np.cos(angle) * along - np.sin(angle) * across
        y = row + np.sin(angle) * along + np.cos(angle) * across
        points = np.rint(4 * np.stack([x, y], axis=1) + 1.5).astype(np.int32)
        cv2.polylines(mask, [points], False, 255, 4 * width)
    small = cv2.resize(mask.astype(np.float32) / 255, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return (image * (1 + contrast * cv2.GaussianBlur(small, (0, 0), 0.6)[..., None])).astype("f4")


def dots(image, contrast, radius):
    rows, columns = np.mgrid[:SIDE, :SIDE]
    total = sum(
        1 / (1 + np.exp((np.hypot(rows - row, columns - column) - radius) / 0.5))
        for row, column in grid()
    )
    return (image * (1 + contrast * total[..., None])).astype(np.float32)


def jpeg(image, quality):
    levels = np.rint(255 * image).astype(np.uint8)
    data = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR).astype(np.float32) / 255


def pixels(result):
    """Lengths in pixels, of the rates per megapixel where all of the image is in the field."""
    return np.array([float(value) * SIDE * SIDE / 1e6 for value in result[:4]])


@pytest.mark.parametrize("width", [2, 3, 5])
@pytest.mark.parametrize("contrast", [-0.3, -0.15, 0.2])
def test_planted_vessels_are_added_and_erased_ones_lost(fundus, contrast, width):
    planted = vessels(fundus, contrast, width)
    result = change(planted, fundus)
    kind = 0 if contrast < 0 else 2
    lengths = pixels(result)
    assert 0.7 * 16 * LENGTH <= lengths[kind] <= 1.15 * 16 * LENGTH
    assert lengths.sum() - lengths[kind] <= 0.03 * 16 * LENGTH
    found = np.asarray(result.added_map)
    assert all(found[r - 4 : r + 5, c - 4 : c + 5].any() for r, c in grid())
    np.testing.assert_allclose(pixels(change(fundus, planted))[kind + 1], lengths[kind])


def test_the_fainter_the_shorter_down_to_the_contrast_asked_for(flat):
    lengths = [pixels(change(vessels(flat, -c, 3), flat))[0] for c in (0.3, 0.1, 0.05)]
    assert lengths[0] >= lengths[1] > 0.7 * 16 * LENGTH
    assert lengths[2] == 0
    sensitive = change(vessels(flat, -0.05, 3), flat, contrast=0.03)
    assert pixels(sensitive)[0] > 0.6 * 16 * LENGTH


def test_length_agrees_with_the_skeleton_of_scikit_images_ridge_filter(flat):
    planted = vessels(flat, -0.25, 3)
    ridges = skimage.filters.sato(planted[..., 0], sigmas=(1, 1.6, 2.5), black_ridges=True)
    skeleton = skimage.morphology.skeletonize(ridges > 0.4 * ridges.max())
    # Steps of a skeleton are 1 or sqrt(2) long.
    straight = (skeleton[1:] & skeleton[:-1]).sum() + (skeleton[:, 1:] & skeleton[:, :-1]).sum()
    slanted = (skeleton[1:, 1:] & skeleton[:-1, :-1]).sum()
    slanted += (skeleton[1:, :-1] & skeleton[:-1, 1:]).sum()
    expected = straight + np.sqrt(2) * slanted
    np.testing.assert_allclose(pixels(change(planted, flat))[0], expected, rtol=0.15)


@pytest.mark.parametrize("radius", [2, 3, 5])
@pytest.mark.parametrize("contrast", [-0.3, 0.25])
def test_dots_are_no_lines(fundus, flat, contrast, radius):
    assert pixels(change(dots(flat, contrast, radius), flat)).sum() == 0
    # one dot of the sixteen is on a vessel and bends it
    assert pixels(change(dots(fundus, contrast, radius), fundus)).sum() <= 16


def test_edges_and_wide_shapes_are_no_lines(flat):
    edges = flat.copy()
    edges[:, 96:] *= 0.5
    edges[120:] *= 0.6
    cv2.line(edges, (20, 20), (60, 80), (0.9,) * 3, 30, cv2.LINE_AA)
    for image in (edges, cv2.GaussianBlur(edges, (0, 0), 1)):
        assert pixels(change(image, flat)).sum() <= 2


@pytest.mark.parametrize("channels", [1, 3])
def test_moderate_noise_is_no_line(fundus, flat, channels):
    noise = np.random.default_rng(1).normal(0, 0.03, (SIDE, SIDE, channels)).astype(np.float32)
    for image in (fundus, flat):
        assert pixels(change(image + noise, image)).sum() <= 3


@pytest.mark.parametrize("gain", [1.0, 0.2])
@pytest.mark.parametrize("quality", [10, 30])
def test_blocks_of_jpeg_are_no_lines(quality, gain):
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    smooth = 0.35 + 0.25 * np.sin(5 * y + 2 * x) * np.cos(3 * x)
    smooth = (gain * smooth[..., None] * [1, 0.8, 0.6]).astype(np.float32)
    assert np.abs(jpeg(smooth, quality) - smooth).max() > 0.01
    assert pixels(change(jpeg(smooth, quality), smooth)).sum() == 0


def test_specular_highlights_are_no_lines(fundus):
    shining = fundus.copy()
    for row, column in grid():
        cv2.line(shining, (column - 10, row), (column + 10, row + 5), (1.0,) * 3, 3, cv2.LINE_AA)
    assert pixels(change(shining, fundus)).sum() <= 2  # a highlight hides part of a vessel


def test_brightness_and_tone_change_nothing(fundus):
    shade = np.linspace(0.4, 1, SIDE, dtype=np.float32)[:, None, None]
    for other in (fundus, 0.5 * fundus, fundus * shade, fundus**0.8):
        assert pixels(change(other, fundus)).sum() == 0
    planted = vessels(fundus, -0.25, 3)
    expected = pixels(change(planted, fundus))[0]
    np.testing.assert_allclose(pixels(change(0.6 * planted, fundus))[0], expected, rtol=0.05)


def test_outside_the_field_of_view_nothing_is_measured():
    black = np.zeros((SIDE, SIDE, 1), np.float32)
    assert pixels(change(vessels(black + 0.02, -0.3, 3), black)).sum() == 0


def test_grey_images_are_measured_as_their_luma(flat):
    planted = vessels(flat, 0.2, 3)
    np.testing.assert_allclose(
        pixels(change(planted[..., :1], flat[..., :1])), pixels(change(planted, flat)), rtol=0.01
    )


def test_compiled_batched_and_mapped_values_equal_those_of_each_image(fundus):
    images = jnp.stack([vessels(fundus, -0.3, 3), vessels(fundus, 0.2, 4)])[:, :64, :96]
    references = jnp.stack([fundus, fundus])[:, :64, :96]
    batch = change(images, references)
    mapped = jax.jit(jax.vmap(metrics.line_change))(images, references)
    for i in range(2):
        alone = metrics.line_change(images[i], references[i])
        for one, many, each in zip(alone[:4], batch[:4], mapped[:4], strict=True):
            # a pixel on the border of a criterion may differ by rounding
            np.testing.assert_allclose(many[i], one, rtol=0.02)
            np.testing.assert_allclose(each[i], one, rtol=0.02)
        for one, many, each in zip(alone[4:], batch[4:], mapped[4:], strict=True):
            assert np.mean(np.asarray(many[i]) != one) < 1e-3
            assert np.mean(np.asarray(each[i]) != one) < 1e-3


def test_bad_arguments_are_refused(flat):
    with pytest.raises(ValueError, match="must be equal"):
        metrics.line_change(flat, flat[:-1])
    with pytest.raises(ValueError, match="1 or 3 channels"):
        metrics.line_change(flat[..., 0], flat[..., 0])
    with pytest.raises(ValueError, match="contrast is 2"):
        metrics.line_change(flat, flat, contrast=2)
