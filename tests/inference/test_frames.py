import jax
import numpy as np
import pytest
import skimage.data
import skimage.transform

from lle_jax import degrade
from lle_jax.degrade import presets
from lle_jax.inference import enhance, frames, tiles

SIDE = 64  # smaller than a tile, so that all frames share one program


@pytest.fixture(scope="module")
def scenes():
    retina = skimage.data.retina()[200:1200, 200:1200]
    face = skimage.data.astronaut()[:256, 120:376]
    return [
        skimage.transform.resize(image, (SIDE, SIDE), anti_aliasing=True).astype(np.float32)
        for image in (retina, face)
    ]


def still(image, preset, count, seed=0):
    """Frames of one scene, of fixed parameters and fresh noise."""
    parameters = degrade.sample(jax.random.key(seed), presets.load(preset))
    keys = jax.random.split(jax.random.key(1), count)
    return np.stack([np.asarray(degrade.apply(key, parameters, image)) for key in keys])


def means(sequence):
    return np.array([frame.mean(dtype=np.float64) for frame in sequence])


def flicker(sequence):
    return means(sequence).std() / means(sequence).mean()


def enhanced(net, sequence, rate=25.0):
    return np.stack(list(frames.enhance_frames(net, sequence, sequence, rate)))


@pytest.mark.usefixtures("whole_correction")
@pytest.mark.parametrize(
    ("preset", "away", "brighter"),
    # the guess of 24 frames' mean cells and the mean of 24 guesses differ by 3.4 % in the second
    [("fundus", 0.02, 0.02), ("endoscopy", 0.025, 0.04), ("camera", 0.02, 0.02)],
)
def test_a_still_scene_flickers_at_most_twice_as_much_as_its_input(
    net, scenes, preset, away, brighter
):
    sequence = still(scenes[0], preset, 24)
    alone = enhance.enhance_pixels(net, sequence)[0]
    assert flicker(alone) > 3 * flicker(sequence)
    result = enhanced(net, sequence)
    assert flicker(result) < 2 * flicker(sequence)
    assert np.abs(result - alone).mean() < away
    assert means(result).mean() == pytest.approx(means(alone).mean(), rel=brighter)


def test_a_single_frame_is_the_still_image_bit_for_bit(net, scenes):
    image = still(scenes[0], "fundus", 1)[0]
    expected = enhance.enhance_pixels(net, image)[0]
    np.testing.assert_array_equal(enhanced(net, image[None])[0], expected)
    stack = enhance.enhance_pixels(net, image[None], frame_rate=25)[0]
    np.testing.assert_array_equal(stack[0], expected)


def test_a_cut_is_followed_at_once(net, scenes):
    first = still(scenes[0], "fundus", 12)
    second = np.clip(3 * still(scenes[1], "endoscopy", 12, seed=1), 0, 1)
    sequence = np.concatenate([first, second])
    starts = [each.place.starts for each in frames.contexts(net, sequence)]
    assert np.flatnonzero(starts).tolist() == [0, 12]
    # nothing of one shot is in the other
    result = enhanced(net, sequence)
    np.testing.assert_array_equal(result[:12], enhanced(net, first))
    np.testing.assert_array_equal(result[12:], enhanced(net, second))


def test_a_slow_fade_is_no_cut_and_is_followed(net, scenes):
    levels = np.linspace(1, 0.25, 75, dtype=np.float32)[:, None, None, None]  # 3 s
    sequence = levels * still(scenes[1], "camera", 75)
    assert sum(each.place.starts for each in frames.contexts(net, sequence)) == 1
    picked = slice(0, 75, 15)
    alone = enhance.enhance_pixels(net, sequence[picked])[0]
    np.testing.assert_allclose(means(enhanced(net, sequence)[picked]), means(alone), rtol=0.1)


def test_a_flash_and_black_frames_are_finite_and_leave_no_trace(net, scenes):
    sequence = still(scenes[0], "fundus", 20)
    flash = sequence.copy()
    flash[10] = 1.0
    flash[15:17] = 0.0
    result = enhanced(net, flash)
    assert np.isfinite(result).all()
    kept = np.r_[0:10, 11:15, 17:20]
    expected = means(enhanced(net, sequence))
    np.testing.assert_allclose(means(result)[kept], expected[kept], rtol=0.03)


def test_frames_are_read_a_second_ahead_and_no_more_are_held(net, scenes):
    image = still(scenes[0], "fundus", 1)[0]
    read = {"frames": 0, "ahead": 0}

    def counted(name, total=60):
        for _ in range(total):
            read[name] += 1
            yield image.copy()

    rate = 10.0
    results = frames.enhance_frames(net, counted("frames"), counted("ahead"), rate)
    for number, _ in enumerate(results, start=1):
        assert read["frames"] <= number + rate
        # once to find cuts, once to average
        assert read["ahead"] <= read["frames"] + 2 * rate + 1
    assert number == 60


def test_frames_keep_their_order_and_grey_stays_grey(net, scenes):
    grey = still(scenes[0], "fundus", 6).mean(axis=-1, keepdims=True)
    grey *= np.linspace(1, 0.8, 6, dtype=np.float32)[:, None, None, None]
    one = enhanced(net, grey)
    assert one.shape == grey.shape
    assert (np.diff(means(one)) < 0).all()
    three = enhanced(net, np.repeat(grey, 3, axis=-1))
    assert (three == three[..., :1]).all()
    assert list(frames.enhance_frames(net, [], [], 25.0)) == []


def test_in_place_and_by_tiles_give_the_same(net, scenes):
    sequence = still(scenes[1], "camera", 5)
    expected = enhanced(net, sequence)
    out, _ = enhance.enhance_pixels(net, sequence, inplace=True, frame_rate=25.0)
    assert np.shares_memory(out, sequence)
    np.testing.assert_array_equal(sequence, expected)


def test_brightness_of_a_network_that_needs_whole_images_is_smoothed_too(scenes):
    rng = np.random.default_rng(0)
    net = tiles.Network(1, 0, None, lambda image: image * rng.uniform(2.9, 3.1))
    sequence = still(scenes[0], "fundus", 12) / 4
    assert flicker(np.stack([net.restore(frame) for frame in sequence])) > 0.01
    assert flicker(enhanced(net, sequence)) < 0.005
