import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lle_jax import degrade, metrics
from lle_jax.evaluation.consistency import redegradation_psnr


@pytest.fixture(scope="module")
def degradation(photographs):
    parameters = {
        "exposure.gain": jnp.array([0.3, 0.5]),
        "gaussian_blur.sigma": jnp.array([1.0, 0.5]),
        "poisson_gaussian_noise.gain": jnp.float32(1e-3),
        "poisson_gaussian_noise.read_noise": jnp.float32(2e-3),
        "quantise.bits": jnp.float32(8),
    }
    return parameters, degrade.apply(jax.random.key(1), parameters, photographs)


def test_redegraded_truth_returns_the_input_up_to_its_noise(photographs, degradation):
    parameters, low = degradation
    quiet = {k: v for k, v in parameters.items() if "noise" not in k}
    noiseless = degrade.apply(jax.random.key(0), quiet, photographs)
    assert np.isinf(redegradation_psnr(photographs, noiseless, parameters)).all()
    bound = redegradation_psnr(photographs, low, parameters)
    np.testing.assert_allclose(bound, metrics.psnr(noiseless, low), rtol=1e-6)
    wrong = photographs.copy()
    wrong[:, 20:40, 20:40] = 0.5
    for output in (wrong, 0.7 * photographs, low):
        assert (redegradation_psnr(output, low, parameters) < bound - 2).all()


def test_redegradation_refuses_unlike_images_and_unknown_parameters(photographs, degradation):
    parameters, low = degradation
    with pytest.raises(ValueError, match=r"output has shape .* but low has"):
        redegradation_psnr(photographs[0], low, parameters)
    with pytest.raises(ValueError, match=r"unknown key 'poisson_gaussian_noise.gian'"):
        redegradation_psnr(photographs, low, {"poisson_gaussian_noise.gian": 1})
