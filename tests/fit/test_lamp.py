"""The colour of a lamp is found among subjects of many colours, and not where there is none."""

import jax
import numpy as np
import pytest
import scipy.stats
import skimage.data
from PIL import Image

from lle_jax import degrade, images
from lle_jax.degrade import presets
from lle_jax.fit import distributions, lamp, measures
from lle_jax.fit import preset as preset_files

PRIOR = presets.parse(
    """
[exposure]
gain.loguniform = [0.02, 1.0]
[illuminant]
red.loguniform = [0.4, 2.5]
blue.loguniform = [0.4, 2.5]
""",
    "prior.toml",
)
WITHIN = PRIOR.stages[1]


def device(colours, slope=1.0):
    """What a device with a tone curve makes of subjects under a lamp: its colour is stronger."""
    return lambda light: colours + (slope * np.log(light.gain) if light else 0)


def subjects(rng, count):
    """Logarithms of colours of three kinds of subject, one of them grey."""
    kinds = np.array([[0.0, 0.0], [0.6, -0.4], [1.3, -0.8]])
    spread = np.array([0.02, 0.15, 0.3])
    kind = rng.integers(3, size=count)
    return kinds[kind] + spread[kind, None] * rng.standard_normal((count, 2))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("slope", [1.0, 2.0, 3.0])
def test_a_lamp_is_found_among_subjects_of_many_colours(seed, slope):
    rng = np.random.default_rng(seed)
    true = np.log([1.5, 0.5])
    real = subjects(rng, 40) + slope * true + rng.uniform(-0.1, 0.1, (40, 2))
    found = lamp.find(real, device(subjects(rng, 40), slope), WITHIN)
    assert found is not None
    assert found.after < found.before / 3
    error = np.abs(np.log(found.gain) - true)
    assert (error < 3 * np.array(found.error) + 0.05).all()
    assert max(found.error) < 0.3
    stage = found.stage()
    assert (stage.name, stage.probability) == ("illuminant", 1.0)
    # within a range that white light is not in, too
    warm = presets.parse(
        "[illuminant]\nred.uniform = [1.3, 2.0]\nblue.uniform = [0.3, 0.7]", "warm.toml"
    )
    narrow = lamp.find(real, device(subjects(np.random.default_rng(seed), 40), slope), *warm.stages)
    assert narrow is not None
    np.testing.assert_allclose(np.log(narrow.gain), np.log(found.gain), atol=0.15)
    # a stronger one is still sought within the prior's range
    strong = lamp.find(real + np.log([2.5, 0.3]), device(subjects(rng, 40), slope), WITHIN)
    assert strong is None or (strong.gain[0] <= 2.5 and strong.gain[1] >= 0.4)


def test_the_stage_of_an_extreme_lamp_is_one_that_a_preset_may_have():
    stage = lamp.Lamp((9.5, 0.0011), (0.1, 0.3), 1.0, 0.1).stage()
    text = presets.to_toml(stage, lambda name: "fitted")
    assert presets.parse(text).stages == (stage,)
    red, blue = (distribution.values for _, distribution in stage.parameters)
    assert (red[3], blue[2]) == (10, 0.001)


@pytest.mark.parametrize("seed", range(8))
def test_no_lamp_is_found_where_there_is_none(seed):
    rng = np.random.default_rng(seed)
    assert lamp.find(subjects(rng, 40), device(subjects(rng, 40)), WITHIN) is None


def test_other_subjects_are_not_a_lamp():
    rng = np.random.default_rng(0)
    # half of them blue: no shift makes of one cloud two
    real = np.array([0.0, 1.0]) * rng.choice([-1, 1], (60, 1)) + 0.05 * rng.standard_normal((60, 2))
    clean = 0.05 * rng.standard_normal((60, 2))
    assert lamp.energy_distance(real, clean) > 0.3
    assert lamp.find(real, device(clean), WITHIN) is None


def test_the_energy_distance_is_that_of_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (30, 1)), rng.normal(0.5, 2, (50, 1))
    expected = scipy.stats.energy_distance(a[:, 0], b[:, 0]) ** 2
    assert lamp.energy_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_colours_are_ratios_of_mean_light():
    image = np.full((1, 8, 8, 3), 0.5, np.float32)
    np.testing.assert_allclose(lamp.colours(image), np.zeros((1, 2)), atol=1e-5)
    lit = degrade.white_balance(image, red=1.3, blue=0.6)
    np.testing.assert_allclose(lamp.colours(lit), np.log([[1.3, 0.6]]), atol=1e-3)


@pytest.fixture(scope="module")
def pieces():
    """Pieces of a stained tissue, in colour: `[60, 64, 64, 3]`."""
    photo = skimage.data.immunohistochemistry().astype(np.float32) / 255
    pieces = photo.reshape(8, 64, 8, 64, 3).swapaxes(1, 2).reshape(-1, 64, 64, 3)
    return np.random.default_rng(0).permutation(pieces)[:60]


@pytest.mark.parametrize(
    ("light", "searched", "in_grey"),
    [(True, True, False), (False, True, False), (True, False, False), (True, True, True)],
)
def test_files_under_a_lamp_become_a_preset_with_it(
    tmp_path, monkeypatch, pieces, light, searched, in_grey
):
    monkeypatch.setattr(distributions, "ROUNDS", 1)
    gains = {"illuminant.red": np.float32(1.4), "illuminant.blue": np.float32(0.5)}
    parameters = {"exposure.gain": np.float32(0.2)} | (gains if light else {})
    real = np.asarray(degrade.apply(jax.random.key(0), parameters, pieces[:30]))
    for name, chosen in (("real", real), ("clean", pieces[30:])):
        (tmp_path / name).mkdir()
        for index, image in enumerate(chosen):
            image = image[..., 1:2] if in_grey else image
            images.write(tmp_path / name / f"{index}.png", image)
    stages = PRIOR.stages if searched else PRIOR.stages[:1]
    prior = presets.Preset("prior", "", stages)
    report = preset_files.fit_files(
        [tmp_path / "real"], [tmp_path / "clean"], prior, tmp_path / "x.toml", simulations=64
    )
    made = {stage.name: stage for stage in degrade.load(tmp_path / "x.toml").stages}
    assert ("illuminant" in made) == (light and searched and not in_grey)
    assert any("Colour of the light" in line for line in report.provenance) == searched
    grey = [line for line in report.provenance if "not looked for in grey images" in line]
    assert len(grey) == in_grey
    if "illuminant" in made:
        assert list(made) == ["exposure", "illuminant"]  # as the chain has them
        for (_, distribution), true in zip(made["illuminant"].parameters, (1.4, 0.5), strict=True):
            assert distribution.values[0] == pytest.approx(true, rel=0.15)
        cast = list(measures.MEASURES).index(measures.CAST)
        assert report.tests[cast][0] < 0.5  # the synthetic images have it


def write_film(path, frames):
    pages = [Image.fromarray(page) for page in np.rint(255 * frames).astype(np.uint8)]
    pages[0].save(path, save_all=True, append_images=pages[1:])


@pytest.mark.parametrize("films", ["real", "clean"])
def test_frames_of_a_film_are_one_image_for_lamp_tests_and_counts(
    tmp_path, monkeypatch, pieces, films
):
    monkeypatch.setattr(distributions, "ROUNDS", 1)
    sets = {"real": 0.5 * pieces[:24], "clean": pieces[24:48]}
    for name, chosen in sets.items():
        (tmp_path / name).mkdir()
        for index, image in enumerate(chosen):
            images.write(tmp_path / name / f"{index}.png", image)
    brown = min(sets[films], key=lambda image: image[..., 2].mean() / image[..., 1].mean())
    write_film(tmp_path / films / "film.tif", np.repeat(brown[None], 60, axis=0))
    seen, find = [], lamp.find
    monkeypatch.setattr(lamp, "find", lambda *all: seen.append(find(*all)) or seen[-1])
    report = preset_files.fit_files(
        [tmp_path / "real"], [tmp_path / "clean"], PRIOR, tmp_path / "x.toml", simulations=96
    )
    assert seen == [None]
    assert len(report.real) == (84 if films == "real" else 24)
    counted = f"{films.capitalize()} images: 25 of 84 frames, fingerprint"
    assert any(line.startswith(counted) for line in report.provenance)
    assert report.preset.description == f"Fitted to {25 if films == 'real' else 24} real images"
    # 25 images of each at most tell what they tell apart
    assert min(p for _, p in report.tests) >= 1e-14
    with pytest.raises(ValueError, match="one real image, or film, says nothing"):
        preset_files.fit_files(
            [tmp_path / "real" / "film.tif" if films == "real" else tmp_path / "real" / "0.png"],
            [tmp_path / "clean"],
            PRIOR,
            tmp_path / "y.toml",
        )
