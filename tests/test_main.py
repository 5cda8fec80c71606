"""The main job in its own process: results, resuming after SIGKILL, one line for every error."""

import csv
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
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
    "--config.evaluation.realisations=1",
]
FEW_METHODS = "--config.evaluation.baselines=False"  # where the table is not what is tested


def command(*arguments):
    return [sys.executable, "-m", "lle_jax.main", *arguments]


# Imports the main job once and forks for each line of arguments, which saves most of the start.
SERVER = """
import argparse, gc, json, os, pathlib, shutil, sys
from lle_jax import main
gc.freeze()
for line in sys.stdin:
    job = json.loads(line)
    if "campaign" in job:
        import fault_campaign
        folder = pathlib.Path(job["campaign"])
        campaign = fault_campaign.Campaign(folder, job["arguments"], seconds=60)
        campaign.damage_checkpoints(6)
        campaign.along("SIGKILL", 2, campaign.kill, folder / "killed")
        print(json.dumps(campaign.faults), flush=True)
        continue
    child = os.fork()
    if child == 0:
        os.chdir(job["cwd"])
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = ["lle_jax.main", *job["arguments"]]
        if job["full"]:
            shutil.disk_usage = lambda _: argparse.Namespace(free=0)
        if job["signal"]:
            log = main.train.Log.scalars
            def scalars(self, step, **values):
                log(self, step, **values)
                if step == job["at"]:
                    os.kill(os.getpid(), job["signal"])
            main.train.Log.scalars = scalars
        try:
            status = main.main()
        except SystemExit as stop:
            status = stop.code or 0
        except BaseException:
            import traceback
            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=ROOT,
    )  # fmt: skip
    yield process, tmp_path_factory.mktemp("server")
    process.stdin.close()
    process.wait()


def run(*arguments, server, cwd=ROOT, signal=0, at=0, full=False):
    """Runs the main job; `signal` is sent to it after the scalars of step `at`."""
    process, folder = server
    streams = {name: str(folder / name) for name in ("stdout", "stderr")}
    job = {
        "arguments": list(map(str, arguments)),
        "cwd": str(cwd),
        "signal": signal,
        "at": at,
        "full": full,
    }
    job |= streams
    process.stdin.write(json.dumps(job) + "\n")
    process.stdin.flush()
    status = int(process.stdout.readline())
    texts = (Path(path).read_text() for path in streams.values())
    return subprocess.CompletedProcess(arguments, status, *texts)


# With the folder of compiled programs of conftest.py: those of one process serve the next.
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tools'}"}


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
def finished(folder, server, tmp_path_factory):
    """An uninterrupted run: what it printed, and its directory."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    arguments = [*SMALL, f"--config.data.source={folder}", f"--workdir={workdir}"]
    result = run("--config", "experiments/unet.py", *arguments, server=server)
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


def test_the_report_names_weights_baselines_files_left_out_and_time(finished, folder):
    result, workdir, _ = finished
    assert "moving-average (EMA) weights of step 24, the last" in result.stdout
    for name in ("low", "unet (EMA)", "gamma", "he", "clahe", "gamma+nlm", "he+nlm", "clahe+nlm"):
        assert f"\n{name} " in result.stdout
    assert "2 files were skipped" in result.stdout
    assert "truncated.png" in result.stderr
    assert "text.jpg" in result.stderr
    assert "warning: the loss" not in result.stderr
    for phase in ("set-up", "compile", "train", "evaluate", "save"):
        assert f"{phase} " in result.stdout.splitlines()[-1]
    with (workdir / "evaluation" / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["images"] for row in rows} == {"1"}
    record = json.loads((workdir / "evaluation" / "suite.json").read_text())
    assert record["rejected"] == 2
    page = (workdir / "evaluation" / "index.html").read_text()
    for curve in ("loss", "validation", "learning rate", "images per second"):
        assert curve in page


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_told_to_stop_it_saves_the_step_it_is_at_and_resumes(
    number, status, finished, tmp_path, server
):
    _, whole, arguments = finished
    workdir = tmp_path / "run"
    arguments = [*arguments[:-1], f"--workdir={workdir}", FEW_METHODS]
    # step 12 is one of those that are saved anyway; 7 is not
    for at in (7, 12):
        stopped = run("--config", "experiments/unet.py", *arguments, server=server,
                      signal=number, at=at)  # fmt: skip
        assert stopped.returncode == status
        assert stopped.stderr.splitlines()[-1] == (
            f"{number.name}: the same command resumes from the last checkpoint"
        )
        assert "Traceback" not in stopped.stderr
        assert (workdir / "checkpoints" / str(at)).is_dir()
    result = run("--config", "experiments/unet.py", *arguments, server=server)
    assert result.returncode == 0, result.stderr
    assert "resuming from step 12" in result.stdout
    before, after = final_state(whole), final_state(workdir)
    for name in before:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)


def test_a_disk_without_room_is_one_line(finished, tmp_path, server):
    _, _, arguments = finished
    arguments = [*arguments[:-1], f"--workdir={tmp_path / 'run'}", FEW_METHODS]
    result = run("--config", "experiments/unet.py", *arguments, server=server, full=True)
    assert result.returncode == 74
    assert "Traceback" not in result.stderr
    assert re.fullmatch(
        r"error: .*checkpoints: 0.0 MB of room, and a checkpoint needs 1.2; free some space, and "
        "the same command resumes from the last checkpoint",
        result.stderr.splitlines()[-1],
    )
    resumed = run("--config", "experiments/unet.py", *arguments, server=server)
    assert resumed.returncode == 0, resumed.stderr


def test_a_full_disk_is_one_line_whoever_finds_it(monkeypatch, capsys):
    from lle_jax import main  # its flags, only here

    def leave(status):
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(main, "_leaving", threading.Lock())
    full = OSError(errno.ENOSPC, "No space left on device", "run/a.png")
    picture = images.ImageError("run/a.png: cannot be written")
    picture.__context__ = full  # `from None` hides it, and keeps it
    assert main._full_disk(picture) is full
    assert main._full_disk(ValueError("Failed to write: No space left on device")).filename is None
    assert main._full_disk(ValueError("no room")) is None
    thread = threading.ExceptHookArgs((OSError, full, None, None))
    with pytest.raises(SystemExit, match="74"):
        main._uncaught(thread)  # of the event files
    assert re.fullmatch("error: run/a.png: No space left .* checkpoint\n", capsys.readouterr().err)
    lost = types.SimpleNamespace(exc_value=RuntimeError("Event loop is closed"))
    main._unraisable(lost)
    assert capsys.readouterr().err == ""


def test_a_few_faults_of_the_campaign_change_nothing(finished, tmp_path, server):
    _, workdir, arguments = finished
    shutil.copytree(workdir, tmp_path / "undisturbed")
    process, _ = server
    arguments = ["--config", "experiments/unet.py", *arguments[:-1]]
    process.stdin.write(json.dumps({"campaign": str(tmp_path), "arguments": arguments}) + "\n")
    process.stdin.flush()
    faults = json.loads(process.stdout.readline())
    assert [kind.split(",")[0] for kind, *_ in faults] == (
        ["damaged checkpoint"] * 6 + ["SIGKILL"] * 2
    )
    assert [fault for fault in faults if any(fault[2:])] == []


def test_evaluating_alone_repeats_the_table(finished, server):
    _, workdir, arguments = finished
    table = (workdir / "evaluation" / "per_image.csv").read_text()
    (workdir / "evaluation" / "per_image.csv").unlink()
    result = run(
        "--config", "experiments/unet.py", *arguments, "--mode", "evaluate", server=server
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


def test_an_override_is_taken_and_a_wrong_one_names_the_nearest_field(server, tmp_path):
    arguments = ["--config", str(ROOT / "experiments/unet.py"), f"--workdir={tmp_path / 'run'}"]
    wrong = run(*arguments, "--config.optim.lrr=1e-4", server=server, cwd=tmp_path)
    assert "--config.optim.lrr" in error_line(wrong)
    assert "did you mean optim.lr?" in error_line(wrong)
    text = run(*arguments, "--config.optim.lr=fast", server=server, cwd=tmp_path)
    assert "config.optim.lr" in error_line(text)
    renamed = run(*arguments, "--config.data.augmented=1", server=server, cwd=tmp_path)
    assert "it is now called data.photometric_augmentation" in error_line(renamed)
    assert list(tmp_path.iterdir()) == []


def test_a_config_that_is_nowhere(server, tmp_path):
    result = run("--config", "nowhere.py", server=server, cwd=tmp_path)
    assert error_line(result).startswith("error: --config nowhere.py: no such file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [("x = 1", "it has no get_config()"), ("this is no Python", "it cannot be run (SyntaxError")],
)
def test_a_config_that_is_no_experiment(text, message, server, tmp_path):
    (tmp_path / "notes.py").write_text(text)
    result = run("--config", "notes.py", server=server, cwd=tmp_path)
    assert f"--config notes.py: {message}" in error_line(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.data.source=nowhere"], "nowhere: no such folder"),
        (["--config.data.source=empty"], "empty: no images in this folder"),
        (["--config.data.source=texts"], "none of the 1 images can be read"),
        (["--config.data.source=images", "--config.data.crop=40"], "smaller than the crop of 40"),
        (["--config.data.context_sizes=(700,)"], "no training image is 700 pixels high and wide"),
        (["--config.data.source=pairs"], "low beside high looks like pairs"),
        (["--config.data.pairs=nowhere"], "nowhere: no such folder; put our485/low"),
        (["--config.data.pairs=pairs"], "24x20 and 24x24 pixels; a pair must be of one size"),
        (["--config.data.pairs=broken,images"], "broken/1.png"),
        (["--config.data.folds=2"], "data.folds is 2"),
        (["--config.data.pairs_weight=0.5"], "data.pairs_weight is 0.5 without data.pairs"),
        (["--workdir=file/run"], "file/run: the run directory cannot be written"),
        (["--config.model.name=unett"], "model.name is 'unett'; expected one of unet"),
        (["--config.degradation.preset=nowhere"], "nowhere"),
        (
            ["--config.degradation.mixed_with=('wide', 'camra')"],
            "no preset 'camra'; did you mean 'camera'",
        ),
        (
            ["--config.train.given_exposure=1.5"],
            "train.given_exposure is 1.5; expected a fraction in [0, 1]",
        ),
        (
            ["--config.train.given_exposure=0.5"],
            "train.given_exposure is 0.5, but unet with loss.kind supervised takes no exposure",
        ),
        (["--mode=evaluate"], "run/checkpoints: no checkpoint yet; train first"),
        (["--config.optim.lr=-1"], "optim.lr is -1.0; expected a number >= 0"),
        (
            ["--config.data.context_sizes=(32, 96)"],
            "data.context_sizes: 32 is less than data.crop (64)",
        ),
        (
            ["--config.data.photometric_augmentation=2"],
            "data.photometric_augmentation is 2.0; expected a fraction in [0, 1]",
        ),
        (["--config.train.steps=0"], "train.steps is 0; expected a whole number >= 1"),
        (["--config.loss.ssim=-1"], "loss.ssim is -1.0; expected a number >= 0"),
    ],
)
def test_what_the_caller_can_put_right_is_one_line_and_writes_nothing(
    arguments, message, folder, server, tmp_path
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "text.jpg").write_text("this is no image")
    (tmp_path / "images").mkdir()
    for number in range(3):
        (tmp_path / "images" / f"{number}.png").write_bytes((folder / f"{number}.png").read_bytes())
    shutil.copytree(tmp_path / "images", tmp_path / "broken")
    whole = (tmp_path / "broken" / "1.png").read_bytes()
    (tmp_path / "broken" / "1.png").write_bytes(whole[: len(whole) // 2])
    for name, width in (("low", 20), ("high", 24)):
        (tmp_path / "pairs" / name).mkdir(parents=True)
        for number in range(3):
            picture = np.full((24, width, 3), number / 255, np.float32)
            images.write(tmp_path / "pairs" / name / f"{number}.png", picture)
    (tmp_path / "file").write_text("in the way")
    before = sorted(tmp_path.rglob("*"))
    base = ["--config", str(ROOT / "experiments/unet.py"), "--workdir=run"]
    result = run(*base, *arguments, server=server, cwd=tmp_path)
    assert message in error_line(result)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_checkpoint_of_another_architecture_is_refused_and_kept(finished, server, tmp_path):
    _, workdir, arguments = finished
    shutil.copytree(workdir / "checkpoints", tmp_path / "run" / "checkpoints")
    before = sorted(tmp_path.rglob("*"))
    changed = [*arguments[:-1], f"--workdir={tmp_path / 'run'}", "--config.model.widths=(4, 8)"]
    result = run("--config", "experiments/unet.py", *changed, server=server)
    expected = r"another architecture: ema\.\S+ is \(6,\) there and \(8,\)"
    assert re.search(expected, error_line(result))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_of_another_configuration_is_refused_and_kept(finished, server):
    _, workdir, arguments = finished
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    result = run(
        "--config", "experiments/unet.py", *arguments, "--config.optim.lr=0.5", server=server
    )  # fmt: skip
    assert "optim.lr (there 0.001, here 0.5)" in error_line(result)
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


def test_a_run_starts_from_the_average_of_another_and_has_seen_its_images(
    finished, folder, server, tmp_path
):
    _, workdir, arguments = finished
    still = ["--config.optim.lr=0", "--config.train.steps=3", "--config.train.validate_every=3"]
    start = f"--config.train.start_from={workdir}"
    arguments = [*arguments[:-1], *still, start, f"--workdir={tmp_path / 'run'}", FEW_METHODS]
    result = run("--config", "experiments/unet.py", *arguments, server=server)
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
    result = run("--config", "experiments/unet.py", *SMALL, start, *again, server=server)
    assert "it was trained on" in error_line(result)
    assert not (tmp_path / "other").exists()


def test_a_run_needs_the_model_that_it_started_from_no_more_once_it_has_a_checkpoint(
    finished, server, tmp_path
):
    _, before, arguments = finished
    source, workdir = tmp_path / "source", tmp_path / "run"
    shutil.copytree(before, source)
    start = f"--config.train.start_from={source}"
    shorter = ["--config.train.steps=3", "--config.train.validate_every=3", FEW_METHODS]
    again = ["--config", "experiments/unet.py", *arguments[:-1], *shorter, start]
    assert run(*again, f"--workdir={workdir}", server=server).returncode == 0
    record = json.loads((workdir / "data.json").read_text())
    assert record["start_from"]["record"] == {"kind": "run", "step": 24}
    assert set(record["start_from"]["images"]["train"]) <= set(record["train"])

    shutil.rmtree(source)
    result = run(*again, f"--workdir={workdir}", "--mode=evaluate", server=server)
    assert result.returncode == 0, result.stderr
    assert json.loads((workdir / "data.json").read_text()) == record
    first, second = json.loads((workdir / "environment.json").read_text())
    assert first["start_from"] == second["start_from"]
    shutil.rmtree(workdir / "checkpoints")  # without one it would begin anew
    assert str(source) in error_line(run(*again, f"--workdir={workdir}", server=server))


def test_a_second_start_in_one_run_directory_is_refused_in_one_line(finished, tmp_path, server):
    _, _, arguments = finished
    workdir = tmp_path / "run"
    arguments = [*arguments[:-1], f"--workdir={workdir}"]
    first = subprocess.Popen(
        command("--config", "experiments/unet.py", *arguments, "--config.train.steps=2000"),
        cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while first.poll() is None and not (workdir / "scalars.csv").exists():
            time.sleep(0.05)
        second = run(
            "--config",
            "experiments/unet.py",
            *arguments,
            "--config.train.steps=2000",
            server=server,
        )
        assert first.poll() is None
        assert str(workdir) in error_line(second)
    finally:
        first.kill()
        first.wait()


def test_a_run_whose_images_changed_is_refused_with_what_changed(folder, server, tmp_path):
    copy = tmp_path / "images"
    shutil.copytree(folder, copy)
    arguments = [*SMALL, f"--config.data.source={copy}", f"--workdir={tmp_path / 'run'}"]
    arguments += ["--config.train.steps=3", "--config.train.validate_every=3", FEW_METHODS]
    assert run("--config", "experiments/unet.py", *arguments, server=server).returncode == 0
    before = (tmp_path / "run" / "data.json").read_bytes()
    for number in range(20, 36):
        image = np.random.default_rng(number).random((32, 32, 3), np.float32)
        images.write(copy / f"{number}.png", image)
    line = error_line(run("--config", "experiments/unet.py", *arguments, server=server))
    assert "16" in line
    assert "added" in line
    assert (tmp_path / "run" / "data.json").read_bytes() == before
