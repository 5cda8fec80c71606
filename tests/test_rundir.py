import csv
import json
import subprocess
import sys
from pathlib import Path

import ml_collections
import pytest

from lle_jax import files, rundir

ROOT = Path(__file__).parent.parent


def config(**optim):
    optim = {"lr": 0.1, "betas": (0.9, 0.99)} | optim
    return ml_collections.ConfigDict({"seed": 0, "optim": optim})


def test_a_run_directory_is_entered_again_by_the_same_configuration(tmp_path):
    for number in range(2):
        rundir.open_for(tmp_path / "run", config(), {"start": number})
    assert json.loads((tmp_path / "run" / "config.json").read_text())["optim"]["lr"] == 0.1
    starts = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert starts == [{"start": 0}, {"start": 1}]


def test_another_configuration_is_refused_with_the_fields_named(tmp_path):
    rundir.open_for(tmp_path, config(), {})
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(rundir.RunError) as caught:
        rundir.open_for(tmp_path, config(lr=0.2, clip=1.0), {})
    assert "optim.clip (there None, here 1.0), optim.lr (there 0.1, here 0.2)" in str(caught.value)
    assert "betas" not in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(rundir.RunError, match=r"file/run: the run directory cannot be written"):
        rundir.open_for(tmp_path / "file" / "run", config(), {})


def test_flatten_names_nested_fields_with_dots():
    assert rundir.flatten(config()) == {"seed": 0, "optim.lr": 0.1, "optim.betas": [0.9, 0.99]}


def test_the_environment_records_versions_devices_commit_and_data():
    record = rundir.environment("abc")
    assert record["data_fingerprint"] == "abc"
    assert record["packages"]["jax"].count(".") >= 2
    assert record["packages"]["opencv-python-headless"]
    assert record["devices"]
    head = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True
    )
    if head.returncode == 0:
        assert record["git"]["commit"] == head.stdout.strip()


def test_the_commit_is_that_of_the_repository_that_tracks_the_package(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    package = tmp_path / ".venv" / "site-packages" / "lle_jax"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (tmp_path / ".gitignore").write_text(".venv\n")
    git("init", "-q")
    git("add", ".gitignore")
    git("commit", "-q", "-m", "somebody's project")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))  # as in a hook of that project
    checkout = rundir.environment("abc")["git"]
    assert checkout is None or checkout["commit"] != git("rev-parse", "HEAD")

    monkeypatch.setattr(rundir.lle_jax, "__file__", str(package / "__init__.py"))
    assert rundir.environment("abc")["git"] is None

    git("add", "--force", ".venv")
    git("commit", "-q", "-m", "a copy of the package")
    assert rundir.environment("abc")["git"] == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (package / "__init__.py").write_text("changed = True")
    assert rundir.environment("abc")["git"]["dirty"]


def test_tables_are_quoted_as_csv(tmp_path):
    files.write_csv(tmp_path / "t.csv", ("name", "value"), [("a,b", 0.1), ('say "x"', 2)])
    with (tmp_path / "t.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["name", "value"], ["a,b", "0.1"], ['say "x"', "2"]]


def test_data_that_changed_are_refused_with_what_changed(tmp_path):
    before = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}
    (tmp_path / "data.json").write_text(json.dumps(before))
    rundir.check(tmp_path, config(), before)
    now = {"train": ["e", "f", "b"], "validation": ["c"], "test": ["a"]}
    with pytest.raises(rundir.RunError) as caught:
        rundir.check(tmp_path, config(), now)
    assert "2 added; 1 gone; 1 moved from train to test" in str(caught.value)


def test_another_order_of_the_data_or_another_preset_is_refused(tmp_path):
    roles = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}
    before = roles | {"order": "1", "presets": {"lowlight": "2", "my.toml": "3"}}
    (tmp_path / "data.json").write_text(json.dumps(before))
    for same in (before, roles):
        rundir.check(tmp_path, config(), same)
    with pytest.raises(rundir.RunError, match="not those of this run: their order, modalities or"):
        rundir.check(tmp_path, config(), before | {"order": "2"})
    with pytest.raises(
        rundir.RunError, match=r"preset my\.toml is not as it was in this run; restore it, or"
    ):
        rundir.check(tmp_path, config(), before | {"presets": {"lowlight": "2", "my.toml": "4"}})
    (tmp_path / "data.json").write_text(json.dumps(roles))  # of an earlier version
    rundir.check(tmp_path, config(), before)


def test_a_key_of_an_earlier_version_is_named_by_what_it_is_called_now(tmp_path):
    (tmp_path / "config.json").write_text('{"seed": 0, "optim": {"rate": 0.1}}')
    with pytest.raises(rundir.RunError, match=r"optim\.rate is now called optim\.lr"):
        rundir.check(tmp_path, config(), renamed={"optim.rate": "optim.lr"})


def test_a_lock_is_held_by_one_process_and_dies_with_it(tmp_path):
    code = (
        "import pathlib, sys, time\nfrom lle_jax import rundir\n"
        "with rundir.lock(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n    time.sleep(600)"
    )
    workdir = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(workdir)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert process.stdout.readline() == "held\n"
        refused = pytest.raises(rundir.RunError, match="run: another process is at work")
        with refused, rundir.lock(workdir):
            pass
    finally:
        process.kill()
        process.wait()
    with rundir.lock(workdir), pytest.raises(rundir.RunError), rundir.lock(workdir):
        pass
    assert list(workdir.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b'[{"started": ', b"\xff\x00", b"3"])
def test_a_damaged_record_of_starts_is_set_aside_in_one_line(content, tmp_path, capsys):
    path = tmp_path / "environment.json"
    path.write_bytes(content)
    rundir.open_for(tmp_path, config(), {"started": "now"})
    assert json.loads(path.read_text()) == [{"started": "now"}]
    assert (tmp_path / "environment.json.damaged").read_bytes() == content
    assert capsys.readouterr().err.splitlines() == [
        f"{path}: damaged, so it is renamed to environment.json.damaged and begun anew"
    ]
