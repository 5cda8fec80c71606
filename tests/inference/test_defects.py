import itertools

import numpy as np
import pytest
import skimage.data

from lle_jax import metrics
from lle_jax.inference import defects, enhance, frames


@pytest.fixture(scope="module")
def retina():
    image = skimage.data.retina()[300:556, 500:756]
    return image.astype(np.float32) / 255


def dimmed(image, light=0.1, noise=0.01, seed=0):
    """A tenth of the light (sRGB), with noise, of 8 bits."""
    linear = np.where(image > 0.04045, ((image + 0.055) / 1.055) ** 2.4, image / 12.92) * light
    display = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    display += np.random.default_rng(seed).normal(0, noise, image.shape)
    return (np.round(255 * np.clip(display, 0, 1)) / 255).astype(np.float32)


def with_impulses(image, salt, pepper=0.0, seed=1):
    drawn = np.random.default_rng(seed).random((*image.shape[:2], 1))
    return np.where(drawn < salt, 1, np.where(drawn > 1 - pepper, 0, image)).astype(np.float32)


def reference(image):
    """The same, pixel by pixel: the image without its defects."""
    out = image.copy()
    for channel in range(image.shape[-1]):
        plane = np.pad(image[..., channel], 3, mode="reflect").astype(np.float64)

        def ring(y, x, plane=plane):
            return sorted(
                (plane[y + dy, x + dx], y + dy, x + dx)
                for dy, dx in itertools.product((-1, 0, 1), repeat=2)
                if dy or dx
            )

        def beyond(y, x, number, sign, ring=ring, plane=plane):
            """Is it so far from all but `number` of its neighbours?"""
            values = [value for value, _, _ in ring(y, x)]
            away = defects.SPREADS * (values[6] - values[1]) + defects.LEAST
            limit = values[7 - number] if sign > 0 else values[number]
            return sign * (plane[y, x] - limit) > away

        for y, x in np.ndindex(image.shape[:2]):
            around = ring(y + 3, x + 3)
            for sign, (_, *nearest) in ((1, around[7]), (-1, around[0])):
                single = beyond(y + 3, x + 3, 0, sign)
                pair = beyond(y + 3, x + 3, 1, sign) and beyond(*nearest, 1, sign)
                if single or pair:
                    out[y, x, channel] = (around[3][0] + around[4][0]) / 2
    return out


@pytest.mark.parametrize("shape", [(130, 40, 3), (64, 31, 1), (65, 3, 3), (1, 9, 1), (1, 1, 3)])
def test_defects_are_those_of_an_independent_ranking(shape):
    rng = np.random.default_rng(0)
    image = (0.2 + 0.1 * rng.random(shape)).astype(np.float32)
    image[rng.random(shape) < 0.03] = 1
    image[rng.random(shape) < 0.03] = 0
    expected = reference(image)
    mended = image.copy()
    found = defects.mend(mended)
    np.testing.assert_allclose(mended, expected, atol=1e-7)
    changed = np.nonzero(expected != image)
    assert set(zip(*found.places, strict=True)) == set(zip(*changed, strict=True))
    np.testing.assert_allclose(found.change, (image - mended)[found.places], atol=1e-7)
    assert image.size < 1000 or np.mean(mended[image == 1] < 1) > 0.8
    np.testing.assert_array_equal(defects.mended(image), mended)


def test_structure_is_no_defect():
    image = np.full((40, 40, 1), 0.3, np.float32)
    image[5:7, 5:7] = 1  # two pixels wide
    image[20, 3:6] = 1  # one wide, three long
    image[np.arange(25, 35), np.arange(25, 35)] = 0  # one wide, slanting
    image[:, 15] = 0.9
    image[30:, :10] = 0
    assert not defects.mend(image).change.size


@pytest.mark.parametrize("place", [(0, 0), (0, 7), (12, 0), (63, 30), (64, 30), (129, 29)])
@pytest.mark.parametrize("value", [0, 1])
def test_one_pixel_is_a_defect_also_at_the_borders_and_between_strips(place, value):
    image = np.full((130, 31, 3), 0.4, np.float32)
    image[place] = value
    assert len(defects.mend(image).change) == 3
    np.testing.assert_array_equal(image, np.float32(0.4))


def test_a_pair_is_a_defect_and_grey_stays_grey(retina):
    grey = np.repeat(retina.mean(axis=-1, keepdims=True), 3, axis=-1).astype(np.float32) * 0.3
    grey[50, 60:62] = 1
    mended = defects.mended(grey)
    assert mended[50, 60:62].max() < 0.4
    np.testing.assert_array_equal(mended, np.repeat(mended[..., :1], 3, axis=-1))


def test_noise_and_sharp_photographs_have_next_to_none():
    rng = np.random.default_rng(0)
    for noise in (0.01, 0.03, 0.1):
        flat = np.clip(0.5 + rng.normal(0, noise, (300, 300, 3)), 0, 1).astype(np.float32)
        assert len(defects.mend(flat).change) < 0.01 * flat.size
    for name in ("astronaut", "immunohistochemistry", "coffee"):
        image = getattr(skimage.data, name)().astype(np.float32) / 255
        assert defects.mend(image).share(1.0) == 0


def test_few_are_given_back_bit_for_bit_and_many_are_not(retina):
    """In a picture that counts as of 250,000 values, three of each point."""
    for count, share in ((1, 0), (6, 0), (10, 0.5), (14, 1)):
        image = with_points(0.5 * retina, count)
        work = image.copy()
        found = defects.mend(work)
        assert len(found.change) == 3 * count
        assert found.share(1.0) == pytest.approx(share)
        mended = work.copy()
        defects.put_back(work, found, found.share(1.0))
        np.testing.assert_allclose(work, share * mended + (1 - share) * image, atol=1e-6)
        work = mended
        defects.put_back(work, found, 0.0)
        np.testing.assert_array_equal(work, image)


def test_the_share_goes_by_the_size_and_by_what_else_the_image_needs(retina):
    dotted = with_points(0.5 * retina, 10)
    found = [defects.mend(np.tile(dotted, (n, n, 1))) for n in (1, 2)]
    assert [each.density for each in found] == pytest.approx([30 / 0.25, 120 / 0.786432])
    assert [each.share(1.0) for each in found] == pytest.approx([0.5, 0.9073], abs=1e-3)
    large = np.tile(retina, (3, 3, 1))
    large[100, 100:180:4] = 1
    assert defects.mend(large).share(1.0) == 0
    many = defects.mend(with_points(0.5 * retina, 60))
    shares = [many.share(corrected) for corrected in (0, 0.25, 0.5, 1)]
    assert shares == pytest.approx([0.5, 1, 1, 1])
    assert found[0].share(0.9) < found[0].share(1.0)


def with_points(image, count):
    image = image.copy()
    places = np.random.default_rng(3).permutation(60 * 60)[:count]
    image[4 * (places // 60) + 5, 4 * (places % 60) + 5] = 1
    return image


def test_hot_pixels_do_not_become_spots(net, retina):
    low = dimmed(retina)
    dotted = with_impulses(low, 0.003)
    plain, out = (enhance.enhance_pixels(net, image)[0] for image in (low, dotted))
    spots, added = (float(metrics.spot_change(x, retina).bright_added) for x in (plain, out))
    assert added <= spots + 40  # per megapixel; 2,000 where the network itself must see to it
    assert metrics.psnr(out, plain) > 38


def test_impulses_cost_little(net, retina):
    low = dimmed(retina)
    plain, out = (
        enhance.enhance_pixels(net, image)[0] for image in (low, with_impulses(low, 0.025, 0.025))
    )
    assert metrics.psnr(out, plain) > 29


def test_a_picture_that_needs_nothing_else_is_mended_by_the_strength(net, retina):
    dotted = with_impulses(retina, 0.003)
    for strength in (0.5, 1.0):
        out, unchanged = enhance.enhance_pixels(net, dotted, strength)
        work = dotted.copy()
        found = defects.mend(work)
        assert not unchanged
        np.testing.assert_allclose(out, strength * work + (1 - strength) * dotted, atol=1e-6)
        assert found.share(0.0) == 1
    few = with_points(retina, 30)
    out, unchanged = enhance.enhance_pixels(net, few)
    assert unchanged
    np.testing.assert_array_equal(out, few)


def test_few_points_stay_points(net, retina):
    """As of burned-in text: what they had more than their surroundings, they have still."""
    low = dimmed(retina)
    pointed = low.copy()
    pointed[60, 80] = 1
    plain, out = (enhance.enhance_pixels(net, image)[0] for image in (low, pointed))
    assert out[60, 80].min() > 0.98
    apart = np.abs(out - plain).max(axis=-1)
    apart[60, 80] = 0
    assert apart.max() < 0.02


def test_frames_are_mended_too(net, retina):
    clean = [dimmed(retina, seed=number) for number in range(3)]
    dotted = [with_impulses(frame, 0.003) for frame in clean]
    plain, out = (
        np.stack(list(frames.enhance_frames(net, each, each, 25.0))) for each in (clean, dotted)
    )
    assert metrics.psnr(out, plain).min() > 36
    given = np.stack(dotted)
    stacked = enhance.enhance_pixels(net, given, frame_rate=25.0)[0]
    np.testing.assert_allclose(stacked, out, atol=1e-6)
