import csv
import dataclasses
import json
import re
import tomllib
from pathlib import Path

import jax
import ml_collections
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from lle_jax import (
    classical,
    cli,
    colour,
    data,
    files,
    images,
    jobs,
    metrics,
    models,
    text_table,
)
from lle_jax.checks import CheckpointError
from lle_jax.evaluation import (
    curves,
    evaluate,
    measures,
    methods,
    panels,
    report,
    statistics,
    suite,
    tables,
    written,
)


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def values(rows, method, metric):
    return {
        (r.image, r.realisation): r.value for r in rows if (r.method, r.metric) == (method, metric)
    }


def test_values_are_those_of_scikit_image(evaluated, small_suite):
    _, result = evaluated
    for case in small_suite.cases():
        output = np.clip(case.low * 2.5, 0, 1)
        key = case.image, case.realisation
        psnr = peak_signal_noise_ratio(case.clean, output, data_range=1)
        assert abs(values(result.rows, "brightener", "psnr")[key] - psnr) < 1e-3
        ssim = structural_similarity(
            case.clean, output, data_range=1, channel_axis=-1, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )  # fmt: skip
        assert abs(values(result.rows, "brightener", "ssim")[key] - ssim) < 1e-4


def test_plain_and_gt_mean_columns_come_together(evaluated):
    folder, result = evaluated
    header, *lines = tables.table(result.summary).splitlines()
    assert "PSNR (dB)" in header
    assert "PSNR, GT-mean (dB)" in header
    assert len(lines) == 4
    text = (folder / "summary.csv").read_text()
    assert "psnr_gt_mean" in text
    assert "ssim_gt_mean" in text


def test_the_input_is_its_own_identity_and_a_brightener_is_not(evaluated):
    _, result = evaluated
    assert set(values(result.rows, "low", "identity").values()) == {measures.IDENTICAL}
    assert max(values(result.rows, "brightener", "identity").values()) < 20


def test_two_copies_do_not_differ_and_the_input_does(evaluated):
    _, result = evaluated
    found = {
        c.other: c for c in statistics.compare(result.rows, "brightener") if c.metric == "psnr"
    }
    copy, low = found["brightener 2"], found["low"]
    assert (copy.difference, copy.p_holm) == (0, 1)
    assert low.difference > 3
    assert low.p_holm < 0.05


def test_compare_joins_folders_and_refuses_another_suite(evaluated, tmp_path, capsys):
    folder, _ = evaluated
    assert cli.main(["compare", str(folder), str(folder), "-o", str(tmp_path / "all.csv")]) == 0
    out = capsys.readouterr().out
    assert "brightener - brightener (small), PSNR (dB): +0.000" in out
    assert "no image differs" in out
    inside = folder / "per_image.csv"
    before = inside.read_bytes()
    assert cli.main(["compare", str(folder), "-o", str(inside)]) == 2
    assert "in an evaluation that is read" in capsys.readouterr().err
    assert inside.read_bytes() == before
    other = tmp_path / "other"
    other.mkdir()
    for name in ("suite.json", "per_image.csv"):
        (other / name).write_text((folder / name).read_text())
    record = json.loads((other / "suite.json").read_text()) | {"fingerprint": "0"}
    (other / "suite.json").write_text(json.dumps(record))
    assert cli.main(["compare", str(folder), str(other)]) == 2
    assert "other images, seeds or degradations" in capsys.readouterr().err
    assert cli.main(["compare", str(tmp_path)]) == 2
    assert "no evaluation there" in capsys.readouterr().err


def test_an_evaluation_whose_values_are_cut_off_is_refused(evaluated, tmp_path, capsys):
    folder, _ = evaluated
    lines = (folder / "per_image.csv").read_text().splitlines(keepends=True)
    (tmp_path / "suite.json").write_text((folder / "suite.json").read_text())
    (tmp_path / "per_image.csv").write_text("".join(lines))
    assert cli.main(["compare", str(tmp_path)]) == 0
    capsys.readouterr()
    # one case of a metric missing, all but one image, all but the header, everything
    for kept in (lines[:-1], lines[: len(lines) // 7], lines[:1], []):
        (tmp_path / "per_image.csv").write_text("".join(kept))
        assert cli.main(["compare", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert "(per_image.csv lacks values); run lle evaluate again" in error
        assert error.count("\n") == 1


def test_a_method_trained_on_the_suite_is_refused_and_with_the_flag_warned_of(
    small_suite, brightener, with_hashes, tmp_path
):
    seen = sorted(small_suite.hashes)[:2]
    trained = with_hashes(brightener, training_hashes=seen)
    with pytest.raises(evaluate.EvaluationError, match="trained on 2 of the suite's 7"):
        evaluate.evaluate(small_suite, [trained], [], tmp_path)
    assert not list(tmp_path.iterdir())
    result = evaluate.evaluate(small_suite, [trained], [], tmp_path, allow_overlap=True)
    assert "trained on 2" in result.record["warnings"]["brightener"][0]
    assert "trained on 2" in (tmp_path / "suite.json").read_text()


@pytest.fixture
def pairs(tmp_path, photographs):
    """(folder of low-light images, of their truths) with three pairs."""
    folders = tmp_path / "low", tmp_path / "clean"
    for number, gain in enumerate((0.1, 0.2, 0.4)):
        clean = np.ascontiguousarray(np.roll(photographs[number % 2], 9 * number, 0)[:40, :48])
        for folder, image in zip(folders, (gain * clean, clean), strict=True):
            folder.mkdir(exist_ok=True)
            images.write(folder / f"{number}.png", image)
    return folders


def write_suite(path, pairs, sha256):
    """A suite of pairs of whose photographs other files have these hashes."""
    low, clean = (folder.as_posix() for folder in pairs)
    path.write_text(
        f'[pairs]\nlow = "{low}"\nclean = "{clean}"\n[same_photographs]\nsha256 = {sha256}\n'
    )
    return suite.load(str(path))


def test_a_method_trained_on_other_files_of_the_photographs_is_refused(
    pairs, brightener, with_hashes, tmp_path
):
    """LOL-v1's photograph N is LOL-v2-real's, in another file: its hash is listed in the suite."""
    listed = [f"{number:064x}" for number in range(5)]
    loaded = write_suite(tmp_path / "v2.toml", pairs, listed)
    trained = with_hashes(brightener, training_hashes=[*listed[1:3], "a" * 64])
    message = "trained on 2 other files of the suite's photographs"
    with pytest.raises(evaluate.EvaluationError, match=message):
        evaluate.evaluate(loaded, [trained], [], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    notes = methods.overlap(trained, loaded.hashes, loaded.same_photographs)
    assert notes == [message]
    chosen = with_hashes(brightener, validation_hashes=listed[:1])
    (note,) = methods.overlap(chosen, loaded.hashes, loaded.same_photographs)
    assert note.startswith("validated on 1 other files of the suite's photographs while training")
    # a file of the suite itself counts once
    both = write_suite(tmp_path / "both.toml", pairs, sorted(loaded.hashes)[:1])
    known = with_hashes(brightener, training_hashes=sorted(loaded.hashes)[:1])
    notes = methods.overlap(known, both.hashes, both.same_photographs)
    assert notes == ["trained on 1 of the suite's 6 images"]


def test_the_suite_of_lol_v2_real_lists_the_files_of_lol_v1():
    with (suite.folder() / "lol_v2_real.toml").open("rb") as file:
        listed = tomllib.load(file)["same_photographs"]["sha256"]
    # 89 of the 100 photographs are in LOL-v1, and some of its scenes have one truth
    assert len(listed) == len(set(listed)) == 133
    eval15 = Path(__file__).parents[3] / "shared" / "data" / "lol_eval15"
    if not eval15.is_dir():
        pytest.skip("../shared/data/lol_eval15 is not here")
    for number in (665, 669, 748, 778, 780):
        for side in ("low", "high"):
            known = images.sha256(eval15 / side / f"{number}.png") in listed
            assert known == (number >= 690)


def test_the_deviation_of_brightness_shows_who_used_the_truth(pairs, brightener, tmp_path):
    def use_truth(case):
        return np.asarray(metrics.gt_mean(case.low, case.clean))

    informed = methods.Method("informed", use_truth, None, {"kind": "test"})
    loaded = suite.load("pairs", pairs=tuple(map(str, pairs)))
    folder = tmp_path / "out"
    result = evaluate.evaluate(loaded, [informed, brightener], [], folder)
    report.write(folder, result, [informed, brightener])

    def luma(image):
        return np.mean(image @ np.array([0.299, 0.587, 0.114]))

    ratios = [luma(np.clip(2.5 * case.low, 0, 1)) / luma(case.clean) for case in loaded.cases()]
    rows = read_csv(folder / "summary.csv")
    std = {r["method"]: float(r["std"]) for r in rows if r["metric"] == "brightness_ratio"}
    np.testing.assert_allclose(std["brightener"], np.std(ratios, ddof=1), rtol=1e-4)
    assert std["brightener"] > 0.3
    assert std["informed"] < 0.01  # of clipped pixels and of levels of 255
    printed = tables.table(result.summary, ("psnr", "brightness_ratio"))
    header, *lines = printed.splitlines()
    assert header.rstrip().endswith("brightness / truth's")
    assert [line.split()[-1] for line in lines] == [
        f"{std[name]:.3f}" for name in ("low", "informed", "brightener")
    ]
    page = (folder / "index.html").read_text()
    assert f'>{np.mean(ratios):.3f}<span class="spread">± {std["brightener"]:.3f}<' in page
    # neither more nor less is better
    assert "brightness_ratio" not in {c.metric for c in result.comparisons}


def test_an_input_divided_by_its_gain_is_not_starred_for_its_re_degradation(
    clean_folder, tmp_path, monkeypatch
):
    keep(monkeypatch, *NAMED, "consistency")
    path = tmp_path / "dark.toml"
    path.write_text(
        f'[images]\nsource = "{clean_folder.as_posix()}"\nrole = "all"\n'
        "[sweep]\nseed = 0\ngains = [0.5]\nnoises = [0.02]\nblurs = [0]\n"
    )

    def inverse(low):
        return colour.linear_to_srgb(2 * colour.srgb_to_linear(low))

    made = [
        methods.Method("inverse", lambda case: inverse(case.low), None, {"kind": "test"}),
        methods.Method("truth", lambda case: case.clean, None, {"kind": "test"}),
    ]
    result = evaluate.evaluate(suite.load(str(path)), made, [], tmp_path / "out")
    measures._pairwise.clear_cache()
    means = {s.method: s.mean for s in result.summary if s.metric == "consistency"}
    assert means["inverse"] > means["truth"] + 10  # more is not better
    printed = tables.table(result.summary, ("psnr", "consistency")).splitlines()
    assert not any(line.rstrip().endswith("*") for line in printed[1:])
    assert "consistency" not in {c.metric for c in result.comparisons}


def test_validation_on_the_suite_and_unknown_training_are_warned_of(
    small_suite, brightener, with_hashes
):
    chosen = with_hashes(brightener, validation_hashes=sorted(small_suite.hashes)[:1])
    assert "validated on 1 of" in methods.overlap(chosen, small_suite.hashes)[0]
    unknown = brightener._replace(complete=False)
    assert "not recorded" in methods.overlap(unknown, small_suite.hashes)[0]
    assert methods.overlap(brightener, small_suite.hashes) == []


def test_what_was_measured_before_a_stop_is_not_measured_again(small_suite, brightener, tmp_path):
    calls = []

    def counting(case):
        calls.append(case.label)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return case.low * 2.5

    method = brightener._replace(enhance_case=counting)
    with pytest.raises(KeyboardInterrupt):
        evaluate.evaluate(small_suite, [method], [], tmp_path)
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"key": "cut o')
    resumed = evaluate.evaluate(small_suite, [method], [], tmp_path)
    assert len(calls) == small_suite.count + 1
    whole = evaluate.evaluate(small_suite, [brightener], [], tmp_path / "whole")
    assert [row[:3] for row in resumed.rows] == [row[:3] for row in whole.rows]
    np.testing.assert_allclose(
        [row.value for row in resumed.rows], [row.value for row in whole.rows], rtol=1e-5
    )


def test_what_other_code_measured_is_measured_again_and_said_when_joined(
    small_suite, brightener, tmp_path, monkeypatch, capsys
):
    keep(monkeypatch, *NAMED)
    evaluate.evaluate(small_suite, [brightener], [], tmp_path / "a")
    calls = []
    counted = brightener._replace(
        enhance_case=lambda case: calls.append(case) or brightener.enhance_case(case)
    )
    evaluate.evaluate(small_suite, [counted], [], tmp_path / "a")
    assert not calls
    assert cli.main(["compare", str(tmp_path / "a"), str(tmp_path / "a")]) == 0
    assert "another state" not in capsys.readouterr().out
    monkeypatch.setattr(files, "code_digest", lambda: "edited")
    evaluate.evaluate(small_suite, [counted], [], tmp_path / "b")
    calls.clear()
    evaluate.evaluate(small_suite, [counted], [], tmp_path / "a")
    assert len(calls) == small_suite.count
    monkeypatch.undo()
    keep(monkeypatch, *NAMED)
    evaluate.evaluate(small_suite, [brightener], [], tmp_path / "a")
    assert cli.main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "b: measured by another state of lle_jax's code" in capsys.readouterr().out
    measures._pairwise.clear_cache()


def test_a_black_truth_is_left_out_of_what_it_does_not_have(
    photographs, brightener, tmp_path, capsys
):
    arrays = [photographs[0], photographs[1], np.zeros_like(photographs[0])]
    pictures = data.Images(
        ("a", "b", "black"), ("0" * 8, "1" * 8, "2" * 8), ((64, 64),) * 3,
        tuple(lambda a=a: a for a in arrays),
    )  # fmt: skip
    mine = suite.from_images("t", pictures, preset="lowlight", realisations=2, seed=0)
    found = evaluate.evaluate(mine, [brightener], [], tmp_path)
    counts = {s.metric: s.images for s in found.summary if s.method == "brightener"}
    assert counts.pop("colour_shift") == 2
    assert set(counts.values()) == {3}
    said = "not defined for 1 images, which are left out: black"
    assert found.record["warnings"][measures.METRICS["colour_shift"].title] == [said]
    shifts = [r["value"] for r in read_csv(tmp_path / "per_image.csv")
              if (r["image"], r["metric"]) == ("black", "colour_shift")]  # fmt: skip
    assert shifts == ["nan"] * 4
    report.write(tmp_path, found, [brightener])
    assert said in (tmp_path / "index.html").read_text()
    assert cli.main(["compare", str(tmp_path)]) == 0
    assert said in capsys.readouterr().out


def test_somebody_elses_outputs_are_evaluated_like_a_method(small_suite, evaluated, tmp_path):
    _, result = evaluated
    assert evaluate.write_inputs(small_suite, tmp_path / "in") == 14
    (tmp_path / "out").mkdir()
    for path in (tmp_path / "in").iterdir():
        picture = images.read(path)
        bright = np.clip(picture.pixels * 2.5, 0, 1)
        images.write(tmp_path / "out" / path.name, bright, picture)
    theirs = methods.load(f"theirs={tmp_path / 'out'}")
    found = evaluate.evaluate(small_suite, [theirs], [], tmp_path / "evaluated")
    mine = values(result.rows, "brightener", "psnr")
    for key, value in values(found.rows, "theirs", "psnr").items():
        assert abs(value - mine[key]) < 0.1  # the files hold 8 bits, or 16
    assert not values(found.rows, "theirs", "identity")
    (tmp_path / "out" / "photo1__0-1.png").unlink()
    with pytest.raises(methods.MethodError, match="no output for photo1__0-1"):
        evaluate.evaluate(
            small_suite, [methods.load(f"theirs={tmp_path / 'out'}")], [], tmp_path / "b"
        )


def test_outputs_made_anew_are_measured_anew(pairs, tmp_path, monkeypatch):
    keep(monkeypatch, *NAMED)
    loaded = suite.load("pairs", pairs=tuple(map(str, pairs)))
    for name, source in (("dark", pairs[0]), ("perfect", pairs[1])):
        (tmp_path / name).mkdir()
        for path in source.iterdir():
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    found = [
        evaluate.evaluate(loaded, [methods.load(f"A={tmp_path / name}")], [], tmp_path / "out")
        for name in ("dark", "perfect")
    ]
    assert max(values(found[0].rows, "A", "psnr").values()) < 30
    assert set(values(found[1].rows, "A", "psnr").values()) == {measures.IDENTICAL}
    measures._pairwise.clear_cache()


@pytest.fixture(scope="module")
def at_hand(photographs, tmp_path_factory, brightener):
    """(folder, result) of three images of a training job, one of them grey, two realisations."""
    arrays = [photographs[0], photographs[1], photographs[0, ..., :1]]
    test = data.Images(
        ("astronaut", "retina", "grey"),
        ("00000000", "11111111", "22222222"),
        ((64, 64),) * 3,
        tuple(lambda a=a: a for a in arrays),
    )
    mine = suite.from_images(
        "test", test, preset="lowlight", realisations=2, seed=0, rejected=[("x.png", "damaged")]
    )
    folder = tmp_path_factory.mktemp("at_hand")
    baselines = [methods.load(name) for name in classical.METHODS]
    return folder, evaluate.evaluate(mine, [brightener], baselines, folder)


def test_there_is_a_value_per_image_realisation_method_and_metric(at_hand):
    rows = read_csv(at_hand[0] / "per_image.csv")
    assert list(rows[0]) == [
        "image", "realisation", "unit", "modality", "condition", "method", "metric", "value",
    ]  # fmt: skip
    names = {"low", "brightener", *classical.METHODS}
    assert len(rows) == 3 * 2 * len(names) * len(measures.selected())
    assert {row["method"] for row in rows} == names
    assert {(row["image"], row["realisation"]) for row in rows} == {
        (name, f"{number}-1") for name in ("astronaut", "retina", "grey") for number in (0, 1)
    }


def test_images_of_one_patient_are_one_unit_in_every_table(small_suite, monkeypatch, tmp_path):
    keep(monkeypatch, *NAMED)
    count = len(small_suite.images)
    patients = ("Doe",) * 3 + ("",) * (count - 3)
    mine = dataclasses.replace(
        small_suite, images=dataclasses.replace(small_suite.images, groups=patients)
    )
    found = evaluate.evaluate(mine, [methods.load("gamma")], [], tmp_path)
    first = found.summary[0]
    assert (first.images, first.units) == (count, count - 2)
    psnr = values(found.rows, "gamma", "psnr")
    by_image = {}
    for (image, _), value in psnr.items():
        by_image.setdefault(image, []).append(value)
    means = [np.mean(by_image[name]) for name in mine.images.names]
    of_units = [np.mean(means[:3]), *means[3:]]
    (summary,) = (s for s in found.summary if (s.method, s.metric) == ("gamma", "psnr"))
    np.testing.assert_allclose(summary.mean, np.mean(of_units))
    for table in ("per_image.csv", "summary.csv", "comparisons.csv", "subgroups.csv"):
        assert "Doe" not in (tmp_path / table).read_text()
    assert {row["unit"] for row in read_csv(tmp_path / "per_image.csv")} == {"", "1"}
    _, again = written.read(tmp_path)
    assert statistics.summarise(again) == found.summary
    assert f"n = {count - 2} patients or groups of {count} images" in tables.comparison_table(
        found.comparisons
    )
    measures._pairwise.clear_cache()


def test_the_summary_is_over_images_and_not_over_realisations(at_hand):
    folder, _ = at_hand
    found = {}
    for row in read_csv(folder / "per_image.csv"):
        if (row["method"], row["metric"]) == ("clahe", "psnr"):
            found.setdefault(row["image"], []).append(float(row["value"]))
    means = [np.mean(v) for v in found.values()]
    (row,) = [
        row
        for row in read_csv(folder / "summary.csv")
        if (row["method"], row["metric"]) == ("clahe", "psnr")
    ]
    np.testing.assert_allclose(float(row["mean"]), np.mean(means), rtol=1e-6)
    np.testing.assert_allclose(float(row["std"]), np.std(means, ddof=1), rtol=1e-6)
    assert row["images"] == "3"
    record = json.loads((folder / "suite.json").read_text())
    assert record["rejected"] == 1
    assert record["methods"] == ["brightener"]
    assert set(record["records"]) == {"low", "brightener", *classical.METHODS}


def test_the_verdict_names_the_best_baseline_of_each_metric(at_hand, small_suite, brightener):
    _, result = at_hand
    means = {(s.method, s.metric): s.mean for s in result.summary}
    said = tables.verdict(result)
    assert "\n" not in said
    for metric, digits, unit in (("psnr", 2, " dB"), ("ssim", 3, "")):
        best = max(classical.METHODS, key=lambda name: means[name, metric])
        for other in ("low", best):
            gain = means["brightener", metric] - means[other, metric]
            assert f"{gain:+.{digits}f}{unit}" in said
        assert f"({best})" in said
    alone = result._replace(
        summary=[s for s in result.summary if s.method in ("low", "brightener")]
    )
    assert tables.verdict(alone).endswith("over the low-light input")
    assert "baseline" not in tables.verdict(alone)


def test_a_network_at_hand_is_a_method(small_suite):
    config = ml_collections.ConfigDict(
        {"name": "unet", "widths": (4, 6), "blocks": 1, "dtype": "float32"}
    )
    apply, params = models.build(config, jax.random.key(3))
    record = {"kind": "run", "step": 5}
    method = methods.from_network("unet (EMA)", config, params, record, ["a"], ["b"], False)
    case = next(small_suite.cases())
    expected = jax.jit(apply)(params, case.low)
    np.testing.assert_allclose(method.enhance_case(case), expected, atol=1e-5)
    np.testing.assert_array_equal(method.enhance_image(case.low), method.enhance_case(case))
    assert method.training_hashes == {"a"}
    assert method.validation_hashes == {"b"}
    assert not method.complete
    assert method.record.items() >= {**record, "model": config.to_dict()}.items()
    other = methods.from_network(
        "unet (EMA)", config, jax.tree.map(lambda x: x + 1, params), record
    )
    assert other.record != method.record  # or a table of other parameters would be resumed


SCALARS = """step,loss,gradient_norm,learning_rate,images_per_second,validation_psnr,validation_ssim
20,0.5,1,0.001,30,,
40,0.25,1,0.001,31,20.5,0.7
60,0.125,1,0.0005,31,,
80,0.1,1,0.0001,29,22.5,0.8
"""


def test_each_image_has_a_panel(at_hand):
    folder, result = at_hand
    panels = sorted((folder / "panels").iterdir())
    assert [path.stem for path in panels] == sorted(result.suite.images.names)
    picture = images.read(panels[0]).pixels
    assert picture.shape[1] > 4 * 64
    assert picture.std() > 0.1


def test_the_page_shows_the_curves_of_a_training(at_hand, brightener, tmp_path):
    _, result = at_hand
    (tmp_path / "scalars.csv").write_text(SCALARS)
    report.write(tmp_path, result, [brightener], tmp_path / "scalars.csv")
    page = (tmp_path / "index.html").read_text()
    titles = ("loss", "validation PSNR (dB)", "validation SSIM", "learning rate")
    for title in (*titles, "images per second"):
        assert f"<figcaption><strong>{title}</strong>" in page
    lines = re.findall(r'<polyline points="(.*?)"', page)
    assert [len(line.split()) for line in lines] == [4, 2, 2, 4, 4]
    heights = [float(point.split(",")[1]) for point in lines[0].split()]
    assert heights == sorted(heights)  # down the page, as the loss falls
    np.testing.assert_allclose((heights[1] - heights[0]) / (heights[3] - heights[0]), 0.625, 0.01)
    assert "gradient_norm" not in page
    report.write(tmp_path, result, [brightener])
    assert 'id="training"' not in (tmp_path / "index.html").read_text()


def test_curves_without_values_are_left_out_and_damaged_ones_refused(tmp_path):
    path = tmp_path / "scalars.csv"
    path.write_text("step,loss,validation_psnr\n20,0.5,\n")
    assert curves.figures(path).count("<figure>") == 1
    path.write_text("step,loss\n20,low\n")
    with pytest.raises(ValueError, match="loss is 'low'; expected a number"):
        curves.figures(path)


def test_progress_is_plain_lines_where_stderr_is_no_terminal(
    small_suite, brightener, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(jobs, "_BETWEEN_LINES", 1e-3)
    evaluate.evaluate(small_suite, [brightener], [], tmp_path)
    printed = capsys.readouterr().err
    assert "small: 14/14 cases, " in printed.splitlines()[-1]
    assert "\r" not in printed


# Metrics that the page or a table asks for by name.
NAMED = "psnr", "ssim", "identity", "structure_added", "hallucination_rate"


def keep(patch, *names):
    """Leaves these of METRICS alone, so that little is compiled."""
    for name in measures.METRICS.keys() - set(names):
        patch.delitem(measures.METRICS, name)
    measures._pairwise.clear_cache()


def test_values_of_another_set_of_metrics_are_not_resumed(
    small_suite, brightener, tmp_path, monkeypatch
):
    keep(monkeypatch, *NAMED, "gmsd")
    with monkeypatch.context() as patch:
        patch.delitem(measures.METRICS, "gmsd")
        measures._pairwise.clear_cache()
        before = evaluate.evaluate(small_suite, [brightener], [], tmp_path)
    measures._pairwise.clear_cache()
    after = evaluate.evaluate(small_suite, [brightener], [], tmp_path)
    measures._pairwise.clear_cache()
    assert not values(before.rows, "brightener", "gmsd")
    assert len(values(after.rows, "brightener", "gmsd")) == small_suite.count


@pytest.fixture
def a_metric_more(monkeypatch):
    """Some of METRICS and a line more, its name; nothing compiled before or after is used again."""
    keep(monkeypatch, *NAMED)
    halved = measures.Metric("halved error", -1, 3, lambda p: abs(p.output - p.clean).mean() / 2)
    monkeypatch.setitem(measures.METRICS, "halved", halved)
    yield "halved"
    measures._pairwise.clear_cache()


def test_a_line_in_the_registry_is_a_column_of_every_table(
    small_suite, brightener, a_metric_more, tmp_path, capsys
):
    result = evaluate.evaluate(small_suite, [brightener], [], tmp_path)
    report.write(tmp_path, result, [brightener])
    found = values(result.rows, "brightener", a_metric_more)
    for case in small_suite.cases():
        error = np.abs(np.clip(case.low * 2.5, 0, 1) - case.clean).mean() / 2
        np.testing.assert_allclose(found[case.image, case.realisation], error, rtol=1e-4)
    for name in ("per_image.csv", "summary.csv", "comparisons.csv", "subgroups.csv"):
        assert a_metric_more in (tmp_path / name).read_text()
    assert "halved error" in tables.table(result.summary)
    assert "halved error" in (tmp_path / "index.html").read_text()
    assert cli.main(["compare", str(tmp_path), "--metrics", a_metric_more]) == 0
    assert "brightener - low, halved error" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nowhere", "no such method"),
        ("x=nowhere", "existing folder"),
        (".", "NAME=."),
        ("low=.", "'low' is the input's name; choose another, as my_low="),
        ("clahe=.", "'clahe' is a baseline's name; choose another, as my_clahe="),
    ],
)
def test_a_method_that_is_none_says_so(text, message):
    with pytest.raises(methods.MethodError, match=message):
        methods.load(text)


def test_a_run_that_is_named_as_the_input_or_a_baseline_is_refused(tmp_path):
    for name in ("low", "clean", "clahe"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        with pytest.raises(methods.MethodError, match=f"'{name}' is .*'s name; rename the folder"):
            methods.load(str(tmp_path / name))


def test_a_folder_whose_path_has_an_equals_sign_is_a_path(tmp_path):
    folder = tmp_path / "lr=1e-4"
    folder.mkdir()
    with pytest.raises(methods.MethodError, match="neither a run directory"):
        methods.load(str(folder))
    (folder / "checkpoints").mkdir()
    with pytest.raises(CheckpointError):  # it was looked for a network
        methods.load(str(folder))


def test_repeated_names_get_numbers_that_nobody_gave(brightener):
    given = [brightener._replace(name=name) for name in ("A", "A", "A 2", "A")]
    assert [method.name for method in methods.unique(given)] == ["A", "A 3", "A 2", "A 4"]


def test_metrics_are_picked_by_name_and_a_plain_one_stands_beside_its_gt_mean():
    assert measures.parse("niqe, ssim_gt_mean,ssim") == ("niqe", "ssim_gt_mean", "ssim")
    assert measures.parse("psnr_gt_mean") == ("psnr_gt_mean", "psnr")
    assert "niqe" not in measures.selected()
    invention = measures.parse("psnr,invention")
    assert invention[0] == "psnr"
    assert len(invention) == 9
    assert set(invention) <= set(measures.selected())  # measured in every evaluation
    assert set(measures.selected(["niqe", "psnr"])) == {*measures.selected(), "niqe"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("psnr,sim", "'sim' is no metric; did you mean 'ssim'?"),
        ("xyz", "'xyz' is no metric; expected of psnr, "),
        (",", "no name; expected of psnr"),
    ],
)
def test_a_metric_that_is_none_is_one_line(text, message, capsys, tmp_path):
    for command in (["evaluate", "gamma", "-o", str(tmp_path)], ["compare", str(tmp_path)]):
        assert cli.main([*command, "--metrics", text]) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith(f"lle {command[0]}: --metrics: {message}")
        assert printed.err.count("\n") == 1
        assert printed.out == ""


def test_a_metric_that_is_named_is_measured_and_shown(
    small_suite, brightener, monkeypatch, tmp_path, capsys
):
    keep(monkeypatch, *NAMED, "lightness_order_error")
    evaluate.evaluate(
        small_suite, [brightener], [], tmp_path, more_metrics=["lightness_order_error"]
    )
    measures._pairwise.clear_cache()
    order = ["lightness_order_error", "psnr"]
    assert cli.main(["compare", str(tmp_path), "--metrics", ",".join(order), "--latex"]) == 0
    out = capsys.readouterr().out
    assert re.split(r"  +", out.splitlines()[0]) == ["method", "lightness order error", "PSNR (dB)"]
    assert "brightener - low, lightness order error: " in out
    assert "brightener - low, PSNR (dB): " in out
    assert r"method & lightness order error & PSNR (dB) \\" in out
    (row,) = re.findall(r"brightener & .*", out)
    assert re.search(r"& \\textbf\{\d+\.\d\d \$\\pm\$ \d+\.\d\d\} \\\\$", row)
    monkeypatch.setitem(measures.METRICS, "another", measures.METRICS["psnr"])
    assert cli.main(["compare", str(tmp_path), "--metrics", "another"]) == 2
    assert "another was not measured; measured: psnr, ssim" in capsys.readouterr().err


def test_spots_and_lines_have_worst_lists_and_a_picture_where_they_are_measured(
    small_suite, brightener, monkeypatch, tmp_path
):
    invention = measures.GROUPS["invention"]
    keep(monkeypatch, *NAMED, *invention)
    result = evaluate.evaluate(small_suite, [brightener], [], tmp_path, more_metrics=invention)
    assert len(values(result.rows, "brightener", "dark_lines_lost")) == small_suite.count
    report.write(tmp_path, result, [brightener])
    page = (tmp_path / "index.html").read_text()
    assert "most dark lines added" in page
    assert "brightener: added red, lost blue" in page
    measures._pairwise.clear_cache()


def test_marks_are_red_where_added_and_blue_where_lost():
    added, lost = np.zeros((2, 40, 48), bool)
    added[10, 10], lost[30, 40] = True, True
    picture = panels.mark(np.full((40, 48, 3), 0.5), added, lost, side=384)
    red, _, blue = np.moveaxis(picture, -1, 0)
    np.testing.assert_array_equal(np.argwhere(red > blue).mean(axis=0), [10, 10])
    np.testing.assert_array_equal(np.argwhere(blue > red).mean(axis=0), [30, 40])


def test_lpips_is_measured_with_the_weights_given(small_suite, brightener, monkeypatch, tmp_path):
    keep(monkeypatch, *NAMED, "lpips")
    for options in ({"more_metrics": ["lpips"]}, {"lpips_weights": tmp_path / "x.npz"}):
        with pytest.raises(evaluate.EvaluationError, match="needs both lpips in --metrics and"):
            evaluate.evaluate(small_suite, [brightener], [], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    (tmp_path / "x.npz").write_bytes(b"weights")
    monkeypatch.setattr(metrics, "load_lpips", lambda path: {"scale": np.float32(len(path.name))})
    monkeypatch.setattr(metrics, "lpips", lambda x, y, weights: weights["scale"] + 0 * x.mean())
    result = evaluate.evaluate(
        small_suite,
        [brightener],
        [],
        tmp_path,
        more_metrics=["lpips"],
        lpips_weights=tmp_path / "x.npz",
    )
    measures._pairwise.clear_cache()
    assert set(values(result.rows, "brightener", "lpips").values()) == {5.0}


def test_names_in_latex_are_escaped():
    rows = [["method", "a_b & c"], ["x^2 {50%}\\~", "-1.50 +- 0.20"], ["he-nlm <b>", "-"]]
    table = text_table.latex(rows, {(1, 1)})
    assert table.splitlines() == [
        r"\begin{tabular}{lr}", r"\toprule", r"method & a\_b \& c \\", r"\midrule",
        r"x\textasciicircum{}2 \{50\%\}\textbackslash{}\textasciitilde{} & "
        r"\textbf{$-$1.50 $\pm$ 0.20} \\",
        r"he-nlm \textless{}b\textgreater{} & - \\", r"\bottomrule", r"\end{tabular}",
    ]  # fmt: skip


def test_json_of_an_evaluation_and_of_a_comparison(evaluated, monkeypatch, capsys):
    folder, result = evaluated
    monkeypatch.setattr(evaluate, "evaluate", lambda *_, **__: result)
    monkeypatch.setattr(report, "write", lambda *_: None)
    options = ["--suite", "samples", "-o", str(folder.parent), "--no-baselines", "--json"]
    (folder.parent / "samples").mkdir()
    (folder.parent / "samples" / "per_image.csv").touch()
    assert cli.main(["evaluate", "gamma", *options]) == 0
    printed = capsys.readouterr()
    (document,) = json.loads(printed.out)["suites"]
    means = {(s["method"], s["metric"]): s["mean"] for s in document["summary"]}
    assert means["gamma", "psnr"] == pytest.approx(
        np.mean(list(values(result.rows, "gamma", "psnr").values())), rel=1e-5
    )
    assert str(folder.parent / "samples" / "per_image.csv") in document["written"]
    assert printed.err.startswith("samples: 10 cases of 5 images; gamma\n")
    assert "PSNR (dB)" in printed.err
    assert cli.main(["compare", str(folder), "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert compared["methods"] == ["brightener", "brightener 2"]
    assert compared["summary"][0]["mean"] == pytest.approx(document["summary"][0]["mean"])
    assert {c["other"] for c in compared["comparisons"]} >= {"low", "gamma"}


def test_results_of_another_evaluation_are_not_overwritten(
    evaluated, small_suite, clean_folder, monkeypatch, tmp_path, capsys
):
    _, result = evaluated
    made = []
    monkeypatch.setattr(evaluate, "evaluate", lambda *_, **__: made.append(1) or result)
    monkeypatch.setattr(report, "write", lambda *_: None)
    settings = small_suite.settings
    for name, seed in (("small", 3), ("other", 4)):
        part = settings["degradation"] | {"seed": seed}
        text = "\n".join(f"{key} = {json.dumps(value)}" for key, value in part.items())
        (tmp_path / name).mkdir()
        (tmp_path / name / "small.toml").write_text(
            f'[images]\nsource = "{clean_folder.as_posix()}"\nrole = "all"\n[degradation]\n{text}\n'
        )
    first, second = (str(tmp_path / name / "small.toml") for name in ("small", "other"))

    def run(*words):
        code = cli.main(["evaluate", *words, "--no-baselines", "-o", str(tmp_path / "out")])
        return code, capsys.readouterr().err

    code, error = run("gamma", "--suite", first, second)
    assert (code, error.count("\n")) == (2, 1)
    assert "two suites of one name" in error
    (tmp_path / "out" / "small").mkdir(parents=True)
    record = {"fingerprint": small_suite.fingerprint, "methods": ["gamma"]}
    (tmp_path / "out" / "small" / "suite.json").write_text(json.dumps(record))
    code, error = run("gamma", "--suite", second)
    assert code == 2
    assert "holds an evaluation of gamma on other images, seeds" in error
    code, error = run("he", "--suite", first)
    assert code == 2
    assert "holds the results of gamma; choose another -o" in error
    assert not made
    assert run("gamma", "--suite", first)[0] == 0
    assert run("he", "gamma", "--suite", first)[0] == 0
    assert len(made) == 2


def test_an_image_too_small_for_a_metric_is_named(small_suite):
    case = next(small_suite.cases())
    message = (
        f"{case.label}: image is 40x48 pixels; NIQE needs at least 96x96; leave the image out of "
        "the suite, or niqe out of --metrics"
    )
    with pytest.raises(evaluate.EvaluationError, match=message):
        measures.measure(case.low, case, names=("niqe",))
    # the standard metrics are always measured, so that --metrics is no remedy
    small = case._replace(low=case.low[:20], clean=case.clean[:20], parameters=None)
    with pytest.raises(evaluate.EvaluationError, match=r"32x32; leave the image out of the suite$"):
        measures.measure(small.low, small)
    for value in (np.nan, np.inf, -np.inf):
        damaged = case.low.copy()
        damaged[0, 0, 0] = value
        with pytest.raises(measures.EvaluationError, match="is not finite"):
            measures.measure(damaged, case)
        for other in (measures.measure_identity, measures.measure_invention):
            with pytest.raises(measures.EvaluationError, match="is not finite"):
                other(damaged, case.clean)
