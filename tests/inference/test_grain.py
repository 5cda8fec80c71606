import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy
import skimage.data

from lle_jax import artifacts, classical, metrics
from lle_jax.inference import enhance, frames, grain

CORRELATED = runpy.run_path(str(Path(__file__).parents[1] / "reference" / "unseen.py"))[
    "correlated"
]


@pytest.fixture(scope="module")
def retina():
    """Less than its own noise is left: it is reduced to a half."""
    image = skimage.data.retina()[200:1224, 200:1224].astype(np.float32) / 255
    return cv2.resize(image, (512, 512), interpolation=cv2.INTER_AREA)


def noise(shape, length, seed=0):
    """Of standard deviation 1."""
    drawn = np.random.default_rng(seed).standard_normal(shape)
    drawn = scipy.ndimage.gaussian_filter(drawn, length) if length else drawn
    return (drawn / drawn.std())[..., None].astype(np.float32)


def measured(image):
    image = (np.rint(255 * np.clip(image, 0, 1)) / 255).astype(np.float32)
    return grain.measure(image, float(artifacts.noise_sigma(image)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [0.01, 0.02, 0.04])
def test_grain_is_measured_and_white_noise_is_none(sigma, channels):
    flat = np.full((256, 256, channels), 0.3, np.float32)
    assert measured(flat + sigma * noise((256, 256), 0.8)) == pytest.approx(sigma, rel=0.15)
    assert measured(flat + sigma * noise((256, 256), 1.5)) == pytest.approx(sigma, rel=0.15)
    assert measured(flat + sigma * noise((256, 256), 0)) == 0
    assert measured(flat) == 0


def test_texture_without_noise_is_no_grain_that_shows(retina):
    for image in (retina, 0.4 * retina):
        found = measured(image)
        assert grain.smoothstep(found / image.mean() * 0.4, *grain.DEVIATION) < 0.1


def test_small_pictures_have_none():
    assert grain.measure(np.full((32, 32, 3), 0.2, np.float32), 0.0) == 0
    assert grain.measure(np.full((128, 128, 1), 0.2, np.float32), float("nan")) == 0


def planted(places, contrast, radius=3.0, side=256):
    rows, columns = np.mgrid[:side, :side]
    image = np.full((side, side), 0.4)
    for row, column in places:
        distance = np.hypot(rows - row, columns - column)
        image *= 1 + contrast / (1 + np.exp((distance - radius) / 0.5))
    return image[..., None].astype(np.float32)


PLACES = [(row, column) for row in range(32, 256, 48) for column in range(32, 256, 48)]


def test_faint_lonely_spots_go_and_strong_ones_and_lines_stay():
    faint, strong = planted(PLACES, -0.12), planted(PLACES, -0.5)
    lined = planted([], 0)
    for row in (60, 130, 200):
        cv2.line(lined, (20, row), (236, row + 7), 0.33, 2, cv2.LINE_AA)
    for image in (faint, planted(PLACES, 0.12)):
        out = image.copy()
        grain.remove(out, 0.05, 1.0)
        assert float(metrics.spot_change(image, planted([], 0)).added_map.sum()) >= 25
        assert float(metrics.spot_change(out, planted([], 0)).added_map.sum()) == 0
    for image in (strong, lined):
        out = image.copy()
        grain.remove(out, 0.05, 1.0)
        assert metrics.psnr(out, image) > 45


def test_how_much_goes_by_the_grain_as_it_shows_and_by_the_share():
    image = planted(PLACES, -0.12)

    def change(*arguments):
        out = image.copy()
        grain.remove(out, *arguments)
        return float(np.abs(out - image).max())

    whole = change(0.05, 1.0)
    assert whole > 0.02
    assert change(0.025, 2.0) == whole
    assert change(0.03, 1.0) == 0
    assert change(0.05, 1.0, 0.0) == 0
    assert 0.3 * whole < change(0.05, 1.0, 0.5) < 0.7 * whole
    assert 0 < change(0.038, 1.0) < whole
    # what is known for noise is replaced however little it deviates
    assert change(0.03, 1.0, 1.0, 1.0) > 0.5 * whole
    assert 0 < change(0.03, 1.0, 1.0, 0.3) < 0.5 * change(0.03, 1.0, 1.0, 1.0)
    # and must be supported to its whole contrast
    image = planted(PLACES, -0.42)
    assert change(0.05, 1.0) == 0
    assert change(0.05, 1.0, 1.0, 1.0) > 0.02


def test_what_is_looked_at_in_parts_is_as_at_once(monkeypatch, retina):
    noisy = np.clip(retina + 0.04 * noise(retina.shape[:2], 1.0), 0, 1)
    whole, parts = noisy.copy(), noisy.copy()
    grain.remove(whole, 0.05, 1.0)
    monkeypatch.setattr(grain, "_SIDE", 100)
    grain.remove(parts, 0.05, 1.0)
    assert np.abs(whole - noisy).max() > 0.02
    np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_grey_stays_grey_and_colour_keeps_its_hue(retina):
    grey = np.repeat(retina[..., 1:2], 3, axis=-1)
    noisy = np.clip(grey + 0.04 * noise(retina.shape[:2], 1.0), 0, 1)
    out, single = noisy.copy(), noisy[..., :1].copy()
    grain.remove(out, 0.05, 1.0)
    grain.remove(single, 0.05, 1.0)
    assert (out == out[..., :1]).all()
    np.testing.assert_allclose(out[..., :1], single, atol=1e-3)
    assert np.isfinite(out).all()
    coloured = np.clip(0.6 * retina + 0.03 * noise(retina.shape[:2], 1.0), 0.01, 0.7)
    out = coloured.copy()
    grain.remove(out, 0.05, 1.0)
    ratio = out / coloured
    np.testing.assert_allclose(ratio, np.repeat(ratio[..., :1], 3, axis=-1), rtol=1e-4)


def test_correlated_noise_leaves_no_spots_in_a_fundus_photograph(monkeypatch, net, retina):
    low = CORRELATED(np.random.default_rng(0), retina)

    def dark(image):
        change = metrics.spot_change(image, retina)
        return float(change.dark_added), float(change.dark_lost)

    with_guard = enhance.enhance_pixels(net, low)[0]
    monkeypatch.setattr(grain, "remove", lambda *_: None)
    without = enhance.enhance_pixels(net, low)[0]
    smoothed = classical.METHODS["gamma+nlm"](low)
    assert dark(without)[0] > 15
    assert dark(with_guard)[0] <= dark(smoothed)[0] + 4  # one in a quarter of a megapixel
    assert dark(with_guard)[1] < dark(smoothed)[1]
    assert metrics.psnr(with_guard, retina) > metrics.psnr(without, retina) - 0.05


def test_frames_lose_their_grain_too(monkeypatch, net, retina):
    part = retina[:256, :256]
    low = np.stack([CORRELATED(np.random.default_rng(n), part) for n in range(3)])

    def dark():
        made = list(frames.enhance_frames(net, low, low))
        return sum(float(metrics.spot_change(one, part).dark_added) for one in made) / 3

    without_spots = dark()
    monkeypatch.setattr(grain, "remove", lambda *_: None)
    assert without_spots < 0.2 * dark()
