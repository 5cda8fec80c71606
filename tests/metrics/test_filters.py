import numpy as np
import pytest
import scipy

from lle_jax.metrics import filters


@pytest.mark.parametrize("order", [(0, 0), (1, 0), (0, 2), (1, 1)])
@pytest.mark.parametrize("sigma", [1.2, 5.0])
@pytest.mark.parametrize("dense", [0, 30, 1024])
def test_derivatives_of_a_gaussian_are_those_of_scipy_at_any_size(order, sigma, dense, monkeypatch):
    """With matrices, with shifts, and with one of them along each side."""
    monkeypatch.setattr(filters, "_DENSE", dense)
    image = np.random.default_rng(0).random((2, 25, 40, 3), np.float32)
    found = filters.gaussian_derivative(image, sigma, order)
    expected = scipy.ndimage.gaussian_filter(image, (0, sigma, sigma, 0), (0, *order, 0))
    np.testing.assert_allclose(found, expected, atol=2e-6)
