"""`lle adapt` from two folders to a release, on a tiny network and with a fit that is given."""

import json
import re
import shutil
import signal
from types import SimpleNamespace

import jax
import ml_collections
import numpy as np
import pytest
import skimage.data

import lle_jax
from lle_jax import cli, degrade, images, interrupt, models
from lle_jax.adapt import fine_tune, inputs, job, verdict
from lle_jax.checkpoints import load, provenance, release
from lle_jax.degrade import presets
from lle_jax.evaluation import measures, statistics
from lle_jax.fit import lamp
from lle_jax.fit import preset as fit
from lle_jax.models.params import named
from lle_jax.training import exposure, train

PRESET = """# Fitted by a test.
# Real and synthetic images told apart: area under the curve 0.97 (0.5 chance, 1 always).
[exposure]
gain.uniform = [0.15, 0.25]
[gaussian_noise]
sigma = 0.02
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """30 clean and 30 dark images of 64 pixels a side, of one stained tissue."""
    root = tmp_path_factory.mktemp("clinic")
    photo = skimage.data.immunohistochemistry().astype(np.float32) / 255
    pieces = photo.reshape(8, 64, 8, 64, 3).swapaxes(1, 2).reshape(-1, 64, 64, 3)
    noise = np.random.default_rng(0).normal(0, 0.02, pieces.shape)
    for name, chosen in (
        ("clean", pieces[:30]),
        ("dark", np.clip(0.2 * pieces + noise, 0, 1)[30:]),
    ):
        (root / name).mkdir()
        for index, picture in enumerate(chosen[:30]):
            images.write(root / name / f"{index}.png", picture.astype(np.float32))
    return root


pytestmark = pytest.mark.usefixtures("whole_correction")


@pytest.fixture(autouse=True)
def given_fit(monkeypatch):
    """Takes the place of the fit, whose own tests are in tests/fit; counts its calls."""
    calls = []

    def fit_files(real, clean, prior, output, seed, *, simulations, out_of_time):
        assert not out_of_time()
        calls.append((list(real), list(clean)))
        output.with_suffix(".html").write_text("histograms")
        output.write_text(PRESET)

    monkeypatch.setattr(fit, "fit_files", fit_files)
    monkeypatch.setattr(job, "_simulations", lambda *_: 192)
    monkeypatch.setattr(job, "REALISATIONS", 1)
    return calls


def command(folders, folder, output, *options):
    words = ["adapt", str(folders / "dark"), "--clean", str(folders / "clean"), "-o", str(output)]
    return cli.main([*words, "--model", str(folder), *options])


def hashes(folder):
    return {images.sha256(path) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def adapted(folders, folder, tmp_path_factory):
    """The folder of an adaptation that was better, and its document."""
    return tmp_path_factory.mktemp("out") / "clinic"


def test_a_better_network_becomes_a_release(folders, folder, adapted, given_fit, capsys):
    assert command(folders, folder, adapted, "--lr", "0.01", "--steps", "60", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["better"]
    assert str(adapted / "release") in document["written"]
    assert "on 6 held-back images: PSNR" in document["decision"]
    assert "area under the curve 0.97" in document["warnings"][0]
    dark = images.read(folders / "dark" / "0.png").pixels
    brighter = lle_jax.enhance(dark, model=adapted / "release")
    assert brighter.shape == dark.shape
    assert brighter.mean() > 2 * dark.mean()
    ((real, clean),) = given_fit  # fitted once
    known = json.loads((adapted / "run" / "data.json").read_text())
    assert len(real) == 30
    assert {images.sha256(path) for path in clean} == set(known["train"])
    held_back = hashes(folders / "clean") - set(known["train"]) - set(known["validation"])
    assert len(held_back) == 6
    record = release.record(adapted / "release")
    assert set(record["images"]["train"]) == set(known["train"])
    assert not held_back & {*record["images"]["train"], *record["images"]["validation"]}
    assert "Fitted by a test" in record["adapt.preset"]
    card = (adapted / "release" / "CARD.md").read_text()
    assert (folder / "CARD.md").read_text() in card  # whose terms hold
    for text in (card, (adapted / "release" / "config.json").read_text()):
        assert str(folders) not in text
        assert str(adapted) not in text


def test_what_is_adapted_is_nearer_to_the_model_before_than_what_was_trained(folder, adapted):
    kinds = (folder, adapted / "run", adapted / "release")
    before, trained, made = (dict(named(load.load_model(each).params)) for each in kinds)
    for name, leaf in made.items():
        np.testing.assert_allclose(leaf, 0.2 * before[name] + 0.8 * trained[name], atol=1e-6)
    assert max(np.abs(trained[name] - made[name]).max() for name in made) > 1e-3
    assert release.record(adapted / "release")["adapt.share"] == 0.8


def test_its_page_shows_the_decision_and_loads_nothing(adapted):
    text = (adapted / "index.html").read_text()
    for part in (
        "Adapted network: better",
        "dark spots added / Mpx",
        "validation PSNR",
        "Fitted by",
    ):
        assert part in text
    assert text.count('class="row"') == 12  # 6 held-back images and 6 dark ones
    assert not re.search(r'src="(?!data:)', text)
    assert (adapted / "evaluation" / "index.html").exists()


def test_a_finished_one_is_not_repeated_and_other_inputs_are_refused(
    folders, folder, adapted, given_fit, capsys
):
    before = (adapted / "index.html").stat().st_mtime_ns
    assert command(folders, folder, adapted, "--lr", "0.01", "--steps", "60") == 0
    assert "finished before" in capsys.readouterr().out
    assert (adapted / "index.html").stat().st_mtime_ns == before
    assert not given_fit
    assert command(folders, folder, adapted, "--lr", "0.02", "--steps", "60") == 2
    error = capsys.readouterr().err
    assert "holds another adaptation: learning rate (there 0.01, here 0.02)" in error
    assert error.count("\n") == 1


def test_evaluating_the_release_on_its_own_images_is_refused(folders, adapted, tmp_path, capsys):
    (tmp_path / "suite.toml").write_text(
        f'[images]\nsource = "{folders / "clean"}"\nrole = "all"\n[degradation]\n'
        'preset = "fundus"\nrealisations = 1\nseed = 0\nseverities = [1.0]\n'
    )
    words = ["evaluate", str(adapted / "release"), "--suite", str(tmp_path / "suite.toml")]
    assert cli.main([*words, "-o", str(tmp_path / "out"), "--no-baselines"]) == 2
    assert "trained on 21 of the suite's 30 images" in capsys.readouterr().err


def test_one_that_is_not_better_gets_no_release_and_a_stop_is_resumed(
    folders, folder, tmp_path, given_fit, capsys, monkeypatch
):
    output, train_loop = tmp_path / "clinic", train.train_loop

    def stop(*arguments):
        train_loop(*arguments)
        raise interrupt.Interrupted(signal.SIGTERM)

    monkeypatch.setattr(fine_tune, "MAX_STEPS", 20)  # there is time for more
    with monkeypatch.context() as patched:
        patched.setattr(train, "train_loop", stop)
        assert command(folders, folder, output, "--lr", "0") == 75
    assert (output / "run" / "checkpoints" / "20").exists()
    assert not (output / "index.html").exists()
    capsys.readouterr()
    monkeypatch.setattr(train, "train_loop", None)  # the training is finished
    for _ in range(2):
        assert command(folders, folder, output, "--lr", "0") == 1
        error = capsys.readouterr().err
        assert "lle adapt: not better, so no release was written; on 6 held-back" in error
        assert len(given_fit) == 1
    assert not (output / "release").exists()
    assert "Release: none" in (output / "index.html").read_text()


@pytest.mark.parametrize("helps", [True, False])
def test_brightness_is_calibrated_first_and_kept_only_if_that_helps(
    helps, folders, config, tmp_path, monkeypatch, capsys
):
    """It starts at no change, which is wrong, or is calibrated wrongly."""
    monkeypatch.setattr(fine_tune, "THUMBNAILS", 64)
    if not helps:
        monkeypatch.setattr(
            exposure, "calibrate", lambda _, params, *drawn: jax.tree.map(lambda x: x - 1, params)
        )
    (tmp_path / "preset.toml").write_text(PRESET)
    model = ml_collections.ConfigDict(config.to_dict() | {"exposure_path": True})
    start = load.LoadedModel(
        model, models.build(model, jax.random.key(0))[1], provenance.Provenance({}, {"train": []})
    )
    recipe = fine_tune.Recipe(tmp_path / "preset.toml", model, tmp_path, 1e-3, 0)
    clean = inputs.read([folders / "dark"], [folders / "clean"], set()).clean
    for _ in range(2):
        fine_tune.calibrate_exposure(recipe, start, clean, tmp_path / "exposure")
    said = capsys.readouterr()
    text = said.out + said.err
    assert ("stays as it was" in text) != helps
    assert "finished before" in text
    before, after = release.record(tmp_path / "exposure")["exposure"]
    assert (after < 0.9 * before) == helps
    _, found = release.load(tmp_path / "exposure")
    for (name, old), (_, new) in zip(named(start.params), named(found), strict=True):
        moves = name.startswith("exposure.clinic.")
        assert np.array_equal(old, new) != (helps and moves), name
    training = fine_tune.config(recipe, clean, 100)
    assert training.train.given_exposure == 1
    assert training.degradation.mixed_with == ("wide",)


def test_the_lamp_of_the_fit_is_in_the_preset_beside_it_too(tmp_path, folders, folder):
    fitted, path = tmp_path / "preset.toml", tmp_path / "beside.toml"
    fitted.write_text(PRESET)
    assert fine_tune.beside(fitted, path) == "wide"
    assert not path.exists()
    light = "[illuminant]\nred.lognormal = [1.5, 0.1, 1.2, 1.8]\nblue = 0.5\n"
    fitted.write_text(PRESET + light)
    assert fine_tune.beside(fitted, path) == str(path)
    made, wide = (
        {stage.name: stage for stage in degrade.load(name).stages} for name in (path, "wide")
    )
    (found,) = (stage for stage in degrade.load(fitted).stages if stage.name == "illuminant")
    assert made == wide | {"illuminant": found}
    config = load.load_model(folder).config
    recipe = fine_tune.Recipe(fitted, config, folder, 1e-3, 0, str(path))
    clean = inputs.read([folders / "dark"], [folders / "clean"], set()).clean
    assert fine_tune.config(recipe, clean, 100).degradation.mixed_with == (str(path),)


@pytest.mark.parametrize("found", [True, False])
def test_a_colour_of_the_light_is_warned_of(tmp_path, folder, found):
    line = lamp.described(lamp.Lamp((1.5, 0.5), (0.1, 0.08), 0.4, 0.03) if found else None)
    (tmp_path / "preset.toml").write_text(f"# {line}\n{PRESET}")
    warnings = job._warnings(tmp_path, load.load_model(folder))
    said = [text for text in warnings if "red 1.50 (standard error 10 %), blue 0.50" in text]
    assert len(said) == found


@pytest.mark.parametrize(("seconds", "expected"), [(0, 192), (1e6, 768)])
def test_the_fit_is_as_long_as_the_time_allows(seconds, expected, monkeypatch):
    monkeypatch.undo()  # of `given_fit`
    monkeypatch.setattr(job.measures, "measure", lambda image: image[:, 0, 0])
    prior = presets.parse(PRESET)
    assert job._simulations(prior, 64, seconds) == expected


@pytest.mark.parametrize("kind", ["dark", "clean"])
def test_too_few_images_are_refused_with_their_number(folders, folder, kind, tmp_path, capsys):
    for name in ("dark", "clean"):
        shutil.copytree(folders / name, tmp_path / name)
    (tmp_path / kind / "0.png").unlink()
    shutil.copy(tmp_path / kind / "1.png", tmp_path / kind / "copy.png")
    assert command(tmp_path, folder, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert f"29 {kind} images, 1 skipped" in error
    assert "at least 30" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_images_of_both_kinds_and_outputs_among_the_inputs_are_refused(folders, folder, capsys):
    dark, clean = ([folders / name] for name in ("dark", "clean"))
    with pytest.raises(ValueError, match="the same image as the dark"):
        inputs.read(dark, [*clean, folders / "dark" / "3.png"], ())
    with pytest.raises(ValueError, match="whose images are read"):
        job.adapt(dark, clean, folders / "dark" / "out")
    with pytest.raises(ValueError, match="whose images are read"):
        job.adapt(dark, clean, folders / "clean" / ".." / "dark" / "out")
    assert not (folders / "dark" / "out").exists()
    known = hashes(folders / "clean")
    with pytest.raises(ValueError, match="30 of them known to the model"):
        inputs.read(dark, clean, known)
    # what the model knows is for training
    some = set(sorted(known)[:10])
    found = inputs.read(dark, clean, some)
    assert some <= set(found.clean.train.hashes)
    assert (len(found.clean.test), len(found.clean.validation)) == (6, 3)


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("seed", -1), ("minutes", 0.5)])
def test_settings_are_checked_before_anything_is_written(folders, tmp_path, name, value):
    settings = job.Settings(**{name: value})
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        job.adapt([folders / "dark"], [folders / "clean"], tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()


def test_no_patient_of_a_manifest_is_divided(folders):
    rows = [f"clean/{n}.png,microscopy,{n // 3}" for n in range(30)]
    path = folders / "manifest.csv"
    path.write_text("\n".join(["path,modality,patient", *rows]))
    found = inputs.read([folders / "dark"], [path], ())
    patients = [
        {int(name.split("_")[-1]) // 3 for name in getattr(found.clean, role).names}
        for role in ("train", "validation", "test")
    ]
    assert [len(each) for each in patients] == [3, 1, 6]  # fewer patients could not show a gain
    assert len(set.union(*patients)) == 10
    path.write_text("\n".join(["path,modality,patient", *(f"clean/{n}.png,,1" for n in range(30))]))
    with pytest.raises(ValueError, match="30 clean images of 1 patients"):
        inputs.read([folders / "dark"], [path], ())


def compared(psnr, matched, ssim, dark_spots):
    """An evaluation of 8 images on which the adapted network differs by these amounts."""
    values = {"psnr": (20.0, psnr), "psnr_gt_mean": (22.0, matched), "ssim": (0.8, ssim)}
    values |= {"dark_spots_added": (100.0, dark_spots), "bright_spots_added": (50.0, 0.0)}
    rows = [
        statistics.Row(str(image), method, metric, value + image + (method == "new") * by * image)
        for metric, (value, by) in values.items()
        for image in range(1, 9)
        for method in ("new", "old")
    ]
    return SimpleNamespace(
        summary=statistics.summarise(rows), comparisons=statistics.compare(rows, "new")
    )


@pytest.mark.parametrize(
    ("changes", "failing"),
    [
        ((0.1, 0.1, 0.01, 0.0), []),
        ((0.0, 0.1, 0.01, 0.0), ["psnr"]),
        ((0.1, 0.0, 0.01, 0.0), ["psnr_gt_mean"]),
        ((0.1, 0.1, -0.01, 0.0), ["ssim"]),
        ((0.1, 0.1, 0.01, 2.0), []),  # within the margin
        ((0.1, 0.1, 0.01, 9.0), ["dark_spots_added"]),  # PSNR bought with spots
    ],
)
def test_every_rule_must_hold(changes, failing):
    decided = verdict.decide(compared(*changes), "new", "old")
    assert [rule.metric for rule in decided.rules if not rule.holds] == failing
    assert decided.better == (not failing)
    assert all(measures.METRICS[name].title in decided.line for name in failing)
