"""Against SciPy in float64; what holds for every degradation is in test_conventions.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from lle_jax import degrade
from lle_jax.degrade.blur import disc_kernel, motion_kernel


@pytest.mark.parametrize("sigma", [0.3, 0.7, 1.0, 2.5, 8.0])
def test_gaussian_blur_equals_scipy(photographs, sigma):
    blurred = jax.jit(degrade.gaussian_blur)(photographs, sigma=sigma)
    expected = scipy.ndimage.gaussian_filter(photographs.astype(np.float64), (0, sigma, sigma, 0))
    np.testing.assert_allclose(blurred, expected, atol=5e-7)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (37, 41)])
def test_gaussian_blur_of_images_smaller_than_its_kernel_equals_scipy(photographs, shape):
    image = photographs[0, : shape[0], : shape[1]]
    expected = scipy.ndimage.gaussian_filter(image.astype(np.float64), (2.0, 2.0, 0))
    np.testing.assert_allclose(degrade.gaussian_blur(image, sigma=2.0), expected, atol=5e-7)


@pytest.mark.parametrize("sigma", [4.2, 20.0, 100.0])
@pytest.mark.parametrize("shape", [(4, 4), (60, 3), (1, 9)])
def test_wide_gaussian_blur_of_tiny_images_equals_scipy(photographs, shape, sigma):
    image = photographs[0, : shape[0], : shape[1]]
    expected = scipy.ndimage.gaussian_filter(image.astype(np.float64), (sigma, sigma, 0))
    np.testing.assert_allclose(degrade.gaussian_blur(image, sigma=sigma), expected, atol=1e-6)


def test_each_image_of_a_batch_has_its_own_sigma(photographs):
    blurred = degrade.gaussian_blur(photographs, sigma=jnp.array([0.0, 2.0]))
    np.testing.assert_array_equal(blurred[0], photographs[0])
    expected = scipy.ndimage.gaussian_filter(photographs[1].astype(np.float64), (2.0, 2.0, 0))
    np.testing.assert_allclose(blurred[1], expected, atol=5e-7)


@pytest.mark.parametrize("radius", [0.4, 1.0, 3.3, 9.9])
def test_defocus_equals_scipys_convolution_with_the_disc(photographs, radius):
    kernel = np.asarray(disc_kernel(radius), np.float64)
    expected = scipy.ndimage.convolve(photographs[0].astype(np.float64), kernel[..., None])
    blurred = degrade.defocus_blur(photographs, radius=radius)[0]
    np.testing.assert_allclose(blurred, expected, atol=2e-6)


@pytest.mark.parametrize(("length", "angle", "curvature"), [(9.0, 0.0, 0.0), (14.5, 35.0, 0.08)])
def test_motion_equals_scipys_convolution_with_the_path(photographs, length, angle, curvature):
    kernel = np.asarray(motion_kernel(length, angle, curvature), np.float64)
    expected = scipy.ndimage.convolve(photographs[0].astype(np.float64), kernel[..., None])
    options = {"length": length, "angle": angle, "curvature": curvature}
    blurred = degrade.motion_blur(photographs, **options)[0]
    np.testing.assert_allclose(blurred, expected, atol=2e-6)


@pytest.mark.parametrize("radius", [2.0, 5.0, 9.0])
def test_the_disc_has_unit_sum_and_the_second_moment_of_a_disc(radius):
    kernel = np.asarray(disc_kernel(radius), np.float64)
    reach = len(kernel) // 2
    x = np.arange(-reach, reach + 1)
    np.testing.assert_allclose(kernel.sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(kernel, kernel.T, atol=1e-9)
    # a disc of radius r has r^2 / 4; this is the integral with the edge that falls over a pixel
    expected = (radius**4 / 4 + radius**2 / 8 + 1 / 320) / (radius**2 + 1 / 12)
    np.testing.assert_allclose((kernel * x**2).sum(), expected, rtol=0.06)


def test_a_straight_path_along_the_rows_is_a_box():
    kernel = np.asarray(motion_kernel(9.0, 0.0))
    reach = len(kernel) // 2
    line = kernel[reach, reach - 4 : reach + 5]
    np.testing.assert_allclose(kernel.sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(kernel[reach].sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(line[1:-1], 1 / 9, rtol=0.02)


def test_the_angle_turns_counter_clockwise():
    reach = len(np.asarray(motion_kernel(20.0, 0.0))) // 2
    up = np.asarray(motion_kernel(20.0, 90.0))
    diagonal = np.asarray(motion_kernel(20.0, 45.0))
    np.testing.assert_allclose(up[:, reach].sum(), 1, rtol=1e-5)
    assert diagonal[reach - 5, reach + 5] > 0.01  # up and to the right
    assert diagonal[reach - 5, reach - 5] == 0


def test_a_curved_path_lies_on_a_circle():
    curvature = 0.1
    kernel = np.asarray(motion_kernel(20.0, 0.0, curvature), np.float64)
    reach = len(kernel) // 2
    rows, columns = np.nonzero(kernel > 1e-3)
    x, y = columns - reach, reach - rows
    # the circle through the path's middle, whose centre is one radius above it
    middle = y[np.argmin(np.abs(x) + 100 * (y > 0))]
    distance = np.hypot(x, y - (middle + 1 / curvature))
    np.testing.assert_allclose(distance, 1 / curvature, atol=1.5)
    assert y.max() - y.min() >= 4


def test_blur_preserves_a_flat_image_and_energy(photographs):
    flat = jnp.full((20, 30, 3), 0.3)
    padded = np.zeros((64, 64, 1), np.float32)
    padded[30:34, 30:34] = 0.9
    for blur in (
        lambda x: degrade.gaussian_blur(x, sigma=2.0),
        lambda x: degrade.defocus_blur(x, radius=3.0),
        lambda x: degrade.motion_blur(x, length=9.0, angle=20.0),
    ):
        np.testing.assert_allclose(blur(flat), flat, atol=1e-6)
        np.testing.assert_allclose(blur(jnp.asarray(padded)).sum(), padded.sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: degrade.gaussian_blur(x, sigma=-1.0), "sigma is -1"),
        (lambda x: degrade.gaussian_blur(x, sigma=np.ones(3)), r"sigma has shape \(3,\)"),
        (lambda x: degrade.defocus_blur(x, radius=11.0), r"radius is 11; .* in \[0, 10\]"),
        (lambda x: degrade.motion_blur(x, length=40.0, angle=0.0), "length is 40"),
        (lambda x: degrade.motion_blur(x, length=4.0, angle=float("nan")), "angle is NaN"),
        (
            lambda x: degrade.motion_blur(x, length=4.0, angle=0.0, curvature=2.0),
            "curvature is 2",
        ),
    ],
)
def test_values_out_of_range_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.full((8, 8, 3), 0.5))
