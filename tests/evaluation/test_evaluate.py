import csv

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from lle_jax import classical, data, images
from lle_jax.evaluation import evaluate as evaluation


def darken(key, batch):
    return 0.3 * batch.clean


def brighten(low):
    return low / 0.3


@pytest.fixture(scope="module")
def result(photographs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    arrays = [photographs[0], photographs[1], photographs[0, ..., :1]]
    test = data.Images(
        ("astronaut", "retina", "grey"),
        ("00000000", "11111111", "22222222"),
        ((64, 64),) * 3,
        tuple(lambda a=a: a for a in arrays),
    )
    summary = evaluation.evaluate(
        test, 2, ("net (EMA)", brighten), darken, draws=2, seed=0, folder=folder
    )
    return folder, summary, arrays


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_there_is_a_value_per_image_version_method_and_metric(result):
    folder, _, _ = result
    rows = read(folder / "per_image.csv")
    methods = {"low", "net (EMA)", *classical.METHODS}
    assert len(rows) == 3 * 2 * len(methods) * 2
    assert {row["method"] for row in rows} == methods
    assert {row["image"] for row in rows} == {
        f"{name}-{draw}" for name in ("astronaut", "retina", "grey") for draw in (0, 1)
    }


def test_values_equal_scikit_image(result):
    folder, _, arrays = result
    rows = {
        (row["image"], row["method"], row["metric"]): float(row["value"])
        for row in read(folder / "per_image.csv")
    }
    clean = arrays[1].astype(np.float64)
    low = 0.3 * clean
    psnr = peak_signal_noise_ratio(clean, low, data_range=1)
    np.testing.assert_allclose(rows["retina-0", "low", "psnr"], psnr, atol=1e-4)
    gamma = classical.gamma_from_mean(low.astype(np.float32)).astype(np.float64)
    ssim = structural_similarity(
        clean, gamma, data_range=1, channel_axis=-1, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    np.testing.assert_allclose(rows["retina-0", "gamma", "ssim"], ssim, atol=1e-6)
    assert rows["astronaut-0", "net (EMA)", "ssim"] == pytest.approx(1, abs=1e-5)


def test_the_summary_is_mean_and_deviation_of_the_per_image_values(result):
    folder, summary, _ = result
    values = [
        float(row["value"])
        for row in read(folder / "per_image.csv")
        if (row["method"], row["metric"]) == ("clahe", "psnr")
    ]
    (row,) = [
        row
        for row in read(folder / "summary.csv")
        if (row["method"], row["metric"]) == ("clahe", "psnr")
    ]
    np.testing.assert_allclose(float(row["mean"]), np.mean(values), rtol=1e-6)
    np.testing.assert_allclose(float(row["std"]), np.std(values, ddof=1), rtol=1e-6)
    assert row["n"] == "6"
    assert len(summary) == 2 * (2 + len(classical.METHODS))


def test_the_summary_counts_the_files_left_out(result):
    last = read(result[0] / "summary.csv")[-1]
    assert (last["method"], last["metric"], last["mean"]) == ("(files left out)", "count", "2")


def test_each_test_image_has_a_panel(result):
    panels = sorted((result[0] / "panels").iterdir())
    assert [path.name for path in panels] == ["astronaut.png", "grey.png", "retina.png"]
    picture = images.read(panels[0]).pixels
    assert picture.shape[1] > 4 * 64
    assert picture.std() > 0.1


def test_the_printed_table_names_the_weights_and_the_verdict_the_best_baseline(result):
    summary = result[1]
    text = evaluation.table(summary)
    assert "net (EMA)" in text
    assert "n = 6" in text
    baselines = {m: mean for m, k, mean, *_ in summary if k == "psnr" and m in classical.METHODS}
    best = max(baselines, key=baselines.get)
    assert f"over the best baseline ({best})" in evaluation.verdict(summary, "net (EMA)")
