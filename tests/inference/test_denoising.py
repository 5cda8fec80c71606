"""Noise in good light, white and as a camera leaves it."""

import numpy as np
import pytest
import scipy.ndimage
import skimage.data
import skimage.transform

from lle_jax import metrics
from lle_jax.inference import denoising, enhance, exposure, grain, tiles


@pytest.fixture(scope="module")
def net():
    return enhance.load()


@pytest.fixture(scope="module")
def scene():
    """A photograph with texture, reduced until it has no noise of its own."""
    image = skimage.data.astronaut() / 255
    return skimage.transform.resize(image, (192, 192), anti_aliasing=True).astype(np.float32)


def coarse(rng, shape, sigma, length=0.8):
    """Noise of each channel for itself, blurred as a camera's denoiser does."""
    white = rng.standard_normal(shape)
    noise = scipy.ndimage.gaussian_filter(white, (length, length, 0))
    return sigma * noise / noise.std()


def noisy(scene, sigma, seed=0):
    found = scene + coarse(np.random.default_rng(seed), scene.shape, sigma)
    return (np.rint(255 * np.clip(found, 0, 1)) / 255).astype(np.float32)


def halving(monkeypatch, image, function=lambda pixels: 0.5 * pixels):
    """A network of which the derivative is known."""
    monkeypatch.setattr(tiles, "central_tile", lambda *_: (image, function))


def test_the_share_for_white_noise_is_that_of_stein_s_estimate(scene, monkeypatch):
    halving(monkeypatch, scene)
    grey = np.repeat(scene[..., :1], 3, axis=-1)  # without colour nothing else is looked for
    share = denoising.find(None, grey, 0.1 + denoising.NO_NOISE, True, lambda: None).share
    assert share == pytest.approx(0.01 * 0.5 / np.mean((0.5 * scene) ** 2), rel=1e-4)


@pytest.mark.parametrize("length", [0.8, 1.5])
def test_the_share_for_coarse_noise_is_near_the_best(scene, monkeypatch, length):
    """Of a network that blurs: coarse noise passes where white noise would not."""
    rng = np.random.default_rng(1)
    smooth = scipy.ndimage.gaussian_filter(scene, (2, 2, 0))
    image = (smooth + coarse(rng, scene.shape, 0.04, length)).astype(np.float32)

    def blur(pixels):
        return scipy.ndimage.gaussian_filter(pixels, (1.2, 1.2, 0))

    halving(monkeypatch, image, blur)
    share = denoising.find(None, image, 0.0, False, lambda: None).share
    change = blur(image) - image
    best = np.clip(np.mean(change * (smooth - image)) / np.mean(change**2), 0, 1)
    error = [np.mean((image + a * change - smooth) ** 2) for a in (share, best, 0)]
    assert error[0] < 1.1 * error[1]
    assert error[0] < 0.8 * error[2]


def test_noise_of_a_camera_is_taken_out_in_good_light(net, scene):
    image = noisy(scene, 0.04)
    about = exposure.measure(image)
    assert about.noise < 0.01  # what is measured of white noise does not see it
    out, unchanged = enhance.enhance_pixels(net, image)
    assert not unchanged
    assert metrics.psnr(out, scene) > metrics.psnr(image, scene) + 1
    spots = [float(metrics.spot_change(each, scene).dark_added) for each in (image, out)]
    assert spots[1] < spots[0] / 4
    assert out.mean() == pytest.approx(image.mean(), rel=0.02)  # and not brightened


def test_spots_of_certain_noise_go_whole_where_the_network_takes_a_part(net, monkeypatch):
    smooth = scipy.ndimage.gaussian_filter(skimage.data.retina() / 255, (2, 2, 0))
    smooth = smooth[500:884, 500:884].astype(np.float32)
    image = smooth + coarse(np.random.default_rng(0), smooth.shape, 0.06, 1.0)
    image = (np.rint(255 * np.clip(image, 0, 1)) / 255).astype(np.float32)
    measured = exposure.examine(net, image)
    assert measured.certain == 1
    assert 0.5 < measured.denoising < 0.8

    def made(strength=1.0):
        return enhance.enhance_pixels(net, image, strength)[0]

    def spots(out):
        return float(metrics.spot_change(out, smooth).dark_added)

    whole, half = made(), made(0.5)
    change, of_half = (np.abs(each - image).mean() for each in (whole, half))
    assert of_half == pytest.approx(change / 2, rel=0.1)  # strength holds for spots too
    monkeypatch.setattr(exposure, "AGREED", 1.0)
    assert spots(whole) < 0.5 * spots(made())


@pytest.mark.parametrize("name", ["scene", "chelsea", "retina", "immunohistochemistry"])
def test_texture_without_noise_is_left_alone(net, scene, name):
    """The stain of the last is coloured as noise is, and the network keeps it."""
    image = scene if name == "scene" else getattr(skimage.data, name)()[:400, :400] / 255
    _, unchanged = enhance.enhance_pixels(net, image.astype(np.float32))
    assert unchanged


def test_grey_images_are_not_looked_at_for_colour(net, scene, monkeypatch):
    monkeypatch.setattr(grain, "correlation", None)
    grey = np.repeat(noisy(scene, 0.04)[..., :1], 3, axis=-1)
    for image in (grey, grey[..., :1]):
        assert denoising.find(net, image, 0.0, True, lambda: None) == denoising.Noise()
    with pytest.raises(TypeError):
        denoising.find(net, noisy(scene, 0.04), 0.0, False, lambda: None)


def test_white_noise_is_no_coloured_noise(net, scene):
    rng = np.random.default_rng(0)
    white = np.clip(scene + rng.normal(0, 0.02, scene.shape), 0, 1).astype(np.float32)
    assert denoising._coloured(white, exposure.measure(white).noise) is None
    assert denoising._coloured(noisy(scene, 0.04), 0.0).certain == 1


def test_noise_is_drawn_as_it_was_measured(scene):
    """Measured again, what is drawn has the deviations and the slopes of the image's noise."""
    image = noisy(np.full((256, 256, 3), 0.5), 0.03)
    found = denoising._coloured(image, 0.0)
    assert found.grain == pytest.approx(0.03 / np.sqrt(3), rel=0.2)  # three channels' mean
    drawn = found.draw((256, 256)).astype(np.float32)
    assert drawn.std() == pytest.approx(0.03, rel=0.15)
    there, here = (grain.correlation(each) for each in (image, 0.5 + drawn))
    for plane in ("luma", "chroma"):
        a, b = getattr(there, plane), getattr(here, plane)
        assert float(b.sigma) == pytest.approx(float(a.sigma), rel=0.2)
        assert float(b.slope) == pytest.approx(float(a.slope), abs=0.5)


@pytest.mark.parametrize("shape", [(40, 300, 3), (63, 63, 3), (1, 1, 3)])
def test_small_images_are_not_measured(shape):
    assert denoising._coloured(np.full(shape, 0.5, np.float32), 0.0) is None


def test_clipped_and_uniform_images_have_no_coloured_noise(net):
    for value in (0.0, 0.5, 1.0):
        image = np.full((96, 96, 3), value, np.float32)
        assert denoising.find(net, image, 0.0, False, lambda: None) == denoising.Noise()
    half = np.zeros((128, 128, 3), np.float32)
    half[:, 64:] = np.random.default_rng(0).random((128, 64, 3)) > 0.5  # nothing can be measured
    assert np.isfinite(denoising.find(net, half, 0.0, False, lambda: None)).all()
