"""The noise's autocorrelation, spectrum and sigma against those of noise filtered by SciPy."""

import jax
import numpy as np
import pytest
import scipy.ndimage
import skimage.data

from lle_jax.artifacts import noise_correlation

SHAPE = (256, 256, 3)
WHITE = 1 - np.exp(-1)
# what luma has of the sigma of independent channels
LUMA = np.sqrt(0.299**2 + 0.587**2 + 0.114**2)


@pytest.fixture(scope="module")
def measure():
    return jax.jit(noise_correlation)


def eight_bit(image):
    return (np.rint(np.clip(image, 0, 1) * 255) / 255).astype(np.float32)


def filtered(sigmas, seed=0, shape=SHAPE):
    """White noise after a Gaussian filter by SciPy, of variance 1."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    noise = scipy.ndimage.gaussian_filter(noise, (*sigmas, 0), mode="wrap")
    gains = [np.sum(kernel(sigma) ** 2) for sigma in sigmas]
    return noise / np.sqrt(np.prod(gains))


def kernel(sigma):
    impulse = np.zeros(65)
    impulse[32] = 1
    return scipy.ndimage.gaussian_filter1d(impulse, sigma) if sigma else impulse


def lag_of_1_over_e(sigma):
    """Of the exact autocorrelation of white noise after that filter."""
    correlation = np.correlate(kernel(sigma), kernel(sigma), "full")[64:]
    correlation /= correlation[0]
    lags = np.arange(len(correlation))
    return np.interp(-np.exp(-1), -correlation[:12], lags[:12])


def photograph(name):
    picture = getattr(skimage.data, name)()[:512, :512].astype(np.float64) / 255
    return picture.reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))


@pytest.mark.parametrize("sigma", [0.01, 0.05])
def test_white_noise_has_no_correlation(measure, sigma):
    noise = measure(eight_bit(0.5 + sigma * filtered((0, 0))))
    for plane, expected in ((noise.luma, LUMA * sigma), (noise.chroma, sigma)):
        assert plane.sigma == pytest.approx(expected, rel=0.02)
        # a lag-1 correlation of 0.02 is 2 % of the length
        assert plane.length_x == pytest.approx(WHITE, rel=0.03)
        assert plane.length_y == pytest.approx(WHITE, rel=0.03)
        assert plane.slope == pytest.approx(0, abs=0.08)


@pytest.mark.parametrize("sigmas", [(0.5, 0.5), (1, 1), (2, 2), (0, 1), (1.5, 0.5)])
def test_the_length_is_that_of_the_known_autocorrelation(measure, sigmas):
    noise = measure(eight_bit(0.5 + 0.05 * filtered(sigmas)))
    down, across = map(lag_of_1_over_e, sigmas)
    # measured: sigma 10 % at most, but 20 % of luma blurred by 2 pixels, of which a picture of 256
    # pixels holds few independent grains
    tolerance = 0.3 if max(sigmas) == 2 else 0.15
    for plane, expected in ((noise.luma, LUMA * 0.05), (noise.chroma, 0.05)):
        assert plane.sigma == pytest.approx(expected, rel=tolerance)
        assert plane.length_x == pytest.approx(across, rel=tolerance)
        assert plane.length_y == pytest.approx(down, rel=tolerance)


def test_a_blur_of_known_spectrum_has_its_slope(measure):
    sigma = 0.5
    noise = measure(eight_bit(0.5 + 0.1 * filtered((sigma, sigma))))
    # the mean power in rings of frequencies, of the exact response of the filter
    response = np.abs(np.fft.fft(np.fft.ifftshift(kernel(sigma)[:-1]))) ** 2
    power, frequency = np.outer(response, response), np.fft.fftfreq(64)
    radius = np.hypot(*np.meshgrid(frequency, frequency))
    rings = np.arange(2, 9) / 16
    means = [power[abs(radius - ring) < 1 / 32].mean() for ring in rings]
    expected = np.polyfit(np.log(rings), np.log(means), 1)[0]
    assert expected < -0.8
    assert noise.luma.slope == pytest.approx(expected, abs=0.12)
    assert noise.chroma.slope == pytest.approx(expected, abs=0.12)


def test_sharpened_noise_is_shorter_and_rises(measure):
    white = filtered((0, 0))
    sharp = white + (white - scipy.ndimage.gaussian_filter(white, (1, 1, 0), mode="wrap"))
    noise = measure(eight_bit(0.5 + 0.03 * sharp))
    assert noise.luma.length_x < WHITE
    assert noise.luma.slope > 0.3


def test_chroma_is_told_from_luma(measure):
    grey = filtered((0, 0), 1)[..., :1]
    colours = filtered((1, 1), 2)
    colours = colours - (colours @ [0.299, 0.587, 0.114])[..., None]  # no luma
    noise = measure(eight_bit(0.5 + 0.03 * grey + 0.05 * colours))
    assert noise.luma.sigma == pytest.approx(0.03, rel=0.05)
    assert noise.luma.length_x == pytest.approx(WHITE, rel=0.05)
    assert noise.chroma.length_x == pytest.approx(2, rel=0.1)
    # independent channels less their luma: the same differences of colour
    assert noise.chroma.sigma == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("name", ["astronaut", "immunohistochemistry"])
@pytest.mark.parametrize("blur", [0, 1])
def test_noise_on_photographs(measure, name, blur):
    noise = measure(eight_bit(0.1 + 0.5 * photograph(name) + 0.05 * filtered((blur, blur))))
    expected = lag_of_1_over_e(blur)
    assert noise.chroma.sigma == pytest.approx(0.05, rel=0.08)
    assert noise.chroma.length_x == pytest.approx(expected, rel=0.15)
    if name == "astronaut":  # the tissue's texture is as strong as the noise of luma
        assert noise.luma.sigma == pytest.approx(LUMA * 0.05, rel=0.2)
        assert noise.luma.length_x == pytest.approx(expected, rel=0.2)


def test_impulses_and_clipped_parts_do_not_count(measure):
    x = np.linspace(0.2, 0.7, 256)[None, :, None]
    noisy = eight_bit(x + 0.03 * filtered((1, 1)))
    spoilt = noisy.copy()
    spoilt[np.random.default_rng(5).random(SHAPE[:2]) < 0.03] = 0
    spoilt[np.random.default_rng(6).random(SHAPE[:2]) < 0.03] = 1
    spoilt[:64] = eight_bit(0.02 * filtered((0, 0), 7))[:64]  # noise on black, half cut off
    spoilt[192:] = 1
    noise = measure(spoilt)
    # of half the picture, in which few grains are left; measured: 20 % at most
    for plane, expected in ((noise.luma, LUMA * 0.03), (noise.chroma, 0.03)):
        assert plane.sigma == pytest.approx(expected, rel=0.15)
        assert plane.length_x == pytest.approx(2, rel=0.25)


def test_a_batch_is_measured_image_by_image(measure):
    batch = np.stack([eight_bit(0.4 + 0.03 * filtered((blur, blur), blur)) for blur in (0, 1)])
    found = noise_correlation(batch)
    mapped = jax.vmap(noise_correlation)(batch)
    for index, image in enumerate(batch):
        for plane in ("luma", "chroma"):
            one = getattr(measure(image), plane)
            for values in (found, mapped):
                each = [value[index] for value in getattr(values, plane)]
                np.testing.assert_allclose(each, one, rtol=1e-3, atol=1e-4)
    assert found.luma.sigma.shape == (2,)


def test_a_grey_image_has_luma_only(measure):
    grey = eight_bit(0.5 + 0.05 * filtered((1, 0))[..., :1])
    one, three = measure(grey), measure(np.repeat(grey, 3, axis=-1))
    assert one.luma.sigma == pytest.approx(0.05, rel=0.1)
    np.testing.assert_allclose(one.luma, three.luma, rtol=0.01)
    for noise in (one, three):
        assert noise.chroma.sigma == 0
        assert np.isnan(noise.chroma[1:]).all()


@pytest.mark.parametrize("level", [0.25, 0.5])
def test_an_image_without_noise_has_sigma_0_and_no_correlation(measure, level):
    noise = measure(eight_bit(np.full(SHAPE, level)))
    for plane in noise:
        assert plane.sigma == 0
        assert np.isnan(plane[1:]).all()


def test_the_steps_of_a_rounded_gradient_are_below_half_a_level(measure):
    ramp = 0.3 + 0.1 * np.linspace(0, 1, 256)[:, None, None]
    assert measure(eight_bit(np.broadcast_to(ramp, SHAPE))).luma.sigma < 0.5 / 255


def test_black_frames_and_bad_input():
    black = noise_correlation(np.zeros(SHAPE, np.float32))
    assert np.isnan([*black.luma, *black.chroma]).all()
    with pytest.raises(ValueError, match="at least 64 x 64"):
        noise_correlation(np.zeros((63, 90, 3), np.float32))
    with pytest.raises(ValueError, match="dtype uint8"):
        noise_correlation(np.zeros(SHAPE, np.uint8))
