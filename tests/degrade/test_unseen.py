"""The degradations of benchmarks/harm.py do what they say."""

import runpy
import types
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).parents[1] / "reference" / "unseen.py"
unseen = types.SimpleNamespace(**runpy.run_path(str(FILE)))

GREY = np.full((128, 128, 1), 0.5, np.float32)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_photons_have_their_mean_and_variance(rng):
    light = unseen.decode(unseen.photon(rng, GREY, light=0.1, electrons=1500))
    expected = 0.1 * float(unseen.decode(np.float64(0.5)))
    assert light.mean() == pytest.approx(expected, rel=0.02)
    assert light.var() == pytest.approx(expected / 1500 + (1.5 / 1500) ** 2, rel=0.1)


def test_grains_are_larger_than_a_pixel(rng):
    noise = unseen.correlated(rng, GREY, quality=100)[..., 0]
    noise = noise - noise.mean()
    lag = (noise[:, 1:] * noise[:, :-1]).mean() / noise.var()
    assert lag == pytest.approx(np.exp(-1 / (4 * 0.8**2)), abs=0.06)
    assert noise.std() == pytest.approx(0.02 * 0.75**0.5, rel=0.1)


def test_light_falls_off_to_one_side(rng):
    light = unseen.decode(unseen.off_centre(rng, GREY))[..., 0]
    corners = [light[i : i + 16, j : j + 16].mean() for i in (0, 112) for j in (0, 112)]
    assert max(corners) > 2 * min(corners)


def test_a_tint_colours_grey_pictures_and_nothing_else_does(rng):
    tinted = unseen.decode(unseen.tint(rng, GREY))
    means = tinted.mean(axis=(0, 1))
    assert means[0] / means[1] == pytest.approx(1.25, rel=0.02)
    assert means[2] / means[1] == pytest.approx(0.75, rel=0.02)
    for name, function in (unseen.UNSEEN | unseen.OTHERS).items():
        assert function(rng, GREY).shape[-1] == (3 if name == "tint" else 1)


def test_coarse_noise_changes_no_brightness_and_spreads_over_neighbours(rng):
    scene = np.full((128, 128, 3), 0.5, np.float32)
    noise = unseen.coarse(rng, scene) - scene
    assert abs(noise.mean()) < 0.002
    assert 0.03 < noise.std() < 0.045
    assert np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1] > 0.5


def test_a_veil_adds_the_same_light_everywhere(rng):
    scene = np.full((128, 128, 3), 0.5, np.float32)
    scene[:64] = 0
    light = unseen.decode(unseen.veil(rng, scene))
    stray, lit = light[:64].mean(axis=(0, 1)), light[64:].mean(axis=(0, 1))
    np.testing.assert_allclose(stray / stray[1], [0.9, 1, 1.1], rtol=0.02)
    gain = (lit - stray) / unseen.decode(np.float64(0.5))
    assert 0.1 < gain.min() < gain.max() < 0.2
    assert 0.4 < stray.mean() / (gain.mean() * unseen.decode(scene).mean()) < 1.6
