"""The fit finds hidden presets, here by two cheap measures; benchmarks/fit.py by the real ones."""

import dataclasses
import json
import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import skimage.data

from lle_jax import artifacts, cli, degrade, images
from lle_jax.degrade import chain, presets
from lle_jax.fit import distributions, measures
from lle_jax.fit import preset as preset_files
from lle_jax.images.picture import to_unit

PRIOR = presets.parse(
    """
[exposure]
gain.loguniform = [0.02, 1.0]
[gaussian_noise]
probability = 0.5
sigma.loguniform = [0.002, 0.2]
""",
    "prior.toml",
)


@pytest.fixture(scope="module")
def pictures():
    """Pieces of a stained tissue, alike in brightness: `[120, 32, 32, 1]`."""
    photo = skimage.data.immunohistochemistry()[:480, :480, :1].astype(np.float32) / 255
    pieces = photo.reshape(15, 32, 15, 32, 1).swapaxes(1, 2).reshape(-1, 32, 32, 1)
    return np.random.default_rng(0).permutation(pieces)[:120]


@jax.jit
def brightness_and_noise(x):
    """Logarithms of the mean and of the noise by Immerkaer's mask."""
    x = x[..., 0]
    rows = x[:, :-2] - 2 * x[:, 1:-1] + x[:, 2:]
    both = rows[..., :-2] - 2 * rows[..., 1:-1] + rows[..., 2:]
    mean = jnp.mean(x, axis=(1, 2))
    return jnp.log(jnp.stack([mean + 1e-3, jnp.median(jnp.abs(both), axis=(1, 2)) + 1e-3], -1))


def degraded(pictures, text, seed):
    parameters = degrade.sample(jax.random.key(seed), presets.parse(text), (len(pictures),))
    low = degrade.apply(jax.random.key(seed + 1), parameters, pictures)
    return np.asarray(jnp.round(low * 255) / 255)


@jax.jit
def brightness_and_contrast(x):
    light = x[..., 0] + 1e-3
    return jnp.stack(
        [jnp.log(jnp.mean(light, axis=(1, 2))), jnp.std(jnp.log(light), axis=(1, 2))], -1
    )


CURVED = presets.parse(
    """
    [exposure]
    gain.loguniform = [0.003, 1.0]
    [gamma]
    probability = 0.5
    gamma.uniform = [1.0, 3.5]
    """,
    "curved.toml",
)


@pytest.mark.parametrize(
    ("hidden", "gain", "gamma"),
    [
        ("[exposure]\ngain.loguniform = [0.4, 0.6]\n[gamma]\ngamma.uniform = [2, 2.4]", 0.49, 2.2),
        ("[exposure]\ngain.loguniform = [0.04, 0.06]", 0.049, 1.0),
    ],
)
def test_a_tone_curve_is_told_from_little_light(pictures, hidden, gain, gamma):
    real = np.asarray(brightness_and_contrast(degraded(pictures[:60], hidden, 3)))
    fitted = distributions.fit(
        jax.random.key(0), CURVED, real, pictures[60:], brightness_and_contrast
    )
    found = {stage.name: stage for stage in fitted.space.preset(fitted.parameters, "", "").stages}
    median = {name: dict(stage.parameters) for name, stage in found.items()}
    assert median["exposure"]["gain"].values[0] == pytest.approx(gain, rel=0.15)
    assert found["gamma"].probability in (0, 1)  # a gamma of 1 is no curve either
    curve = median["gamma"]["gamma"].values[0] if found["gamma"].probability else 1.0
    assert curve == pytest.approx(gamma, rel=0.1)


def test_the_device_has_a_tone_curve_or_has_none(pictures):
    space = distributions.Space.of(CURVED)
    without, always = space.rivals
    assert without[-1][1] < -3
    assert always[-1][0] > 3
    assert without[:-1] == always[:-1] == space.bounds[:-1]
    only = distributions.Space.of(PRIOR)
    assert only.rivals == [only.bounds]
    real = np.asarray(brightness_and_contrast(pictures[:60]))
    few = distributions.fit(
        jax.random.key(0), CURVED, real, pictures, brightness_and_contrast, simulations=32
    )
    assert np.isfinite(few.parameters).all()  # one batch cannot be divided
    # images of a round in whole batches
    assert [distributions._shares(224, parts) for parts in (1, 2)] == [[224], [128, 96]]


def test_weights_of_the_proposal_average_to_one():
    space = distributions.Space.of(PRIOR)
    proposal, target = space.start, np.array([0.4, 0.7, -1.5, -0.5, 0.8])
    t, active = space.draw(jax.random.key(0), proposal, 200_000)
    weight = jnp.exp(space.log_density(target, t, active) - space.log_density(proposal, t, active))
    assert float(weight.mean()) == pytest.approx(1, abs=0.02)
    # and carry the target's mean and probability, which drawing from it gives
    drawn, on = space.draw(jax.random.key(1), target, 200_000)
    np.testing.assert_allclose((weight[:, None] * t).mean(0), drawn.mean(0), atol=0.01)
    np.testing.assert_allclose((weight[:, None] * active).mean(0), on.mean(0), atol=0.01)


def test_the_fitted_preset_draws_what_the_fit_weighted():
    space = distributions.Space.of(PRIOR)
    parameters = np.array([0.3, 0.6, np.log(0.2), np.log(0.4), 0.5])
    preset = space.preset(parameters, "x", "")
    t, active = space.draw(jax.random.key(0), parameters, 50_000)
    expected = space.degradation(jax.random.key(0), t, active)
    drawn = degrade.sample(jax.random.key(1), preset, (50_000,))
    assert drawn.keys() == expected.keys()
    for name in ("exposure.gain", "gaussian_noise.sigma"):
        quantiles = [np.quantile(np.log(v[name]), (0.1, 0.5, 0.9)) for v in (drawn, expected)]
        np.testing.assert_allclose(*quantiles, atol=0.04)
    found = float(drawn["gaussian_noise.active"].mean())
    assert found == pytest.approx(float(active.mean()), abs=0.03)


def test_what_is_not_searched_is_simulated_as_the_preset_draws_it():
    prior = presets.parse(
        "[exposure]\ngain.loguniform = [0.02, 1.0]\n[gaussian_noise]\n"
        "sigma.lognormal = [0.02, 0.5, 0.001, 0.1]\n[quantise]\nbits.choice = [5, 6, 8]\n"
        "[tint]\nred.normal = [1, 0.1, 0.7, 1.4]\nblue = 1.1\n"
    )
    space = distributions.Space.of(prior)
    t, active = space.draw(jax.random.key(0), space.start, 50_000)
    found = space.degradation(jax.random.key(0), t, active)
    drawn = degrade.sample(jax.random.key(1), prior, (50_000,))
    assert drawn.keys() == found.keys()
    for name, value in found.items():
        np.testing.assert_allclose(value.mean(), drawn[name].mean(), rtol=0.02)
        np.testing.assert_allclose(value.std(), drawn[name].std(), rtol=0.05)
    together = np.corrcoef([t[:, 0], *(found[n] for n in ("gaussian_noise.sigma", "tint.red"))])
    np.testing.assert_allclose(together, np.eye(3), atol=0.02)


def test_a_hidden_preset_is_found_again(pictures):
    hidden = """
[exposure]
gain.loguniform = [0.1, 0.3]
[gaussian_noise]
sigma.loguniform = [0.02, 0.06]
"""
    real = np.asarray(brightness_and_noise(degraded(pictures[:60], hidden, 5)))
    fitted = distributions.fit(jax.random.key(0), PRIOR, real, pictures[60:], brightness_and_noise)
    preset = fitted.space.preset(fitted.parameters, "mine", "")
    drawn = degrade.sample(jax.random.key(9), preset, (5000,))
    assert np.median(drawn["exposure.gain"]) == pytest.approx(np.sqrt(0.03), rel=0.15)
    assert np.median(drawn["gaussian_noise.sigma"]) == pytest.approx(np.sqrt(0.0012), rel=0.15)
    assert preset.stages[1].probability > 0.9
    fresh = jax.random.fold_in(jax.random.key(0), distributions.ROUNDS)
    clean = pictures[60:]
    synthetic, made_of = distributions.synthesise(fresh, preset, clean, brightness_and_noise, 768)
    assert synthetic.shape == (768, 2)
    times = np.bincount(made_of)  # each equally often
    assert (len(times), times.min(), times.max()) == (len(clean), 768 // 60, -(-768 // 60))
    assert measures.classify(real, synthetic, np.arange(60), made_of) < 0.65
    dim = degraded(clean, "[exposure]\ngain.loguniform = [0.5, 0.9]\n", 7)
    dim = np.asarray(brightness_and_noise(dim))
    assert measures.classify(real, dim, np.arange(60), np.arange(60)) > 0.9


@jax.jit
def noise_only(x):
    """Luminance, and the noise measures of the fit."""
    noise = artifacts.noise_correlation(x)
    return jnp.stack([jnp.mean(x, axis=(-3, -2, -1)), *noise.luma, *noise.chroma], axis=-1)


def lag_1_of_colour(preset):
    """Correlation of red less green in pixels side by side, on a field without structure."""
    field = np.broadcast_to(np.float32([0.5, 0.4, 0.3]), (16, 64, 64, 3))
    parameters = degrade.sample(jax.random.key(3), preset, (len(field),))
    low = np.asarray(degrade.apply(jax.random.key(4), parameters, field))
    colours = low[..., 0] - low[..., 1]
    colours = colours - colours.mean(axis=(1, 2), keepdims=True)
    power = (colours**2).mean(axis=(1, 2))
    return np.median((colours[..., 1:] * colours[..., :-1]).mean(axis=(1, 2)) / power)


@pytest.mark.parametrize("correlated", [True, False])
def test_the_fitted_noise_is_correlated_as_the_real_is(correlated, monkeypatch):
    monkeypatch.setattr(distributions, "ROUNDS", 2)
    monkeypatch.setattr(distributions, "SIMULATIONS", 192)
    sensor = degrade.load(presets.folder().parent / "fit" / "sensor.toml")
    chosen = ("bayer_sensor", "denoise", "gaussian_noise")
    stages = tuple(stage for stage in sensor.stages if stage.name in chosen)
    prior = dataclasses.replace(sensor, stages=stages)
    hidden = (
        "[bayer_sensor]\ngain = 0.002\nread_noise = 0.003\ntail = 0.3\nrow_noise = 0\nbits = 12\n"
        "red = 2\nblue = 1.7\ncamera = 1\ncorrection = 0.5\n[denoise]\nluma = 0.01\nchroma = 0.05\n"
        if correlated
        else "[gaussian_noise]\nsigma.loguniform = [0.02, 0.05]\n"
    )
    photo = skimage.data.immunohistochemistry().astype(np.float32) / 255
    pieces = photo.reshape(8, 64, 8, 64, 3).swapaxes(1, 2).reshape(-1, 64, 64, 3)
    real = np.asarray(noise_only(degraded(pieces[::2], hidden, 5)))
    fitted = distributions.fit(jax.random.key(0), prior, real, pieces[1::2], noise_only)
    expected = lag_1_of_colour(presets.parse(hidden))
    found = lag_1_of_colour(fitted.space.preset(fitted.parameters, "mine", ""))
    assert (expected > 0.5) == correlated
    assert found == pytest.approx(expected, abs=0.15)


def test_a_fit_out_of_time_ends_after_its_second_round(pictures):
    real = np.asarray(brightness_and_noise(degraded(pictures[:8], "[exposure]\ngain = 0.2\n", 5)))
    batches = []

    def measure(images):
        batches.append(len(images))
        return brightness_and_noise(images)

    distributions.fit(
        jax.random.key(0),
        PRIOR,
        real,
        pictures[60:],
        measure,
        simulations=64,
        out_of_time=lambda: True,
    )
    assert batches == [32] * 4  # two rounds


def test_a_prior_without_ranges_is_refused():
    with pytest.raises(ValueError, match="no uniform or loguniform range"):
        distributions.Space.of(presets.parse("[exposure]\ngain = 0.5\n"))


def test_the_classifier_is_at_chance_for_equal_and_sure_of_distant_distributions():
    generator = np.random.default_rng(0)
    a, b, c = (generator.normal(mean, 1, (80, 4)) for mean in (0, 0, 3))
    files = np.arange(80)
    assert measures.classify(a, b, files, files) == pytest.approx(0.5, abs=0.08)
    assert measures.classify(a, c, files, files) > 0.98
    blind = np.where(generator.random((80, 4)) < 0.5, np.nan, a)
    assert measures.classify(a, blind, files, files) > 0.9


@pytest.mark.parametrize(("real", "synthetic", "each"), [(20, 768, 1), (20, 20, 1), (20, 60, 8)])
def test_the_classifier_is_at_chance_with_few_images_with_films_and_with_versions(
    real, synthetic, each
):
    generator = np.random.default_rng(0)

    def drawn(files):  # all of a file are nearly alike
        of = np.repeat(np.arange(files), each)
        return generator.normal(0, 1, (files, 24))[of] + generator.normal(0, 0.1, (len(of), 24)), of

    areas = []
    for _ in range(40):
        (a, of_a), (b, of_b) = drawn(real), drawn(synthetic)
        areas.append(measures.classify(a, b, of_a, of_b))
    assert np.mean(areas) == pytest.approx(0.5, abs=0.03)  # its standard error is 0.01


def test_the_classifier_says_nothing_of_one_file():
    a, b = np.random.default_rng(0).normal(0, 1, (2, 8, 3))
    assert np.isnan(measures.classify(a, b, np.arange(8), np.zeros(8)))


def test_the_median_is_that_of_scipy():
    image = np.random.default_rng(0).random((2, 13, 17, 1)).astype(np.float32)
    expected = scipy.ndimage.median_filter(image, (1, 3, 3, 1), mode="reflect")
    np.testing.assert_array_equal(measures._median(image), expected)


@pytest.fixture
def folders(tmp_path, pictures):
    for name, chosen in (("real", 0.2 * pictures[:24]), ("clean", pictures[60:84])):
        (tmp_path / name).mkdir()
        for index, picture in enumerate(chosen):
            large = picture.repeat(3, axis=0).repeat(3, axis=1)
            images.write(tmp_path / name / f"{index}.png", large)
    return tmp_path


def test_files_become_a_preset_and_a_page(folders, monkeypatch, capsys):
    monkeypatch.setattr(distributions, "ROUNDS", 1)
    monkeypatch.setattr(distributions, "SIMULATIONS", 64)
    for name in (b"broken.png", b"caf\xe9.png"):  # the other of Latin-1, so not of UTF-8
        (folders / "real" / os.fsdecode(name)).write_bytes(b"\x89PNG\r\n\x1a\n")
    output = folders / "made" / "mine.toml"
    words = ["fit", str(folders / "real"), "--clean", str(folders / "clean"), "-o", str(output)]
    assert cli.main([*words, "--json"]) == 1  # two files could not be read
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["written"] == [str(output), str(output.with_suffix(".html"))]
    names = [os.fsencode(Path(each["input"]).name) for each in document["failed"]]
    assert names == [b"broken.png", b"caf\xe9.png"]
    assert any(line.startswith("Real images: 24") for line in document["provenance"])
    text, page = output.read_text(), output.with_suffix(".html").read_text()
    preset = degrade.load(output)
    assert [stage.name for stage in preset.stages][:2] == ["exposure", "gaussian_blur"]
    chain.sample(jax.random.key(0), preset, (2,))
    for part in ("Real images: 24, fingerprint", "Clean images: 24", "area under the curve"):
        assert part in text
        assert part in page
    for name in ("broken.png", "caf?.png"):
        assert f"{name}: " in page
        assert f"{name}: " in printed.err
    assert f"caf?.png: {folders}" not in page  # the name once
    assert 'src="data:' in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)  # nothing is loaded from elsewhere
    assert cli.main(words) == 2
    assert "exists; remove it" in capsys.readouterr().err


@pytest.mark.parametrize("mixed", ["real", "clean", "both"])
def test_grey_files_are_measured_among_those_in_colour_if_both_sets_have_colour(
    folders, monkeypatch, mixed
):
    monkeypatch.setattr(distributions, "ROUNDS", 1)
    rng = np.random.default_rng(0)
    for index in range(3):
        for name, light in (("real", 0.2), ("clean", 1.0)):
            if mixed in (name, "both"):
                picture = light * (0.4 + 0.2 * rng.random((72, 72, 3), np.float32))
                images.write(folders / name / f"more_{index}.png", picture)
    seen, measure = [], measures.measure
    monkeypatch.setattr(measures, "measure", lambda image: seen.append(image) or measure(image))
    report = preset_files.fit_files(
        [folders / "real"], [folders / "clean"], PRIOR, folders / "x.toml", simulations=64
    )
    assert any("squares of 64 pixels" in line for line in report.provenance)
    assert any("pixels, in grey" in line for line in report.provenance) == (mixed != "both")
    assert {image.shape[-1] for image in seen} == {3 if mixed == "both" else 1}
    has_chroma_noise = report.real[:, list(measures.MEASURES).index("chroma noise sigma")] > -3.9
    assert has_chroma_noise.sum() == (3 if mixed == "both" else 0)
    # real ones too are of whole levels: luma between them hides that a block is flat
    levels = 255 * np.concatenate([np.asarray(image).ravel() for image in seen])
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_16_bits_are_measured_as_those_of_8(channels):
    rng = np.random.default_rng(0)
    fine = (rng.integers(0, 65536, (1, 64, 64, channels)) / 65535).astype(np.float32)
    coarse = to_unit(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), 255)
    for grey in (False, True):
        image = preset_files._Image(Path("x"), "", fine)
        levels = 255 * preset_files._crops([image], 64, grey)
        np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
    # what is of 8 bits stays as it is, to the bit
    image = preset_files._Image(Path("x"), "", coarse)
    crops = preset_files._crops([image], 16, grey=False)
    np.testing.assert_array_equal(crops, np.broadcast_to(coarse, (1, 16, 16, 3)))


@pytest.mark.parametrize(
    ("real", "clean", "output", "message"),
    [
        ("real/0.png", "clean", "x.toml", "one real image, or film, says nothing"),
        ("real", "real", "x.toml", "among the real and the clean"),
        ("real", "clean", "x.json", "ends in .toml"),
        ("real", "nowhere", "x.toml", "nowhere"),
    ],
)
def test_what_cannot_be_fitted_is_said_in_a_line(folders, real, clean, output, message):
    with pytest.raises((ValueError, OSError), match=message) as caught:
        preset_files.fit_files([folders / real], [folders / clean], PRIOR, folders / output)
    assert "\n" not in str(caught.value)
    assert not (folders / output).exists()


def test_an_output_that_cannot_be_written_is_refused_before_the_fit(folders, monkeypatch):
    (folders / "file").write_text("")
    (folders / "locked").mkdir()
    # as root everything may be written
    allowed = preset_files.os.access
    monkeypatch.setattr(
        preset_files.os,
        "access",
        lambda path, mode: not str(path).endswith("locked") and allowed(path, mode),
    )
    monkeypatch.setattr(preset_files.images, "find", lambda paths: pytest.fail("images are read"))
    for name in ("file", "locked"):
        for output in (folders / name / "x.toml", folders / name / "deep" / "x.toml"):
            with pytest.raises(ValueError, match=f"{name} is not a folder that may be written"):
                preset_files.fit_files([folders / "real"], [folders / "clean"], PRIOR, output)


def test_a_seed_that_no_key_holds_is_said_in_a_line(folders, capsys):
    words = ["fit", str(folders / "real"), "--clean", str(folders / "clean")]
    seed = "9" * 23
    assert cli.main([*words, "-o", str(folders / "x.toml"), "--seed", seed]) == 2
    assert f"seed is {seed}; expected a whole number" in capsys.readouterr().err


def test_an_image_too_small_to_measure_is_named(folders):
    images.write(folders / "real" / "tiny.png", np.full((40, 90, 1), 0.1, np.float32))
    with pytest.raises(ValueError, match=r"tiny.png is smaller than 64"):
        preset_files.fit_files([folders / "real"], [folders / "clean"], PRIOR, folders / "x.toml")
