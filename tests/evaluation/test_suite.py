import dataclasses
import shutil

import numpy as np
import pytest

from lle_jax import cli, data, degrade, images
from lle_jax.evaluation import suite


def load(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return suite.load(str(path))


def test_every_suite_that_ships_is_sound_but_for_data_that_is_elsewhere():
    names = sorted(path.stem for path in suite.folder().glob("*.toml"))
    assert names == [
        "lol", "lol_v2_real", "modalities", "pairs", "samples", "severity", "sweep", "validation"
    ]  # fmt: skip
    assert suite.load("samples").count == 10
    assert suite.load("severity").count == 15
    assert suite.load("sweep").count == 5 * 6 * 4 * 3
    absent = dict.fromkeys(("modalities", "validation"), data.DataError)
    absent |= dict.fromkeys(("pairs", "lol", "lol_v2_real"), suite.SuiteError)
    for name, error in absent.items():
        with pytest.raises(error, match="nowhere"):
            suite.load(name, source="nowhere.csv", pairs=("nowhere", "nowhere"))


def test_cases_are_those_of_the_seed_and_do_not_depend_on_other_images(small_suite, clean_folder):
    first = {case.label: case for case in small_suite.cases()}
    assert len(first) == small_suite.count == 14
    again = suite.load(str(small_suite_path(small_suite, clean_folder)), source=str(clean_folder))
    for case in again.cases():
        np.testing.assert_array_equal(case.low, first[case.label].low)
        assert case.low.mean() < case.clean.mean()
    # severity 0.5 and 1 have the same draw: less is between more and nothing
    gains = [first[f"photo0__0-{s}"].parameters["exposure.gain"] for s in ("0.5", "1")]
    np.testing.assert_allclose(gains[0] ** 2, gains[1], rtol=1e-4)


def test_only_the_cases_wanted_are_made(small_suite, monkeypatch):
    whole = list(small_suite.cases())
    assert [case[:4] for case in whole] == small_suite.listed()
    made = []
    sample = suite._sample
    monkeypatch.setattr(suite, "_sample", lambda *args: made.append(args) or sample(*args))
    (case,) = small_suite.cases({"photo3__0-1", "no such case"})
    assert case.label == "photo3__0-1"
    assert len(made) == 1
    (same,) = (each for each in whole if each.label == case.label)
    np.testing.assert_array_equal(case.low, same.low)


def small_suite_path(small_suite, clean_folder):
    path = clean_folder.parent / "copy.toml"
    part = small_suite.settings["degradation"]
    path.write_text(
        f'[images]\nsource = "x"\nrole = "all"\n[degradation]\npreset = "{part["preset"]}"\n'
        f"realisations = 1\nseed = {part['seed']}\nseverities = [0.5, 1.0]\n"
    )
    return path


def test_a_sweep_degrades_by_what_it_says(tmp_path, clean_folder):
    found = load(
        tmp_path,
        f'[images]\nsource = "{clean_folder}"\nrole = "test"\n'
        "[sweep]\nseed = 0\ngains = [0.25, 1.0]\nnoises = [0.0]\nblurs = [0.0]\n",
    )
    for case in found.cases():
        parameters = {"exposure.gain": np.float32(case.condition.split()[0])}
        expected = degrade.exposure(case.clean, gain=parameters["exposure.gain"])
        np.testing.assert_allclose(case.low, expected, atol=2e-3)


def test_images_at_hand_are_degraded_as_those_of_a_file(small_suite):
    part = small_suite.settings["degradation"]
    found = suite.from_images(
        "mine",
        small_suite.images,
        preset=part["preset"],
        realisations=1,
        seed=part["seed"],
        rejected=[("x.png", "damaged")],
    )
    assert (found.kind, found.count, found.rejected) == ("degradation", 7, (("x.png", "damaged"),))
    assert found.hashes == small_suite.hashes
    expected = {case.label: case.low for case in small_suite.cases()}
    for case in found.cases():
        np.testing.assert_array_equal(case.low, expected[case.label])
    with pytest.raises(suite.SuiteError, match="realisations is 0"):
        suite.from_images("mine", small_suite.images, preset="lowlight", realisations=0, seed=0)


def test_pairs_are_matched_by_name_and_the_others_named(tmp_path, photographs):
    for side, names in (("low", "abd"), ("clean", "abc")):
        (tmp_path / side).mkdir()
        for number, name in enumerate(names):
            image = photographs[0] * (0.2 if side == "low" else 1) * (1 - number / 10)
            images.write(tmp_path / side / f"{name}.png", image)
    folders = (str(tmp_path / "low"), str(tmp_path / "clean"))
    found = suite.load("pairs", pairs=folders)
    cases = list(found.cases())
    assert [case.label for case in cases] == ["a", "b"]
    assert all(case.parameters is None for case in cases)
    np.testing.assert_allclose(cases[0].low, 0.2 * cases[0].clean, atol=1 / 255)
    assert {path.rsplit("/", 1)[1] for path, _ in found.rejected} == {"c.png", "d.png"}
    assert len(found.hashes) == 4


GOOD = '[images]\nsource = "samples"\nrole = "test"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[images", "not TOML"),
        (GOOD, "exactly one of"),
        (GOOD + "[swep]\n", "did you mean 'sweep'"),
        (
            GOOD + '[degradation]\npreset = "lowlight"\nrealisation = 1\n',
            "did you mean 'realisations'",
        ),
        (GOOD + '[degradation]\npreset = "lowlight"\ndraws = 1\n', "now called realisations"),
        (GOOD + '[degradation]\npreset = "lowlight"\n', "degradation.realisations is missing"),
        (GOOD + "[degradation]\nrealisations = 0\n", "degradation.realisations is 0; expected"),
        (GOOD + "[sweep]\nseed = 0\ngains = [0]\nnoises = [0]\nblurs = [0]\n", "sweep.gains is"),
        (GOOD + "[sweep]\nseed = 0\ngains = [1, 0.5, 1]\n", "sweep.gains is .* different"),
        (GOOD + "[sweep]\nseed = -1\n", "sweep.seed is -1; expected different numbers"),
        (GOOD + "[sweep]\nseed = 4294967296\n", "sweep.seed is 4294967296"),
        (GOOD + "[sweep]\nseed = true\n", "sweep.seed must be a int"),
        (
            '[pairs]\nlow = "a"\nclean = "b"\n[same_photographs]\nsha256 = ["12"]\n',
            "same_photographs.sha256 has '12'; expected a SHA-256",
        ),
        ("[sweep]\nseed = 0\ngains = [1]\nnoises = [0]\nblurs = [0]\n", r"\[images\] is for"),
        (
            GOOD.replace("test", "tests")
            + '[degradation]\npreset = "fundus"\nrealisations = 1\nseed = 0\nseverities = [1]\n',
            "images.role must be",
        ),
    ],
)
def test_a_malformed_suite_says_what_is_wrong(tmp_path, text, message):
    with pytest.raises(suite.SuiteError, match=message):
        load(tmp_path, text)


def test_the_fingerprint_knows_images_and_degradation_but_no_path(
    tmp_path, small_suite, clean_folder
):
    same = suite.load(str(small_suite_path(small_suite, clean_folder)), source=str(clean_folder))
    assert same.fingerprint == small_suite.fingerprint
    text = (
        small_suite_path(small_suite, clean_folder).read_text().replace('"x"', f'"{clean_folder}"')
    )
    other = load(tmp_path, text.replace("seed = 3", "seed = 4"))
    assert other.fingerprint != small_suite.fingerprint


def test_the_fingerprint_knows_which_image_is_the_truth_of_which(tmp_path, photographs):
    for side, gains in (("low", (0.2, 0.1)), ("clean", (1, 0.9)), ("crossed", (0.1, 0.2))):
        (tmp_path / side).mkdir()
        for name, gain in zip("ab", gains, strict=True):
            images.write(tmp_path / side / f"{name}.png", gain * photographs[0])
    shutil.copytree(tmp_path / "low", tmp_path / "moved")

    def fingerprint(*sides):
        return suite.load("pairs", pairs=tuple(str(tmp_path / side) for side in sides)).fingerprint

    first = fingerprint("low", "clean")
    assert fingerprint("moved", "clean") == first
    assert len({first, fingerprint("clean", "low"), fingerprint("crossed", "clean")}) == 3


def units(found):
    return dict(zip(found.images.names, found.images.units, strict=True))


def test_images_of_a_patient_and_pairs_of_a_truth_are_one_unit(tmp_path, photographs):
    for name in ("low", "clean"):
        (tmp_path / name).mkdir()
    for number, name in enumerate("abcd"):
        truth = photographs[0] * (1 if name in "ac" else 1 - number / 10)
        images.write(tmp_path / "clean" / f"{name}.png", truth)
        images.write(tmp_path / "low" / f"{name}.png", truth * (0.2 + number / 20))
    pairs = suite.load("pairs", pairs=(str(tmp_path / "low"), str(tmp_path / "clean")))
    assert units(pairs) == {"a": "1", "b": "", "c": "1", "d": ""}

    rows = ["path,modality,role,patient", "b.png,,test,Doe", "d.png,,test,Doe", "c.png,,test,"]
    manifest = tmp_path / "clean" / "manifest.csv"
    manifest.write_text("\n".join(rows))
    text = GOOD.replace("samples", str(manifest)) + (
        '[degradation]\npreset = "lowlight"\nrealisations = 1\nseed = 0\nseverities = [1.0]\n'
    )
    found = load(tmp_path, text)
    assert units(found) == {"b": "1", "d": "1", "c": ""}  # numbers, and nobody's name
    manifest.write_text("\n".join(rows).replace("d.png,,test,Doe", "d.png,,test,Roe"))
    apart = load(tmp_path, text)
    assert set(apart.images.units) == {""}
    assert apart.fingerprint != found.fingerprint
    manifest.write_text("\n".join(rows).replace("Doe", "Roe"))
    assert load(tmp_path, text).fingerprint == found.fingerprint


def test_the_fingerprint_knows_the_modality_of_each_image(small_suite):
    def fingerprint(*modalities):
        part = dataclasses.replace(small_suite.images.subset([0, 1]), modalities=modalities)
        made = suite.from_images("x", part, preset="by_modality", realisations=1, seed=0)
        return made.fingerprint

    assert fingerprint("fundus", "endoscopy") != fingerprint("endoscopy", "fundus")


def test_what_a_suite_skips_is_named_when_it_is_evaluated(
    clean_folder, tmp_path, capsys, monkeypatch
):
    rows = [f"{path.name},fundus,test" for path in sorted(clean_folder.glob("photo*.png"))]
    for role, place in (("train", 0), ("val", 1)):
        rows[place] = rows[place].replace("test", role)
    for row in rows:
        name = row.partition(",")[0]
        (tmp_path / name).write_bytes((clean_folder / name).read_bytes())
    manifest = tmp_path / "m.csv"
    manifest.write_text("\n".join(["path,modality,role", *rows, "x.png,mask,test"]) + "\n")
    monkeypatch.setattr("lle_jax.evaluation.evaluate.write_inputs", lambda *_: 0)
    command = ["evaluate", "--suite", "modalities", "--source", str(manifest)]
    assert cli.main([*command, "--inputs", str(tmp_path / "out")]) == 0
    error = capsys.readouterr().err
    assert error.startswith(f"lle evaluate: skipped: {manifest}: modality 'mask' is not known")
    assert error.endswith(": 1 image (x.png)\n")


def test_an_option_that_applies_to_no_suite_is_refused(tmp_path, photographs, monkeypatch, capsys):
    for side in ("low", "clean"):
        (tmp_path / side).mkdir()
        images.write(tmp_path / side / "a.png", photographs[0])
    monkeypatch.setattr("lle_jax.evaluation.evaluate.write_inputs", lambda *_: 0)
    folders = [str(tmp_path / side) for side in ("low", "clean")]
    command = ["evaluate", "--inputs", str(tmp_path / "out"), "--pairs", *folders]
    assert cli.main([*command, "--suite", "samples"]) == 2
    assert "--pairs is for suites of pairs, not for samples; add" in capsys.readouterr().err
    assert cli.main([*command, "--suite", "samples", "pairs"]) == 0
    source = "--source", folders[1]
    assert cli.main([*command, "--suite", "pairs", *source]) == 2
    assert "--source is for suites of clean images; pairs has pairs" in capsys.readouterr().err


def test_a_manifest_needs_images_of_the_suites_role_only(tmp_path, photographs):
    manifest = tmp_path / "m.csv"
    images.write(tmp_path / "a.png", photographs[0])
    manifest.write_text("path,modality,role\na.png,fundus,test\n")
    assert suite.load("modalities", source=str(manifest)).count == 1
    with pytest.raises(data.DataError, match="no image is left for validation"):
        suite.load("validation", source=str(manifest))
    text = '[degradation]\npreset = "fundus"\nrealisations = 1\nseed = 0\nseverities = [1.0]\n'
    every = f'[images]\nsource = "{manifest.as_posix()}"\nrole = "all"\n{text}'
    assert load(tmp_path, every).count == 1
