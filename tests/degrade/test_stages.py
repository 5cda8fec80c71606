"""The records of the stages: what the chain promises for each, and for a new one."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lle_jax import colour, degrade
from lle_jax.degrade import chain, presets
from lle_jax.degrade.stages import STAGES, ParameterSpec, Stage, markdown_table, noise_stages

KEY = jax.random.key(11)


def speckle(key, image, *, sigma):
    """Multiplicative noise, drawn for each channel."""
    return image * (1 + sigma[..., None, None, None] * jax.random.normal(key, image.shape))


# Never to be changed: with them the same key gives the pixels it always gave.
KEY_IDS = {
    "cos4_vignetting": 0,
    "polynomial_vignetting": 1,
    "light_source": 2,
    "fundus_illumination": 3,
    "exposure": 4,
    "gaussian_blur": 5,
    "defocus_blur": 6,
    "motion_blur": 7,
    "poisson_gaussian_noise": 8,
    "approximate_poisson_gaussian_noise": 9,
    "banding_noise": 10,
    "white_balance": 11,
    "gamma": 12,
    "gaussian_noise": 13,
    "salt_and_pepper": 14,
    "quantise": 15,
    "jpeg": 16,
    "bayer_sensor": 17,
    "denoise": 18,
    "sharpen": 19,
    "tone_curve": 20,
    "correlated_noise": 21,
    "tint": 22,
    "veiling_glare": 23,
    "illuminant": 24,
}


def new_stage(domain="display", key_id=99):
    return Stage(
        "speckle",
        speckle,
        domain,
        {"sigma": ParameterSpec(0, 1, 0)},
        noise=True,
        grey_shared=True,
        key_id=key_id,
    )


@pytest.fixture
def add_stage(monkeypatch):
    """Puts a record before all others, and forgets what was compiled without it."""

    def add(stage):
        records = dict(STAGES)
        for name in records:
            monkeypatch.delitem(STAGES, name)
        monkeypatch.setitem(STAGES, stage.name, stage)
        for name, record in records.items():
            if name != stage.name:
                monkeypatch.setitem(STAGES, name, record)
        chain._apply.clear_cache()

    order = dict(STAGES)
    yield add
    monkeypatch.undo()
    STAGES.clear()  # undoing puts the records back, but in another order
    STAGES.update(order)
    chain._apply.clear_cache()


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).uniform(0.2, 0.8, (9, 11, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def grey(image):
    return np.repeat(image[..., :1], 3, axis=-1)


def test_key_ids_are_unique_and_those_of_published_results():
    assert {name: STAGES[name].key_id for name in KEY_IDS} == KEY_IDS
    assert len({stage.key_id for stage in STAGES.values()}) == len(STAGES)


def test_the_document_has_the_table_of_the_stages():
    document = Path(__file__).parents[2] / "docs" / "degradation.md"
    tables = [line for line in document.read_text("utf-8").splitlines(True) if line[0] == "|"]
    assert markdown_table() in "".join(tables)
    assert sum("stage | parameters" in line for line in tables) == 1


def test_noise_stages_are_those_that_draw_noise():
    assert set(noise_stages()) == {
        "poisson_gaussian_noise",
        "approximate_poisson_gaussian_noise",
        "banding_noise",
        "bayer_sensor",
        "gaussian_noise",
        "correlated_noise",
        "salt_and_pepper",
    }
    assert all(STAGES[name].grey_shared for name in noise_stages())


def test_a_new_stage_moves_no_pixel_of_the_others(add_stage, image):
    parameters = {"banding_noise.row_sigma": 0.02, "banding_noise.column_sigma": 0.02}
    parameters |= {"gaussian_noise.sigma": 0.1}
    before = degrade.apply(KEY, parameters, image)
    add_stage(new_stage())
    np.testing.assert_array_equal(degrade.apply(KEY, parameters, image), before)
    assert "speckle" in noise_stages()


@pytest.mark.parametrize("domain", ["light", "display"])
def test_a_new_noise_stage_tints_no_grey_image(add_stage, grey, domain):
    add_stage(new_stage(domain))
    low = np.asarray(degrade.apply(KEY, {"speckle.sigma": 0.2}, grey))
    assert np.abs(low - grey).max() > 0.01
    np.testing.assert_array_equal(low, np.repeat(low[..., :1], 3, axis=-1))


def test_stages_draw_from_keys_of_their_own(add_stage, image):
    drawn = []
    for key_id in (98, 99):
        add_stage(new_stage(key_id=key_id))
        drawn.append(np.asarray(degrade.apply(KEY, {"speckle.sigma": 0.2}, image)))
    assert (drawn[0] != drawn[1]).mean() > 0.99


@pytest.mark.parametrize("name", noise_stages())
def test_noise_of_a_grey_image_is_shared_by_its_channels(grey, name):
    # each stage alone: a later one that shares its noise would hide that this one does not
    parameters = {
        f"{name}.{parameter}": max(0.02, spec.low)
        for parameter, spec in STAGES[name].parameters.items()
    }
    low = np.asarray(degrade.apply(KEY, parameters, grey))
    assert np.abs(low - grey).max() > 0.01
    np.testing.assert_array_equal(low, np.repeat(low[..., :1], 3, axis=-1))


def test_a_tint_colours_grey_pictures_and_white_balance_does_not(grey):
    grey = jnp.broadcast_to(grey[..., :1], (*grey.shape[:-1], 3))
    values = {"red": jnp.float32(1.2), "blue": jnp.float32(0.8)}
    tinted, balanced = (
        np.asarray(degrade.apply(jax.random.key(0), parameters, grey))
        for parameters in (
            {f"{stage}.{name}": value for name, value in values.items()}
            for stage in ("tint", "white_balance")
        )
    )
    np.testing.assert_allclose(balanced, grey, atol=1e-6)
    assert (balanced == balanced[..., :1]).all()
    np.testing.assert_allclose(tinted[..., 1], grey[..., 1], atol=1e-6)
    assert tinted[..., 0].mean() > grey.mean() > tinted[..., 2].mean()


def test_an_illuminant_gives_grey_subjects_colour_and_noise_in_colour(grey):
    grey = jnp.tile(grey, (8, 8, 1))
    noise = {"gaussian_noise.sigma": jnp.float32(0.02)}
    light = {"illuminant.red": jnp.float32(0.9), "illuminant.blue": jnp.float32(0.5)}
    low = np.asarray(degrade.apply(KEY, light, grey))
    linear = np.asarray(colour.srgb_to_linear(grey))
    np.testing.assert_allclose(
        np.asarray(colour.srgb_to_linear(low)), linear * np.float32([0.9, 1, 0.5]), atol=2e-6
    )
    noisy = np.asarray(degrade.apply(KEY, noise | light, grey)) - low
    red, blue = (noisy[..., channel].ravel() for channel in (0, 2))
    assert abs(np.corrcoef(red, blue)[0, 1]) < 0.1  # the channels of a grey image share theirs
    assert np.std(blue) == pytest.approx(np.std(red), rel=0.15)  # it comes after the light
    # an image without the stage, beside one with it, stays grey
    both = light | {"illuminant.active": jnp.float32([0, 1])}
    pair = np.asarray(degrade.apply(KEY, noise | both, jnp.stack([grey, grey])))
    assert (pair[0] == pair[0, ..., :1]).all()
    assert not (pair[1] == pair[1, ..., :1]).all()
    # and one channel has no colour
    single = np.asarray(degrade.apply(KEY, light, grey[..., :1]))
    np.testing.assert_allclose(single, grey[..., :1], atol=1e-6)


def test_half_the_severity_of_exposure_is_the_square_root_of_the_gain():
    preset = presets.parse("[exposure]\ngain = 0.25\n")
    gain = degrade.sample(KEY, preset, (), severity=0.5)["exposure.gain"]
    assert float(gain) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("direction", ["row_sigma", "column_sigma"])
def test_banding_in_one_direction_alone_is_noise(image, direction):
    sigmas = {"row_sigma": 0.0, "column_sigma": 0.0} | {direction: 0.05}
    offset = np.asarray(degrade.banding_noise(KEY, image, **sigmas)) - image
    assert np.abs(offset).max() > 0.02
    along = 1 if direction == "row_sigma" else 0
    assert np.ptp(offset, axis=along).max() < 1e-6


def test_the_motion_blur_of_a_point_is_centred_on_it():
    point = jnp.zeros((41, 41, 1)).at[20, 20].set(1)
    cases = [(3, 0, 0), (8, 30, 0), (15, -75, 0), (15, 90, 0.5), (11, 120, -1)]
    length, angle, curvature = np.array(cases, np.float32).T
    points = jnp.broadcast_to(point, (len(cases), *point.shape))
    blurred = np.asarray(
        degrade.motion_blur(points, length=length, angle=angle, curvature=curvature)
    )[..., 0]
    assert (blurred.max(axis=(1, 2)) < 0.9).all()
    positions = np.arange(41) - 20
    rows = (blurred.sum(axis=2) * positions).sum(axis=1)
    columns = (blurred.sum(axis=1) * positions).sum(axis=1)
    np.testing.assert_allclose(rows, 0, atol=0.05)
    np.testing.assert_allclose(columns, 0, atol=0.05)
