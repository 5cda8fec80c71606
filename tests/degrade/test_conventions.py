"""One walk over the public degradations: what holds for every one of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lle_jax import degrade

KEY = jax.random.key(5)


class Case:
    """A degradation: parameters to try, the identity, and numbers that must be refused."""

    def __init__(self, function, values, identity=None, bad=None, keyed=False, kinks=()):
        self.name = function.__name__
        self.values = values
        self.identity = identity
        self.bad = bad or {}
        self.keyed = keyed
        # with a surrogate gradient, which the twin test file checks; the image then has one too
        self.kinks = kinks
        self.function = function
        self.compiled = jax.jit(self.__call__)

    def __call__(self, key, image, **values):
        return self.function(*((key,) if self.keyed else ()), image, **values)


def illumination(image, *, falloff):
    field = degrade.light_source(*image.shape[-3:-1], x=0.1, falloff=falloff)
    return degrade.illumination(image, field=field)


CASES = [
    Case(degrade.exposure, {"gain": 0.4}, {"gain": 1.0}, {"gain": -0.1}),
    Case(degrade.gamma, {"gamma": 1.5}, {"gamma": 1.0}, {"gamma": 0.9}),
    Case(degrade.tone_curve, {"contrast": 0.7}, {"contrast": 0.0}, {"contrast": 1.1}),
    Case(
        degrade.white_balance,
        {"red": 0.8, "blue": 0.7},
        {"red": 1.0, "blue": 1.0},
        {"red": -0.1, "blue": float("nan")},
    ),
    Case(illumination, {"falloff": 1.5}, {"falloff": 0.0}, {"falloff": -1.0}),
    Case(
        degrade.veiling_glare,
        {"share": 0.4, "white": 0.6},
        {"share": 0.0, "white": 0.6},
        {"share": 1.1, "white": -0.1},
    ),
    Case(degrade.gaussian_noise, {"sigma": 0.05}, {"sigma": 0.0}, {"sigma": -0.1}, keyed=True),
    Case(
        degrade.correlated_noise,
        {"luma": 0.05, "chroma": 0.03, "length": 0.8},
        {"luma": 0.0, "chroma": 0.0, "length": 0.8},
        {"luma": -0.1, "chroma": -0.1, "length": 3.1},
        keyed=True,
    ),
    Case(degrade.poisson_noise, {"peak": 50.0}, None, {"peak": 0.0}, keyed=True, kinks=("peak",)),
    Case(
        degrade.poisson_gaussian_noise,
        {"gain": 0.01, "read_noise": 0.02},
        {"gain": 0.0, "read_noise": 0.0},
        {"gain": -0.1, "read_noise": -0.1},
        keyed=True,
        kinks=("gain",),
    ),
    Case(
        degrade.banding_noise,
        {"row_sigma": 0.05, "column_sigma": 0.03},
        {"row_sigma": 0.0, "column_sigma": 0.0},
        {"row_sigma": -0.1, "column_sigma": -0.1},
        keyed=True,
    ),
    Case(
        degrade.salt_and_pepper,
        {"salt": 0.1, "pepper": 0.05},
        {"salt": 0.0, "pepper": 0.0},
        {"salt": -0.1, "pepper": 1.1},
        keyed=True,
    ),
    Case(degrade.gaussian_blur, {"sigma": 0.9}, {"sigma": 0.0}, {"sigma": -0.1}),
    Case(degrade.defocus_blur, {"radius": 1.3}, {"radius": 0.0}, {"radius": -0.1}),
    Case(
        degrade.motion_blur,
        {"length": 3.3, "angle": 30.0, "curvature": 0.2},
        {"length": 0.0, "angle": 30.0, "curvature": 0.2},
        {"length": -0.1, "angle": float("nan"), "curvature": float("nan")},
    ),
    Case(
        degrade.bayer_sensor,
        {"gain": 0.01, "read_noise": 0.02, "tail": 0.6, "bits": 20, "red": 2.2, "blue": 2.0},
        None,
        {"gain": -0.1, "tail": 1.1, "bits": 0, "red": 0.9, "blue": float("nan")},
        keyed=True,
        # rounding at the sensor is passed straight through; see test_camera.py
        kinks=("gain", "read_noise", "tail", "bits", "red", "blue"),
    ),
    Case(
        degrade.denoise,
        {"luma": 0.03, "chroma": 0.06},
        {"luma": 0.0, "chroma": 0.0},
        {"luma": -0.1, "chroma": float("nan")},
    ),
    Case(
        degrade.sharpen,
        {"amount": 0.8, "sigma": 1.2},
        {"amount": 0.0, "sigma": 1.2},
        {"amount": -0.1, "sigma": -1.0},
    ),
    Case(degrade.quantise, {"bits": 4}, None, {"bits": 0}, kinks=("bits",)),
    Case(degrade.jpeg, {"quality": 40}, None, {"quality": 0}, kinks=("quality",)),
]
BY_NAME = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
# the wrapper around a field has no checks of its own; test_illumination.py has the function's
CHECKED = pytest.mark.parametrize(
    "case", [case for case in CASES if case.name != "illumination"], ids=lambda case: case.name
)


@pytest.fixture(scope="module")
def images(photographs):
    """Two colour images of odd sides, away from the kinks at 0 and 1."""
    return 0.05 + 0.85 * photographs[:, 20:29, 30:41]


def test_the_walk_leaves_no_degradation_out():
    not_degradations = {
        "BY_MODALITY", "Parameters", "Preset", "PresetError", "apply", "from_json", "load",
        "name_for", "names", "sample", "sample_and_apply", "sample_mixture", "to_json",
        "cos4_vignetting", "polynomial_vignetting", "light_source", "fundus_illumination",
    }  # fmt: skip
    assert {case.name for case in CASES} == set(degrade.__all__) - not_degradations


@BY_NAME
def test_compiled_and_eager_and_one_by_one_agree(case, images):
    """Also: one parameter per image, mapped parameters, range, determinism and fresh keys."""
    keys = jax.random.split(KEY, 2)
    values = {name: np.float32([1.0, 0.5]) * value for name, value in case.values.items()}
    if "gamma" in values:
        values = {"gamma": np.float32([1.5, 1.2])}
    mapped = jax.jit(jax.vmap(case))(keys, images, **values)
    for i in range(2):
        alone = case(keys[i], images[i], **{name: value[i] for name, value in values.items()})
        np.testing.assert_allclose(mapped[i], alone, atol=3e-6)
    batch = case(KEY, images, **values)
    np.testing.assert_array_equal(case(KEY, images, **values), batch)
    if case.keyed:
        assert (case(keys[0], images, **values) != batch).any()
    else:
        np.testing.assert_allclose(batch, mapped, atol=3e-6)
    assert batch.shape == images.shape
    assert 0 <= float(batch.min()) <= float(batch.max()) <= 1
    assert (batch != images).any(axis=(1, 2, 3)).all()


@BY_NAME
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_dtype_is_kept_and_the_identity_is_exact(case, images, dtype):
    image = jnp.asarray(images, dtype)
    low = case.compiled(KEY, image, **case.values)
    assert low.dtype == dtype
    full = case.compiled(KEY, image.astype(jnp.float32), **case.values)
    np.testing.assert_array_equal(low, full.astype(dtype))
    if case.identity is not None:
        np.testing.assert_array_equal(case.compiled(KEY, image, **case.identity), image)


@BY_NAME
def test_grey_and_deep_batches_and_single_images(case, images):
    grey = images[..., :1]
    low = case.compiled(KEY, grey, **case.values)
    assert low.shape == grey.shape
    deep = case.compiled(KEY, grey.reshape(2, 1, 9, 11, 1), **case.values)
    np.testing.assert_allclose(deep.reshape(low.shape), low, atol=3e-6)
    assert case.compiled(KEY, grey[0], **case.values).shape == (9, 11, 1)


@BY_NAME
def test_black_and_white_have_finite_values_and_gradients(case):
    image = jnp.stack([jnp.zeros((5, 7, 3)), jnp.ones((5, 7, 3))])
    values = {name: jnp.float32(value) for name, value in case.values.items()}

    def total(image, values):
        low = case(KEY, image, **values)
        return low.sum(), low

    slopes, low = jax.jit(jax.grad(total, (0, 1), has_aux=True))(image, values)
    for leaf in jax.tree.leaves((slopes, low)):
        assert np.isfinite(leaf).all()
    if case.identity is not None:
        identity = {name: jnp.float32(value) for name, value in case.identity.items()}
        slopes, low = jax.jit(jax.grad(total, (0, 1), has_aux=True))(image, identity)
        for leaf in jax.tree.leaves((slopes, low)):
            assert np.isfinite(leaf).all()


@BY_NAME
def test_gradients_equal_finite_differences(case, images):
    with jax.enable_x64(True):
        image = 0.3 + 0.4 * images[0].astype(np.float64)
        values = {name: np.float64(value) for name, value in case.values.items()}
        weights = np.random.default_rng(0).normal(size=image.shape)
        step = 1e-6

        @jax.jit
        def total(image, values):
            return (weights * case(KEY, image, **values)).sum()

        image_slope, slopes = jax.jit(jax.grad(total, (0, 1)))(image, values)
        if not case.kinks:
            direction = np.random.default_rng(1).normal(size=image.shape)
            numeric = total(image + step * direction, values) - total(
                image - step * direction, values
            )
            assert float((image_slope * direction).sum()) == pytest.approx(
                float(numeric) / (2 * step), rel=1e-4
            )
        for name in case.values.keys() - set(case.kinks):
            moved = [total(image, values | {name: values[name] + s}) for s in (step, -step)]
            numeric = float(moved[0] - moved[1]) / (2 * step)
            assert float(slopes[name]) == pytest.approx(numeric, rel=1e-4, abs=1e-7)


@CHECKED
def test_impossible_parameters_are_named(case, images):
    for name, value in case.bad.items():
        with pytest.raises(ValueError, match=f"^{name} "):
            case(KEY, images, **case.values | {name: value})
    for name in case.values:
        with pytest.raises(ValueError, match="has shape"):
            case(KEY, images, **case.values | {name: np.full(3, case.values[name])})


@CHECKED
def test_malformed_images_are_refused(case):
    for image in (np.zeros((4, 4), np.float32), np.zeros((4, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="image has"):
            case(KEY, image, **case.values)
