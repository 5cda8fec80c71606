import json
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
import skimage.io

import lle_jax
from lle_jax import cli, jobs


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "face.png"
    skimage.io.imsave(path, skimage.data.astronaut()[:16, 180:196], check_contrast=False)
    (tmp_path / "p.toml").write_text("[exposure]\ngain = 0.25\n")
    return path


def degrade(image, *options):
    return cli.main(["degrade", str(image), "--preset", str(image.parent / "p.toml"), *options])


def test_degrade_writes_and_says_it_went_well(image, tmp_path):
    assert degrade(image, "--seed", "7", "-o", str(tmp_path / "out")) == 0
    low = skimage.io.imread(tmp_path / "out" / "face.png")
    assert low.mean() < 0.7 * skimage.io.imread(image).mean()


def test_degrade_names_failed_files_and_exits_1(image, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "in").mkdir()
    for name in ("broken.png", "face.png"):
        (tmp_path / name).rename(tmp_path / "in" / name)
    status = degrade(tmp_path / "in", "-o", str(tmp_path / "out"))
    assert status == 1
    printed = capsys.readouterr()
    assert "1 of 2 files failed" in printed.err
    assert printed.out == "1 degraded, 1 failed\n"
    assert (tmp_path / "out" / "face.png").exists()


def test_degrade_names_pictures_of_other_formats_and_says_what_was_finished(
    image, tmp_path, capsys
):
    (tmp_path / "in").mkdir()
    image.rename(tmp_path / "in" / "face.png")
    (tmp_path / "in" / "x.psd").write_bytes(b"anything")
    options = ["--preset", str(tmp_path / "p.toml"), "-o", str(tmp_path / "out")]
    skipped = f"1 skipped: psd ({tmp_path / 'in' / 'x.psd'})\n"
    for summary in ("1 degraded\n", "0 degraded, 1 skipped (finished before)\n"):
        assert cli.main(["degrade", str(tmp_path / "in"), *options]) == 0
        assert capsys.readouterr().out == summary + skipped


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "endoscpy", "-o", "out"], "did you mean 'endoscopy'"),
        (["--preset", "fundus"], "nothing to write"),
        (["--preset", "fundus", "-o", "out", "--severity", "2"], "severity is 2"),
        (["-o", "out"], "--preset"),
        (["--preset", "fundus", "-o", "out", "--seed", "x"], "--seed"),
        (["--preset", "fundus", "--contact-sheet", "sheet.jpg"], ".png"),
        (["--preset", "fundus", "-o", "face.png"], "face.png"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(image, options, message, capsys, monkeypatch):
    monkeypatch.chdir(image.parent)
    try:
        status = cli.main(["degrade", "face.png", *options])
    except SystemExit as stopped:  # argparse
        status = stopped.code
    printed = capsys.readouterr().err
    assert status == 2
    assert message in printed
    assert printed.count("\n") == 1
    assert "Traceback" not in printed


def test_an_error_of_the_system_names_the_folder_that_is_missing(image, tmp_path, capsys):
    missing = tmp_path / "no"
    sheet = missing / "sheet.png"
    (tmp_path / "p.toml").write_text("[exposure]\ngain = 0.25\n")
    assert degrade(image, "--contact-sheet", str(sheet)) == 2
    error = capsys.readouterr().err
    assert error == f"lle degrade: {missing}: no such file or directory; check the path\n"


def test_a_prior_that_is_none_is_named_with_those_there_are(image, tmp_path, capsys):
    folder = str(image.parent)
    command = ["fit", folder, "--clean", folder, "-o", str(tmp_path / "a.toml"), "--prior"]
    for name, message in (
        ("nothing", "expected one of clinic, prior, sensor"),
        ("clnic", "'clinic'"),
    ):
        assert cli.main([*command, name]) == 2
        assert message in capsys.readouterr().err


def test_a_contact_sheet_replaces_no_input(image, tmp_path, capsys):
    other = image.parent / "other.png"
    other.write_bytes(image.read_bytes())
    before = other.read_bytes()
    command = ["degrade", str(image.parent), "--preset", "fundus", "--contact-sheet", str(other)]
    assert cli.main(command) == 2
    assert f"{other}: this is the input file" in capsys.readouterr().err
    assert other.read_bytes() == before


def test_contact_sheet_shows_each_artifact_at_rising_severity(image, tmp_path):
    sheet = tmp_path / "sheet.png"
    (tmp_path / "p.toml").write_text("[exposure]\ngain = 0.25\n[jpeg]\nquality = 5\n")
    assert degrade(image, "--contact-sheet", str(sheet)) == 0
    picture = skimage.io.imread(sheet)[..., :3]
    face = skimage.io.imread(image)
    # under the 22 pixels of column titles: 3 rows of 5 images, 16 pixels high and 4 apart
    columns = [picture[22:38, 22 + 20 * i : 38 + 20 * i] for i in range(5)]
    np.testing.assert_array_equal(columns[0], face)
    means = [column.mean() for column in columns]
    assert (np.diff(means) < 0).all()
    assert picture.shape[0] == 22 + 3 * 20 + 4


@pytest.fixture
def dark(tmp_path):
    """A folder with a dark image, in which nothing is pepper, and one that is cut short."""
    (tmp_path / "dark").mkdir()
    levels = skimage.data.astronaut()[:64, 180:244] // 25
    skimage.io.imsave(tmp_path / "dark" / "face.png", levels, check_contrast=False)
    data = (tmp_path / "dark" / "face.png").read_bytes()
    (tmp_path / "dark" / "broken.png").write_bytes(data[:100])
    return tmp_path / "dark"


def test_a_contact_sheet_that_would_replace_a_copy_is_refused(image, tmp_path, capsys):
    out = tmp_path / "out"
    sheet = out / ".." / "out" / image.name
    assert degrade(image, "-o", str(out), "--contact-sheet", str(sheet)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"lle degrade: {sheet}: a low-light copy is written there")
    assert not out.exists()


def test_quantify_prints_writes_and_names_what_it_cannot_read(dark, tmp_path, capsys):
    status = cli.main(["quantify", str(dark), "-o", str(tmp_path / "report"), "--study"])
    printed = capsys.readouterr()
    assert status == 1
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "measures.csv", "measures.jsonl", "unreadable.csv", "index.html", ".lle-quantify.jsonl",
    }  # fmt: skip
    assert "broken.png: the file is cut short" in printed.err
    assert "1 of 2 files failed" in printed.err
    assert "strong" in next(s for s in printed.out.splitlines() if "face.png" in s)
    assert "cannot be trusted on low light" in printed.out
    assert "brighten (strong low light)" in printed.out
    impulses = next(s for s in printed.out.splitlines() if s.startswith("impulses"))
    assert impulses.split()[1:3] == ["0", "1"]


def test_quantify_without_output_only_prints(dark, tmp_path, capsys):
    (dark / "broken.png").unlink()
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["quantify", str(dark)]) == 0
    assert sorted(tmp_path.rglob("*")) == before
    out = capsys.readouterr().out
    assert "noise_sigma" in out
    assert "salt_and_pepper_ratio" not in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nothing"], "no such file"),
        (["dark/face.png", "-o", "dark/face.png"], "dark/face.png"),
        ([], "PATH"),
        (["dark", "-o", "mine"], "would be replaced"),
    ],
)
def test_quantify_that_cannot_start_is_one_line_and_exits_2(
    dark, options, message, capsys, monkeypatch
):
    monkeypatch.chdir(dark.parent)
    (dark.parent / "mine").mkdir()
    (dark.parent / "mine" / "index.html").write_text("")
    try:
        status = cli.main(["quantify", *options])
    except SystemExit as stopped:  # argparse
        status = stopped.code
    printed = capsys.readouterr().err
    assert status == 2
    assert message in printed
    assert printed.count("\n") == 1
    assert "Traceback" not in printed


def test_quantify_of_nothing_readable_says_so(dark, capsys):
    assert cli.main(["quantify", str(dark / "broken.png")]) == 1
    printed = capsys.readouterr()
    assert "1 of 1 files failed" in printed.err
    assert printed.out == "0 measured, 1 failed\n"


def test_json_is_all_of_standard_output(dark, tmp_path, capsys):
    out = tmp_path / "report"
    assert cli.main(["quantify", str(dark), "-o", str(out), "--json"]) == 1
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["status"] == 1
    assert document["done"] == [{"input": str(dark / "face.png")}]
    (failed,) = document["failed"]
    assert failed["input"] == str(dark / "broken.png")
    assert "the file is cut short" in failed["reason"]
    assert document["measures"][0]["noise_sigma"] >= 0
    assert str(out / "measures.csv") in document["written"]
    assert "recommended for the median image" in printed.err
    assert "1 measured, 1 failed" in printed.err


def test_json_of_degrade_has_inputs_and_outputs_and_of_an_error_the_reason(image, tmp_path, capsys):
    assert degrade(image, "-o", str(tmp_path / "out"), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    pair = {"input": str(image), "output": str(tmp_path / "out" / "face.png")}
    assert document == {
        "status": 0, "done": [pair], "unchanged": [], "skipped": [], "failed": [],
        "skipped_pictures": [],
    }  # fmt: skip
    assert degrade(image, "-o", str(tmp_path / "out"), "--json", "--severity", "2") == 2
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["status"] == 2
    assert printed.err == f"lle degrade: {document['error']}\n"


def test_quiet_prints_results_and_errors_only(dark, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jobs, "_BETWEEN_LINES", 1e-6)
    assert cli.main(["quantify", str(dark), "-o", str(tmp_path / "report"), "-q"]) == 1
    printed = capsys.readouterr()
    assert "noise_sigma" in printed.out
    assert "report" not in printed.out
    assert "measured" not in printed.out
    assert all(line.startswith("lle quantify: ") for line in printed.err.splitlines())
    assert cli.main(["quantify", str(dark), "-o", str(tmp_path / "report")]) == 1
    assert "progress: 2/2 files" in capsys.readouterr().err


def test_verbose_says_where_it_failed(dark, capsys):
    broken = str(dark / "broken.png")
    for options in ([], ["-v"]):
        assert cli.main(["quantify", broken, *options]) == 1
        assert ("Traceback" in capsys.readouterr().err) == bool(options)
        assert cli.main(["degrade", broken, "--preset", "fundus", *options]) == 2
        assert ("Traceback" in capsys.readouterr().err) == bool(options)


def test_every_command_takes_quiet_and_verbose_and_not_both(capsys):
    for command in cli.MODULES:
        name = command.__name__.rpartition(".")[2].replace("_", "-")
        with pytest.raises(SystemExit):
            cli.main([name, "-q", "-v"])
        assert "-v/--verbose: not allowed with argument -q/--quiet" in capsys.readouterr().err


def test_help_does_not_import_jax():
    code = "import sys; from lle_jax import cli; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_wrong_path_is_refused_before_heavy_imports(capsys):
    code = (
        "import sys; from lle_jax import cli; status = cli.main(sys.argv[1:]); "
        "heavy = sorted({'jax', 'cv2', 'matplotlib', 'orbax', 'shtab'} & sys.modules.keys()); "
        "print(status, heavy)"
    )
    for command in ("enhance", "quantify", "degrade --preset fundus"):
        run = [sys.executable, "-c", code, *command.split(), "wrong/path", "-o", "out"]
        result = subprocess.run(run, capture_output=True, text=True)
        assert result.stdout == "2 []\n"
        assert result.stderr == (
            f"lle {command.split()[0]}: wrong/path: no such file or folder; check the path\n"
        )


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_commands_options_and_files(shell, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--print-completion", shell])
    assert stop.value.code == 0
    script = capsys.readouterr().out
    for word in ("import-weights", "quantify", "consistent"):
        assert word in script
    if shell == "bash":
        # what bash itself offers after "lle enhance a"
        (tmp_path / "a.png").touch()
        asked = "COMP_WORDS=(lle enhance a); COMP_CWORD=2; _shtab_lle; echo ${COMPREPLY[@]}"
        run = ["bash", "-c", f"{script}\n{asked}"]
        reply = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path)
        assert reply.stdout.split() == ["a.png"]


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"lle_jax {lle_jax.__version__}\n"


def test_lle_train_trains_an_experiment_by_name(capsys):
    assert cli.main(["train", "nothing"]) == 2
    assert "no such experiment; expected a Python file or one of cidnet" in capsys.readouterr().err
    assert cli.main(["train", "-v", "nothing"]) == 2
    assert "Traceback" in capsys.readouterr().err
    run = [sys.executable, "-m", "lle_jax", "train", "nafnet", "--config.optim.lr=-1"]
    result = subprocess.run(run, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == "error: optim.lr is -1.0; expected a number >= 0\n"
