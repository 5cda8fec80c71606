"""The main job in its own process: results, resuming after SIGKILL, one line for every error."""

import csv
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest

from lle_jax import images

ROOT = Path(__file__).parent.parent
SMALL = [
    "--config.model.widths=(4, 6)",
    "--config.data.crop=16",
    "--config.data.batch_size=2",
    "--config.optim.warmup_steps=2",
    "--config.train.steps=24",
    "--config.train.log_every=1",
    "--config.train.validate_every=12",
    "--config.train.checkpoint_every=4",
    "--config.evaluation.draws=1",
]


def command(*arguments):
    return [sys.executable, "-m", "lle_jax.main", *arguments]


def run(*arguments, cache, cwd=ROOT):
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, cwd=cwd, env=environment(cache)
    )


def environment(cache):
    # Processes that compile the same step share it, which halves the time of these tests.
    variables = {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
        "PYTHONPATH": str(ROOT),
    }
    return os.environ | variables


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("compilation")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photographs):
    """Ten small images, two of them grey, and two files that are no images."""
    path = tmp_path_factory.mktemp("images")
    for number in range(10):
        image = np.roll(photographs[number % 2], 5 * number, axis=0)[:32, :32]
        channels = 1 if number < 2 else 3
        images.write(path / f"{number}.png", np.ascontiguousarray(image[..., :channels]))
    whole = (path / "5.png").read_bytes()
    (path / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (path / "text.jpg").write_text("this is no image")
    return path


@pytest.fixture(scope="module")
def finished(folder, cache, tmp_path_factory):
    """An uninterrupted run: what it printed, and its directory."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    arguments = [*SMALL, f"--config.data.source={folder}", f"--workdir={workdir}"]
    result = run("--config", "experiments/unet.py", *arguments, cache=cache)
    assert result.returncode == 0, result.stderr
    return result, workdir, arguments


def final_state(workdir):
    tree = ocp.StandardCheckpointer().restore((workdir / "checkpoints" / "24" / "state").absolute())
    return {str(path): np.asarray(leaf) for path, leaf in _leaves(tree)}


def _leaves(tree, path=()):
    if isinstance(tree, dict | list):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return [leaf for key, value in items for leaf in _leaves(value, (*path, key))]
    return [] if tree is None else [(path, tree)]


def losses(workdir):
    with (workdir / "scalars.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [(row["step"], row["loss"], row["validation_psnr"]) for row in rows]


def test_the_run_directory_is_the_record(finished, folder):
    _, workdir, _ = finished
    config = json.loads((workdir / "config.json").read_text())
    assert config["data"]["source"] == str(folder)
    assert config["model"]["widths"] == [4, 6]
    (start,) = json.loads((workdir / "environment.json").read_text())
    assert start["packages"]["jax"]
    assert len(start["data_fingerprint"]) == 64
    assert [row[0] for row in losses(workdir)] == [str(n) for n in range(1, 25)]
    assert (workdir / "pictures" / "validation_000024.png").exists()
    assert list(workdir.glob("events*"))
    assert len(list((workdir / "evaluation" / "panels").iterdir())) == 1


def test_the_report_names_weights_baselines_files_left_out_and_time(finished, folder):
    result, workdir, _ = finished
    assert "moving-average (EMA) weights of step 24, the last" in result.stdout
    for name in ("low", "unet (EMA)", "gamma", "he", "clahe", "gamma+nlm", "he+nlm", "clahe+nlm"):
        assert f"\n{name} " in result.stdout
    assert "2 files were left out" in result.stdout
    assert "truncated.png" in result.stderr
    assert "text.jpg" in result.stderr
    for phase in ("set-up", "compile", "train", "evaluate", "save"):
        assert f"{phase} " in result.stdout.splitlines()[-1]
    with (workdir / "evaluation" / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["method"] == "(files left out)"
    assert float(rows[-1]["mean"]) == 2


def test_killed_at_any_moment_and_run_again_ends_with_the_same_bits(finished, cache, tmp_path):
    _, whole, arguments = finished
    workdir = tmp_path / "run"
    arguments = [*arguments[:-1], f"--workdir={workdir}"]
    kills = 0
    # From right after the first row to while the checkpoint of step 12 is being written.
    for rows in (1, 7, 12):
        process = subprocess.Popen(
            command("--config", "experiments/unet.py", *arguments),
            cwd=ROOT, env=environment(cache), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        scalars = workdir / "scalars.csv"
        while process.poll() is None and not (
            scalars.exists() and len(scalars.read_text().splitlines()) > rows
        ):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills == 3
    assert not (workdir / "checkpoints" / "24").exists()
    result = run("--config", "experiments/unet.py", *arguments, cache=cache)
    assert result.returncode == 0, result.stderr
    before, after = final_state(whole), final_state(workdir)
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)
    assert losses(workdir) == losses(whole)


def test_evaluating_alone_repeats_the_table(finished, cache):
    _, workdir, arguments = finished
    table = (workdir / "evaluation" / "per_image.csv").read_text()
    (workdir / "evaluation" / "per_image.csv").unlink()
    result = run(
        "--config", "experiments/unet.py", *arguments, "--mode", "evaluate", cache=cache
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (workdir / "evaluation" / "per_image.csv").read_text() == table


def error_line(result):
    """The one line of an error, after checking that it is one line and the exit status 2."""
    lines = result.stderr.strip().splitlines()
    assert result.returncode == 2, result.stderr
    assert len(lines) == 1, result.stderr
    assert result.stdout == ""
    return lines[0]


def test_an_override_is_taken_and_a_wrong_one_names_the_nearest_field(cache, tmp_path):
    arguments = ["--config", str(ROOT / "experiments/unet.py"), f"--workdir={tmp_path / 'run'}"]
    wrong = run(*arguments, "--config.optim.lrr=1e-4", cache=cache, cwd=tmp_path)
    assert "--config.optim.lrr" in error_line(wrong)
    assert "did you mean optim.lr?" in error_line(wrong)
    text = run(*arguments, "--config.optim.lr=fast", cache=cache, cwd=tmp_path)
    assert "config.optim.lr" in error_line(text)
    assert list(tmp_path.iterdir()) == []


def test_a_config_that_is_nowhere(cache, tmp_path):
    result = run("--config", "nowhere.py", cache=cache, cwd=tmp_path)
    assert error_line(result).startswith("error: --config nowhere.py: no such file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [("x = 1", "it has no get_config()"), ("this is no Python", "it cannot be run (SyntaxError")],
)
def test_a_config_that_is_no_experiment(text, message, cache, tmp_path):
    (tmp_path / "notes.py").write_text(text)
    result = run("--config", "notes.py", cache=cache, cwd=tmp_path)
    assert f"--config notes.py: {message}" in error_line(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.data.source=nowhere"], "nowhere: no such folder"),
        (["--config.data.source=empty"], "empty: no images in this folder"),
        (["--config.data.source=texts"], "none of the 1 images can be read"),
        (["--config.data.source=images", "--config.data.crop=40"], "smaller than the crop of 40"),
        (["--workdir=file/run"], "file/run: the run directory cannot be written"),
        (["--config.model.name=unett"], "model.name is 'unett'; expected one of unet"),
        (["--config.degradation.preset=nowhere"], "nowhere"),
        (["--mode=evaluate"], "run/checkpoints: no checkpoint yet; train first"),
        (["--config.optim.lr=-1"], "optim.lr is -1.0; expected a number >= 0"),
        (["--config.data.views=(64, 96)"], "data.views: 64 is less than data.crop (96)"),
        (["--config.data.augmented=2"], "data.augmented is 2.0; expected a fraction in [0, 1]"),
        (["--config.train.steps=0"], "train.steps is 0; expected a whole number >= 1"),
        (["--config.loss.ssim=-1"], "loss.ssim is -1.0; expected a number >= 0"),
    ],
)
def test_what_the_caller_can_put_right_is_one_line_and_writes_nothing(
    arguments, message, folder, cache, tmp_path
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "text.jpg").write_text("this is no image")
    (tmp_path / "images").mkdir()
    for number in range(3):
        (tmp_path / "images" / f"{number}.png").write_bytes((folder / f"{number}.png").read_bytes())
    (tmp_path / "file").write_text("in the way")
    before = sorted(tmp_path.rglob("*"))
    base = ["--config", str(ROOT / "experiments/unet.py"), "--workdir=run"]
    result = run(*base, *arguments, cache=cache, cwd=tmp_path)
    assert message in error_line(result)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_checkpoint_of_another_architecture_is_refused_and_kept(finished, cache, tmp_path):
    _, workdir, arguments = finished
    shutil.copytree(workdir / "checkpoints", tmp_path / "run" / "checkpoints")
    before = sorted(tmp_path.rglob("*"))
    changed = [*arguments[:-1], f"--workdir={tmp_path / 'run'}", "--config.model.widths=(4, 8)"]
    result = run("--config", "experiments/unet.py", *changed, cache=cache)
    expected = r"another architecture: ema\.\S+ is \(6,\) there and \(8,\)"
    assert re.search(expected, error_line(result))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_of_another_configuration_is_refused_and_kept(finished, cache):
    _, workdir, arguments = finished
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    result = run(
        "--config", "experiments/unet.py", *arguments, "--config.optim.lr=0.5", cache=cache
    )  # fmt: skip
    assert "optim.lr (there 0.001, here 0.5)" in error_line(result)
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


def test_a_run_starts_from_the_average_of_another_and_has_seen_its_images(
    finished, folder, cache, tmp_path
):
    _, workdir, arguments = finished
    still = ["--config.optim.lr=0", "--config.train.steps=3", "--config.train.validate_every=3"]
    start = f"--config.train.start_from={workdir}"
    arguments = [*arguments[:-1], *still, start, f"--workdir={tmp_path / 'run'}"]
    result = run("--config", "experiments/unet.py", *arguments, cache=cache)
    assert result.returncode == 0, result.stderr
    assert f"from the weights of {workdir}" in result.stdout
    here = ocp.StandardCheckpointer().restore((tmp_path / "run/checkpoints/3/state").absolute())
    there = final_state(workdir)
    for path, leaf in _leaves(here["params"], ("ema",)):
        np.testing.assert_allclose(np.asarray(leaf), there[str(path)], atol=1e-7)
    (environment,) = json.loads((tmp_path / "run/environment.json").read_text())
    assert environment["start_from"] == {"kind": "run", "step": 24}
    seen = json.loads((workdir / "data.json").read_text())

    # as a test image, one that the weights were trained on
    for role in ("train", "validation", "test"):
        (tmp_path / "images" / role).mkdir(parents=True)
    for number, path in enumerate(sorted(folder.glob("?.png"))):
        learnt = hashlib.sha256(path.read_bytes()).hexdigest() in seen["train"]
        role = "test" if learnt else ("train", "validation")[number % 2]
        shutil.copy(path, tmp_path / "images" / role)
    again = [f"--config.data.source={tmp_path / 'images'}", f"--workdir={tmp_path / 'other'}"]
    result = run("--config", "experiments/unet.py", *SMALL, start, *again, cache=cache)
    assert "it was trained on" in error_line(result)
    assert not (tmp_path / "other").exists()
