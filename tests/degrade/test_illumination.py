import cv2
import jax
import numpy as np
import pytest

from lle_jax import degrade as light


def distance(height, width, x=0.0, y=0.0):
    """Distance of pixel centres from (x, y) in half diagonals, in explicit loops."""
    half = np.hypot(height, width) / 2
    return np.array(
        [
            [np.hypot((j - (width - 1) / 2) / half - x, (i - (height - 1) / 2) / half - y)
             for j in range(width)]
            for i in range(height)
        ]
    )[..., None]  # fmt: skip


def test_natural_vignetting_is_the_fourth_power_of_the_cosine():
    field = light.cos4_vignetting(9, 14, half_angle=40.0)
    angle = np.arctan(distance(9, 14) * np.tan(np.deg2rad(40)))
    np.testing.assert_allclose(field, np.cos(angle) ** 4, rtol=1e-6)


def test_polynomial_vignetting_never_turns_light_negative():
    field = light.polynomial_vignetting(9, 14, a=-0.5, b=-0.3, c=0.1)
    r = distance(9, 14)
    np.testing.assert_allclose(field, 1 - 0.5 * r**2 - 0.3 * r**4 + 0.1 * r**6, rtol=1e-6)
    assert float(light.polynomial_vignetting(9, 14, a=-3.0).min()) == 0


def test_lamp_light_falls_with_the_squared_distance_in_space():
    height = 0.5
    field = light.light_source(9, 14, x=0.3, y=-0.2, falloff=1 / height)
    in_space = np.hypot(distance(9, 14, 0.3, -0.2), height)
    np.testing.assert_allclose(field, (height / in_space) ** 2, rtol=1e-6)


def test_fields_are_even_at_their_identity():
    for field in (
        light.cos4_vignetting(5, 6, half_angle=0.0),
        light.polynomial_vignetting(5, 6),
        light.light_source(5, 6, x=0.3, falloff=0.0),
        light.fundus_illumination(5, 6),
    ):
        np.testing.assert_array_equal(field, np.ones((5, 6, 1)))


def test_fields_look_the_same_at_every_resolution():
    for build, values in (
        (light.cos4_vignetting, {"half_angle": 35.0}),
        (light.light_source, {"x": 0.2, "y": 0.1, "falloff": 1.5}),
        (light.fundus_illumination, {"halo": 0.8, "shadow": 0.7, "shadow_x": 0.2}),
    ):
        fine = np.asarray(build(64, 96, **values)).reshape(32, 2, 48, 2).mean((1, 3))
        np.testing.assert_allclose(build(32, 48, **values)[..., 0], fine, atol=2e-3)


def test_fields_take_one_parameter_per_image():
    angles = np.array([[10.0, 20, 30], [40, 50, 60]], np.float32)
    fields = light.cos4_vignetting(5, 6, half_angle=angles)
    assert fields.shape == (2, 3, 5, 6, 1)
    np.testing.assert_array_equal(fields[1, 0], light.cos4_vignetting(5, 6, half_angle=40.0))


def test_shadow_is_near_the_blurred_disc_of_the_published_model():
    size, diameter = 256, 128
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    disc = (np.hypot(rows, columns) <= diameter / 2).astype(np.float64)
    window = int(0.65 * diameter) | 1
    published = cv2.GaussianBlur(disc, (window, window), 2 / 3 * window * 1.2)
    radius = diameter / 2 / (size / 2**0.5)
    ours = 1 - light.fundus_illumination(size, size, shadow=1.0, shadow_radius=radius)[..., 0]
    np.testing.assert_allclose(ours, published, atol=0.035)


def test_halo_brightens_the_rim_only():
    field = np.asarray(light.fundus_illumination(65, 65, halo=1.0, halo_radius=0.5))[..., 0]
    assert field[32, 32] == pytest.approx(1)
    assert field[0, 0] == pytest.approx(2)
    assert (np.diff(field[32, 32:]) >= -1e-6).all()


def test_pixels_outside_the_field_of_view_stay_bit_for_bit(photographs):
    mask = np.zeros((64, 64, 1), bool)
    mask[16:48, 8:56] = True
    field = light.light_source(64, 64, falloff=2.0)
    result = np.asarray(light.illumination(photographs, field=field, mask=mask))
    outside = np.broadcast_to(~mask, result.shape)
    np.testing.assert_array_equal(result[outside], photographs[outside])
    inside = light.illumination(photographs, field=field)
    np.testing.assert_array_equal(result[~outside], np.asarray(inside)[~outside])


def test_gradients_are_finite_at_the_centre_of_a_shadow():
    def darkness(x, y):
        return light.fundus_illumination(5, 5, shadow=0.5, shadow_x=x, shadow_y=y).sum()

    assert np.isfinite(jax.grad(darkness, (0, 1))(0.0, 0.0)).all()


@pytest.mark.parametrize(
    ("build", "values", "name"),
    [
        (light.cos4_vignetting, {"half_angle": 90.0}, "half_angle"),
        (light.polynomial_vignetting, {"a": float("nan")}, "a "),
        (light.light_source, {"falloff": -1.0}, "falloff"),
        (light.fundus_illumination, {"halo": -0.1}, "halo"),
        (light.fundus_illumination, {"shadow": 1.1}, "shadow"),
        (light.fundus_illumination, {"shadow_radius": 0.0}, "shadow_radius"),
    ],
)
def test_impossible_parameters_are_named(build, values, name):
    with pytest.raises(ValueError, match=name):
        build(4, 5, **values)


def test_fields_that_do_not_fit_are_named():
    image = np.zeros((2, 4, 5, 3), np.float32)
    with pytest.raises(ValueError, match="field has shape"):
        light.illumination(image, field=np.ones((4, 4, 1)))
    with pytest.raises(ValueError, match="mask has shape"):
        light.illumination(image, field=np.ones((4, 5, 1)), mask=np.ones((4, 5)))
    with pytest.raises(ValueError, match="image has"):
        light.illumination(np.zeros((4, 5, 3), np.uint8), field=np.ones((4, 5, 1)))
    with pytest.raises(ValueError, match="field is -1"):
        light.illumination(image, field=-np.ones((4, 5, 1)))
