import io
import json
import math
import re
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from lle_jax import files, jobs


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_record_is_on_disk_at_once_under_a_header_with_the_settings(path):
    journal = jobs.Journal(path, {"strength": 0.5})
    assert not path.exists()
    journal.record("a", jobs.DONE, psnr=30.0, worst=math.nan, values=[np.float32(1), math.nan])
    header, record = lines(path)
    assert header["values"] == {"strength": 0.5}
    assert record["settings"] == header["header"]
    assert isinstance(record.pop("crc32"), int)
    again = jobs.Journal(path, {"strength": 0.5})
    for one in (journal, again):
        assert one.done("a") == record
        assert one.done("b") is None
    assert (record["psnr"], record["worst"], record["values"]) == (30.0, None, [1.0, None])
    again.record("b", jobs.DONE)
    assert [line.get("key") for line in lines(path)] == [None, "a", "b"]


def test_the_last_record_of_a_key_counts(path):
    journal = jobs.Journal(path, {})
    journal.record("a", jobs.DONE, value=1)
    journal.record("a", jobs.DONE, value=2)
    journal.record("b", jobs.DONE)
    journal.record("b", jobs.FAILED, reason="x")
    journal.record("c", jobs.SKIPPED)
    for one in (journal, jobs.Journal(path, {})):
        assert one.done("a")["value"] == 2
        assert one.done("b") is None
        assert one.done("c") is None


def test_other_settings_are_not_done_and_come_back_where_nothing_replaced_them(path):
    first = jobs.Journal(path, {"seed": 1})
    first.record("a", jobs.DONE)
    first.record("b", jobs.DONE)
    second = jobs.Journal(path, {"seed": 2})
    assert second.done("a") is None
    second.record("a", jobs.DONE)
    third = jobs.Journal(path, {"seed": 1})
    assert third.done("a") is None
    assert third.done("b") is not None
    third.record("c", jobs.DONE)
    assert sum("header" in line for line in lines(path)) == 2


def test_a_line_that_was_cut_off_is_ended_and_the_rest_counts(path):
    journal = jobs.Journal(path, {})
    for key in "abc":
        journal.record(key, jobs.DONE)
    path.write_bytes(path.read_bytes()[:-9])
    journal = jobs.Journal(path, {})
    assert [journal.done(key) is not None for key in "abc"] == [True, True, False]
    journal.record("d", jobs.DONE)
    journal = jobs.Journal(path, {})
    assert [journal.done(key) is not None for key in "abcd"] == [True, True, False, True]


def test_a_value_that_changed_on_the_disk_is_not_done(path):
    jobs.Journal(path, {}).record("a", jobs.DONE, value=30.25)
    text = path.read_text()
    assert text.count("30.25") == 1
    path.write_text(text.replace("30.25", "30.35"))
    assert jobs.Journal(path, {}).done("a") is None
    (earlier,) = (line for line in lines(path) if "key" in line)
    del earlier["crc32"]  # as earlier versions wrote it
    path.write_text(json.dumps(earlier))
    assert jobs.Journal(path, {}).done("a")["value"] == 30.35


@pytest.mark.parametrize("line", [b"null", b"[]", b"{}", b'{"key": 1, "status": "done"}', b"\xff"])
def test_damaged_lines_are_skipped(path, line):
    path.write_bytes(line + b"\n")
    jobs.Journal(path, {}).record("a", jobs.DONE)
    assert jobs.Journal(path, {}).done("a") is not None


def test_without_a_path_nothing_is_written(tmp_path):
    journal = jobs.Journal(None, {})
    journal.record("a", jobs.DONE)
    assert journal.done("a") is not None
    assert not list(tmp_path.iterdir())


def work(item):
    if item == "value":
        raise ValueError("value: not good")
    if item == "full":
        raise OSError(28, "No space left on device")
    if item == "large":
        raise MemoryError
    return {"unchanged": item == "same"}


@pytest.mark.parametrize("threads", [1, 3])
def test_a_run_sorts_items_by_what_became_of_them_and_resumes(path, threads):
    items = ["a", "value", "same", "full", "large", "b"]
    options = {"progress": False, "threads": threads}
    outcome = jobs.run(items, work, jobs.Journal(path, {}), **options)
    assert (outcome.done, outcome.unchanged, outcome.skipped) == (["a", "b"], ["same"], [])
    assert outcome.failed == [
        ("value", "value: not good"),
        ("full", "full: No space left on device; check the output folder"),
        ("large", "large: not enough memory for this image"),
    ]
    assert outcome.summary("made") == "2 made, 1 unchanged, 3 failed"
    again = jobs.run([*items, "c"], work, jobs.Journal(path, {}), **options)
    assert (again.done, again.skipped) == (["c"], ["a", "same", "b"])
    assert len(again.failed) == 3
    assert again.summary("made") == "1 made, 3 skipped (finished before), 3 failed"


def test_a_defect_ends_the_run(path):
    def defect(item):
        raise KeyError(item)

    for threads in (1, 2):
        with pytest.raises(KeyError):
            jobs.run("ab", defect, jobs.Journal(path, {}), progress=False, threads=threads)


def test_threads_are_told_to_stop_when_a_run_ends_early():
    stop = threading.Event()
    begun = []

    def wait(item):
        begun.append(item)
        if item == 0:
            raise KeyboardInterrupt
        assert stop.wait(20)
        return {}

    with pytest.raises(KeyboardInterrupt):
        jobs.run(range(50), wait, progress=False, threads=2, stop=stop)
    assert len(begun) < 50


def test_the_exit_status_and_the_lines_of_a_report(capsys):
    outcome = jobs.Outcome(["a"], [("b", "b: bad")], [], ["c"])
    assert jobs.report("enhance", outcome, "enhanced", skipped="1 skipped: gif (x.gif)") == 1
    printed = capsys.readouterr()
    assert (
        printed.out == "unchanged: c\n1 enhanced, 1 unchanged, 1 failed\n1 skipped: gif (x.gif)\n"
    )
    assert printed.err == "lle enhance: b: bad\nlle enhance: 1 of 3 files failed\n"
    assert jobs.report("enhance", outcome._replace(failed=[]), "enhanced") == 0


def test_progress_outside_a_terminal_is_a_few_whole_lines(monkeypatch):
    sink = io.StringIO()
    monkeypatch.setattr(sys, "stderr", sink)
    list(jobs.track(range(3)))  # shorter than the time before the first line
    list(jobs.track(range(3), show=False))
    assert sink.getvalue() == ""
    monkeypatch.setattr(jobs, "_BETWEEN_LINES", 0.05)
    for _ in jobs.track(range(40), unit="image", description="degrade"):
        time.sleep(0.01)
    first, *lines = sink.getvalue().splitlines()
    assert re.fullmatch(r"degrade: \d+/40 images, 00:00 elapsed, 00:00 to go", first)
    assert 1 <= len(lines) < 15
    assert "\r" not in sink.getvalue()


def test_progress_in_a_terminal_is_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    sink = Terminal()
    monkeypatch.setattr(sys, "stderr", sink)
    assert list(jobs.track(range(3), unit="image")) == [0, 1, 2]
    assert "\r" in sink.getvalue()


def test_what_a_dead_writer_left_is_removed_and_a_live_ones_is_not(tmp_path):
    code = "import os, sys; from pathlib import Path; from lle_jax import files\n"
    code += "os.fsync = lambda _: os._exit(9)\n"  # killed before the file is renamed
    code += "files.write_bytes(Path(sys.argv[1]) / 'a.png', b'half')"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    (left,) = tmp_path.iterdir()
    assert left.suffix == ".part"
    kept = []

    def writing(_):
        kept.extend(path for path in tmp_path.iterdir() if path != left)
        assert files.remove_abandoned(tmp_path) == 1
        raise OSError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.replace", lambda *_: writing(_))
        with pytest.raises(OSError):
            files.write_bytes(tmp_path / "b.png", b"whole")
    assert len(kept) == 1
    assert not list(tmp_path.iterdir())
    for name in (".0123.part", ".ffffffff-1-0123456789abcdef.part", "x.part"):
        (tmp_path / name).write_text("")  # of others: an unknown name, another machine, a user
    assert files.remove_abandoned(tmp_path) == 0
    assert files.remove_abandoned(tmp_path / "nowhere") == 0
