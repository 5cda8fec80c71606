"""Gain and read noise against those that the project's sensor, and NumPy's, put in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

from lle_jax import colour, degrade
from lle_jax.artifacts import noise_model


@pytest.fixture(scope="module")
def scenes():
    """Linear light, `[192, 192, 3]` each."""
    retina = skimage.data.retina()[320:1088, 320:1088].reshape(192, 4, 192, 4, 3).mean((1, 3)) / 255
    x, y = np.meshgrid(np.linspace(0, 0.5, 192), np.linspace(0, 0.4, 192))
    ramp = np.repeat((x + y)[..., None], 3, axis=-1)
    return {
        name: np.asarray(colour.srgb_to_linear(jnp.asarray(picture, jnp.float32)))
        for name, picture in (("retina", retina), ("ramp", ramp))
    }


@pytest.fixture(scope="module")
def measure():
    return jax.jit(noise_model)


def photograph(linear):
    """As an 8-bit sRGB file shows linear light."""
    srgb = colour.linear_to_srgb(jnp.clip(jnp.asarray(linear, jnp.float32), 0, 1))
    return np.rint(np.asarray(srgb) * 255).astype(np.float32) / 255


@pytest.mark.parametrize("scene", ["retina", "ramp"])
@pytest.mark.parametrize("light", [1.0, 0.2])
@pytest.mark.parametrize(("gain", "read_noise"), [(0.002, 0.01), (0.005, 0.02)])
def test_gain_and_read_noise_of_the_projects_sensor(
    scenes, measure, scene, light, gain, read_noise
):
    noisy = degrade.poisson_gaussian_noise(
        jax.random.key(0), scenes[scene] * light, gain=gain, read_noise=read_noise
    )
    found = measure(photograph(noisy))
    assert found.gain == pytest.approx(gain, rel=0.15)
    assert found.read_noise == pytest.approx(read_noise, rel=0.1)


def test_pure_photon_noise_of_numpy_has_a_gain(scenes, measure):
    photons = np.random.default_rng(0).poisson(scenes["ramp"] * 200)
    found = measure(photograph(photons / 200))
    assert found.gain == pytest.approx(1 / 200, rel=0.1)
    assert found.read_noise < 0.005  # a tenth of the photon noise at white


def test_pure_read_noise_of_numpy_has_none(scenes, measure):
    noise = 0.02 * np.random.default_rng(0).standard_normal(scenes["ramp"].shape)
    found = measure(photograph(scenes["ramp"] + noise))
    assert found.read_noise == pytest.approx(0.02, rel=0.1)
    assert found.gain < 2e-4  # a variance of half the read noise's at white


def test_a_batch_is_measured_image_by_image(scenes, measure):
    batch = np.stack([photograph(scenes["ramp"]), photograph(scenes["retina"])])
    together = noise_model(batch)
    for index, image in enumerate(batch):
        np.testing.assert_allclose(together.gain[index], measure(image).gain, rtol=1e-3, atol=1e-7)


def test_black_and_white_frames_say_nothing_of_the_noise_and_small_images_are_refused(scenes):
    for value in (0, 1):
        assert np.isnan(noise_model(np.full((64, 64, 3), value, np.float32))).all()
    half = photograph(scenes["ramp"]).copy()
    half[:, : half.shape[1] // 2] = 0
    assert np.isfinite(noise_model(half)).all()
    with pytest.raises(ValueError, match="at least 64 x 64"):
        noise_model(np.zeros((63, 90, 1), np.float32))
