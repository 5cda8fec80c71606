"""Attacks small runs of the main job and checks that each ends as one that nothing disturbed.

    python tools/fault_campaign.py --minutes 20

Runs are killed at random moments, told to stop in each phase, left without room on the disk; their
checkpoints and records are damaged. After each fault the same command resumes the run. Wanted: no
step is lost that was saved, no traceback, and in the end the bits of an undisturbed run: state,
position in the data, scalars, pictures, tables of the evaluation. Prints a line for each fault
that is answered wrongly and a table, and exits with 1 if there is one. The seed is fixed, so that
the faults are the same each time; the moment a signal comes depends on the machine.
"""

import argparse
import collections
import contextlib
import csv
import functools
import gc
import hashlib
import itertools
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import skimage.data
from absl import logging

from lle_jax import images, interrupt, main
from lle_jax.checkpoints.run import Checkpoints
from lle_jax.models.params import named
from lle_jax.phase_timer import PhaseTimer
from lle_jax.training import train
from lle_jax.training.state import TrainState

ROOT = Path(__file__).resolve().parents[1]
STEPS, SAVE_EVERY = 24, 4
ARGUMENTS = [
    f"--config={ROOT / 'experiments' / 'unet.py'}",
    "--config.model.widths=(4, 6)",
    "--config.data.crop=16",
    "--config.data.batch_size=2",
    "--config.optim.warmup_steps=2",
    f"--config.train.steps={STEPS}",
    "--config.train.log_every=1",
    "--config.train.validate_every=8",
    f"--config.train.checkpoint_every={SAVE_EVERY}",
    "--config.evaluation.realisations=2",
    "--config.evaluation.baselines=False",
]
PHASES = ("set-up", "compile", "train", "save", "validate", "evaluate")
LONGEST = 120.0  # seconds of a run; after that it hangs
MEGABYTES = 24  # of the disk that is filled: a run needs a few
DAMAGES = ("truncate", "delete", "empty", "flip")
TRAINING_RECORDS = ("config.json", "environment.json", "data.json", "scalars.csv", "events*")
EVALUATION_RECORDS = (
    "scalars.csv", "evaluation/journal.jsonl", "evaluation/per_image.csv",
    "evaluation/summary.csv", "evaluation/suite.json", "evaluation/index.html",
)  # fmt: skip


class Fault(NamedTuple):
    """A fault and how it was answered: what was wrong, "" where nothing was.

    Attributes:
      kind: the row of the table.
      what: describes it.
      lost: saved steps that are gone.
      result: what differs from the undisturbed run.
      traceback: a line of more than the one that is wanted.
    """

    kind: str
    what: str
    lost: str = ""
    result: str = ""
    traceback: str = ""


class Ended(NamedTuple):
    """The end of a run: exit status (negative: by that signal), its output, its result."""

    status: int
    stdout: str
    stderr: str
    result: dict[str, str]


class Run:
    """The main job in a fork of this process, which has imported it and started no device.

    Args:
      workdir: the run directory.
      arguments: of the main job.
      scratch: a folder for what it prints.
    """

    def __init__(self, workdir: Path, arguments: list[str], scratch: Path):
        self._scratch, self.marks = scratch, list[tuple[str, float]]()
        self._limit = time.monotonic() + LONGEST
        for name in ("stdout", "stderr", "result"):
            (scratch / name).write_text("")
        self._pipe, pipe = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            _run(workdir, arguments, scratch, pipe)
        os.close(pipe)

    def is_going(self) -> bool:
        """Tells whether it has not ended; it is waited for in `end` alone."""
        return os.waitid(os.P_PID, self.process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def reach(self, phase: str, occurrence: int = 1) -> bool:
        """Waits until a phase begins for the nth time; False if the run ends before."""
        while sum(name == phase for name, _ in self.marks) < occurrence:
            if not self._read():
                return False
        return True

    def end(self) -> Ended:
        """Waits for the end."""
        while self._read():
            pass
        os.close(self._pipe)
        status = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        texts = [(self._scratch / name).read_text() for name in ("stdout", "stderr", "result")]
        return Ended(status, texts[0], texts[1], json.loads(texts[2] or "{}"))

    def _read(self) -> bool:
        if not select.select([self._pipe], [], [], max(0.0, self._limit - time.monotonic()))[0]:
            os.kill(self.process, signal.SIGKILL)
        lines = os.read(self._pipe, 65536).decode().splitlines()
        for name, moment in (line.split() for line in lines):
            self.marks.append((name, float(moment)))
        return bool(lines)


def _run(workdir: Path, arguments: list[str], scratch: Path, pipe: int) -> None:
    """Is the child: runs the job, announces each phase in the pipe, leaves its result."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(scratch / name, os.O_WRONLY), number)

    def mark(name: str) -> None:
        os.write(pipe, f"{name} {time.monotonic()}\n".encode())

    enter = PhaseTimer.__call__
    PhaseTimer.__call__ = lambda self, phase: (mark(phase), enter(self, phase))[1]
    try:
        status = main.main([*arguments, f"--workdir={workdir}"])
        mark("end")
        if status == 0:
            (scratch / "result").write_text(json.dumps(result(workdir)))
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def result(workdir: Path) -> dict[str, str]:
    """Computes what must equal an undisturbed run's: a digest by name."""
    checkpoints = workdir / "checkpoints"
    with Checkpoints(checkpoints, read_only=True) as reader:
        step, state = reader.read()
    digests = {name: _digest(np.asarray(leaf).tobytes()) for name, leaf in named(state)}
    digests["position"] = (checkpoints / str(step) / "data" / "metadata").read_text()
    with (workdir / "scalars.csv").open(newline="") as file:
        rows = [[v for k, v in r.items() if k != "images_per_second"] for r in csv.DictReader(file)]
    digests["scalars"] = json.dumps(rows)
    listed = [workdir / "config.json", workdir / "data.json"]
    for pattern in ("pictures/*.png", "evaluation/*.csv", "evaluation/panels/*.png"):
        listed += sorted(workdir.glob(pattern))
    return digests | {str(p.relative_to(workdir)): _digest(p.read_bytes()) for p in listed}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def saved(workdir: Path) -> int:
    """Returns the newest checkpoint's step, 0 before the first."""
    names = [path.name for path in (workdir / "checkpoints").glob("*")]
    return max((int(name) for name in names if name.isdigit()), default=0)


def make_images(folder: Path) -> None:
    """Writes ten small images by role."""
    photographs = (skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea())
    for number, role in enumerate(("train",) * 5 + ("validation",) * 2 + ("test",) * 3):
        (folder / role).mkdir(parents=True, exist_ok=True)
        top = 20 * number
        crop = photographs[number % 3][top : top + 32, 100:132].astype(np.float32) / 255
        images.write(folder / role / f"{number}.png", crop)


class Campaign:
    """Runs, their faults, and the undisturbed run that they are compared with.

    Args:
      folder: for all that is written; holds the undisturbed run, or gets it.
      arguments: of the main job, but for --workdir.
      seconds: after which no new fault is tried.
    """

    def __init__(self, folder: Path, arguments: list[str], seconds: float):
        self.folder, self.arguments, self.faults = folder, arguments, list[Fault]()
        self.random = random.Random(0)
        self._deadline = time.monotonic() + seconds
        self.undisturbed = folder / "undisturbed"
        if not self.undisturbed.exists():
            self.start(self.undisturbed).end()  # compiles, which the next need not
            shutil.rmtree(self.undisturbed)
        run = self.start(self.undisturbed)
        ended = run.end()
        assert ended.status == 0, ended.stderr
        self.expected = ended.result
        spans = collections.defaultdict(lambda: [0.02])
        for (name, begin), (_, end) in itertools.pairwise(run.marks):
            spans[name].append(end - begin)
        self.lengths = {name: max(spans[name]) for name in PHASES}  # seconds to the next mark

    def start(self, workdir: Path) -> Run:
        """Starts a run."""
        return Run(workdir, self.arguments, self.folder)

    def each(self, kind: str, number: int) -> Iterator[int]:
        """Counts faults, with a line of progress now and then, until there is no more time."""
        for index in range(number):
            if time.monotonic() > self._deadline:
                print(f"{kind}: no more time after {index} of {number}", file=sys.stderr)
                return
            if index % 10 == 0:
                left = self._deadline - time.monotonic()
                print(f"{kind}: {index} of {number}, {left / 60:.1f} minutes left", file=sys.stderr)
            yield index

    def add(self, *faults: Fault) -> None:
        """Takes faults down, and names those that were answered wrongly."""
        for fault in faults:
            self.faults.append(fault)
            if wrong := "; ".join(filter(None, fault[2:])):
                print(f"WRONG: {fault.kind}: {fault.what}: {wrong}", file=sys.stderr)

    def compare(self, ended: Ended) -> str:
        """Says how a finished run differs from the undisturbed one; "" where it does not."""
        if ended.status != 0:
            return f"exit status {ended.status}: {ended.stderr[-120:]!r}"
        names = sorted(self.expected.keys() | ended.result.keys())
        wrong = [n for n in names if self.expected.get(n) != ended.result.get(n)]
        return f"{len(wrong)} differ: {', '.join(wrong[:5])}" if wrong else ""

    def along(
        self,
        kind: str,
        number: int,
        strike: Callable[[Path, int], tuple[str, Ended, str]],
        workdir: Path,
    ) -> None:
        """Attacks a run until it is finished in spite of all, and then the next one.

        Args:
          kind: the row of the table.
          number: of faults.
          strike: starts or resumes the run, does the fault of this number and returns what it was,
            the end of the run, and what was wrong with that.
          workdir: the run directory.
        """
        pending: list[Fault] = []
        index = 0
        for index in self.each(kind, number):
            while True:
                before = saved(workdir)
                what, ended, wrong = strike(workdir, index)
                if ended.status != 0:
                    break
                self._close(pending, ended, workdir)  # it was finished before the fault
            lost = _lost(before, workdir, ended)
            wrong = ended.stderr[-300:] if "Traceback" in ended.stderr else wrong
            pending.append(Fault(kind, f"{what} (from step {before})", lost, "", wrong))
        self._close(pending, self.start(workdir).end(), workdir)

    def _close(self, pending: list[Fault], ended: Ended, workdir: Path) -> None:
        different = self.compare(ended)
        self.add(*(fault._replace(result=different) for fault in pending))
        pending.clear()
        shutil.rmtree(workdir)

    def kill(self, workdir: Path, _: int) -> tuple[str, Ended, str]:
        """Kills a run in a random phase that it will reach, most often where it writes."""
        phases = ["set-up", *["evaluate"] * 2]
        if (left := STEPS - saved(workdir)) > 0:
            phases = ["set-up", "compile", *["train", "save"] * 3, "validate", "evaluate"]
        phase = self.random.choice(phases)
        many = {"train": 2 * left, "save": left // SAVE_EVERY}
        run = self.start(workdir)
        what = self.send(run, signal.SIGKILL, phase, self.random.randint(1, many.get(phase, 1)))
        ended = run.end()
        return what, ended, "" if ended.status == -signal.SIGKILL else f"status {ended.status}"

    def stop(self, number: signal.Signals, workdir: Path, index: int) -> tuple[str, Ended, str]:
        """Tells a run to stop, in each phase in the order in which it gets there."""
        phase = PHASES[index % len(PHASES)]
        run = self.start(workdir)
        what = self.send(run, number, phase, {"train": 3}.get(phase, 1))
        ended = run.end()
        line = f"{number.name}: the same command resumes from the last checkpoint\n"
        right = ended.status == interrupt.STATUS[number] and ended.stderr == line
        return what, ended, "" if right else f"status {ended.status}: {ended.stderr!r}"

    def send(self, run: Run, number: signal.Signals, phase: str, occurrence: int) -> str:
        """Sends a signal at a random moment after a phase's nth beginning."""
        delay = self.random.uniform(0, self.lengths[phase])
        if run.reach(phase, occurrence):
            time.sleep(delay)
            if run.is_going():
                os.kill(run.process, number)
        return f"{number.name} {1000 * delay:.0f} ms after the start of {phase} {occurrence}"

    def fill(self, workdir: Path, index: int) -> tuple[str, Ended, str]:
        """Fills the disk of a run before it starts, or, every second time, at a phase of it."""
        room = self.random.choice((0, 2**12, 2**14, 2**17, 2**19, 2**20))
        filler, phase = workdir.parent / "filler", PHASES[index // 2 % len(PHASES)]
        run = None
        if index % 2:
            run = self.start(workdir)
            run.reach(phase)
        with contextlib.suppress(OSError):  # the run writes too
            filler.write_bytes(bytes(max(0, shutil.disk_usage(workdir.parent).free - room)))
        ended = (run or self.start(workdir)).end()
        filler.unlink()
        what = f"{room} bytes of room from {phase if index % 2 else 'the start'} on"
        right = ended.status == 74 and ended.stderr.count("\n") == 1
        return what, ended, "" if right else f"status {ended.status}: {ended.stderr!r}"

    def fill_disk(self, number: int) -> None:
        """Attacks runs on a small disk of their own with `fill`."""
        disk = self.folder / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            print("disk full: skipped, because a tmpfs cannot be mounted", file=sys.stderr)
            return
        try:
            self.along("disk full", number, self.fill, disk / "run")
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=False)

    def damage_records(self) -> None:
        """Damages each record of a run that was stopped in the middle, and of a finished one."""
        half = self.folder / "half"
        run = self.start(half)
        run.reach("train", STEPS // 2)
        os.kill(run.process, signal.SIGTERM)
        run.end()
        cases = [
            (whole, pattern, how)
            for whole, patterns in (
                (half, TRAINING_RECORDS),
                (self.undisturbed, EVALUATION_RECORDS),
            )
            for pattern in patterns
            for how in ("truncate", "delete", "empty", "garbage")
        ]
        cases += 10 * [(self.undisturbed, "evaluation/journal.jsonl", "flip")]
        for index in self.each("records", len(cases)):
            whole, pattern, how = cases[index]
            workdir = self.folder / "records"
            shutil.copytree(whole, workdir)
            self.add(self.damage_record(workdir, pattern, how))
            shutil.rmtree(workdir)

    def damage_record(self, workdir: Path, pattern: str, how: str) -> Fault:
        """Damages a record; the run repairs it, or refuses it in one line until it is back."""
        path = next(workdir.glob(pattern))
        before, content = saved(workdir), path.read_bytes()
        damage(path, how, self.random)
        ended = self.start(workdir).end()
        lost = _lost(before, workdir, ended)
        wrong = "" if ended.stderr.count("\n") <= 1 else ended.stderr[-300:]
        if ended.status == 2 and not wrong:
            path.write_bytes(content)
            ended = self.start(workdir).end()
        if pattern == "scalars.csv" and ended.status == 0:  # rows that are gone do not come back
            rows, expected = (json.loads(r["scalars"]) for r in (ended.result, self.expected))
            if all(row in expected for row in rows):
                ended.result["scalars"] = self.expected["scalars"]
        what = f"{how} {pattern} at step {before}"
        return Fault("damaged record", what, lost, self.compare(ended), wrong)

    def damage_checkpoints(self, number: int) -> None:
        """Damages checkpoints of the undisturbed run, in a fork, which starts a device."""
        read, write = os.pipe()
        if (process := os.fork()) == 0:
            try:
                sys.argv = ["main", *self.arguments]  # where config_flags looks
                main.parse(sys.argv)
                logging.set_verbosity(logging.FATAL)  # as the job does
                template = train.prepare(main.CONFIG.value).state
                folder, scratch = self.undisturbed / "checkpoints", self.folder / "damaged"
                sound = restore_each(folder, scratch, template)
                for _ in self.each("damaged checkpoint", number):
                    fault = damage_checkpoint(folder, scratch, template, sound, self.random)
                    os.write(write, (json.dumps(fault) + "\n").encode())
            except BaseException:
                failed = Fault("damaged checkpoint", "all", "", "", traceback.format_exc())
                os.write(write, (json.dumps(failed) + "\n").encode())
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as lines:
            for line in lines:
                self.add(Fault(*json.loads(line)))
        os.waitpid(process, 0)

    def table(self) -> str:
        """Counts the faults by kind."""
        rows = [("fault", "number", "nothing saved lost", "right result", "no traceback")]
        for kind in dict.fromkeys(fault.kind for fault in self.faults):
            faults = [fault for fault in self.faults if fault.kind == kind]
            sound = (sum(not fault[column] for fault in faults) for column in (2, 3, 4))
            rows.append((kind, *map(str, (len(faults), *sound))))
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def _lost(before: int, workdir: Path, ended: Ended) -> str:
    """Says which saved steps are gone after a run, or were not used by it."""
    if (after := saved(workdir)) < before:
        return f"step {before} was saved, now {after}"
    if "resuming from step" in ended.stdout:
        step = int(ended.stdout.partition("resuming from step ")[2].split()[0])
        return "" if step == before else f"step {before} was saved, and it resumed from {step}"
    started = before and "run directory" in ended.stdout
    return f"step {before} was saved, and it started anew" if started else ""


def damage(path: Path, how: str, generator: random.Random) -> None:
    """Damages a file in one way; an empty one can only be deleted."""
    data = bytearray(path.read_bytes())
    if how == "delete" or not data:
        path.unlink()
    elif how == "truncate":
        path.write_bytes(data[: generator.randrange(len(data))])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "garbage":
        path.write_bytes(generator.randbytes(len(data)))
    else:
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        path.write_bytes(data)


def restore(folder: Path, template: TrainState) -> tuple[int, str] | None:
    """Restores the newest sound checkpoint as the job does: its step, and a digest of it all."""
    with Checkpoints(folder) as checkpoints:
        restored = checkpoints.restore(template)
    if restored is None:
        return None
    state, position = restored
    parts = [(name, np.asarray(leaf)) for name, leaf in named(jax.device_get(state))]
    content = b"".join(f"{n} {a.dtype} {a.shape}".encode() + a.tobytes() for n, a in parts)
    return int(state.step), _digest(content + json.dumps(position, sort_keys=True).encode())


def restore_each(folder: Path, scratch: Path, template: TrainState) -> list[tuple[int, str] | None]:
    """Restores the two checkpoints of a run, the newest first."""
    restored = []
    for step in sorted((path.name for path in folder.iterdir()), key=int, reverse=True):
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(folder / step, scratch / step)
        restored.append(restore(scratch, template))
    return restored


def damage_checkpoint(
    folder: Path,
    scratch: Path,
    template: TrainState,
    sound: list[tuple[int, str] | None],
    generator: random.Random,
) -> Fault:
    """Damages a random file of a copy of the newest checkpoint, and restores.

    Either the bytes do not matter and the newest is right, or one line says that the one before is
    used.

    Args:
      folder: the checkpoints.
      scratch: where the copy is made.
      template: a state.
      sound: of `restore_each`.
      generator: chooses the file and the damage.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(folder, scratch)
    newest = max((path for path in scratch.iterdir()), key=lambda path: int(path.name))
    path = generator.choice(sorted(path for path in newest.rglob("*") if path.is_file()))
    how = generator.choice(DAMAGES)
    damage(path, how, generator)
    restored, wrong = None, ""
    with tempfile.TemporaryFile("w+") as stream:
        before = os.dup(2)
        os.dup2(stream.fileno(), 2)  # also what is not Python's
        try:
            restored = restore(scratch, template)
        except Exception:
            wrong = traceback.format_exc()[-300:]
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
        stream.seek(0)
        lines = stream.read().splitlines()
    different = ""
    if restored not in sound:
        different = f"restored {restored and restored[0]}, which is neither checkpoint"
    lost = "" if len(lines) == (restored == sound[1]) else f"{len(lines)} lines: {lines[:3]}"
    kind = f"damaged checkpoint, {'the one before used' if restored == sound[1] else 'no effect'}"
    return Fault(kind, f"{how} {path.relative_to(newest)}", lost, different, wrong)


def run_campaign(folder: Path, minutes: float) -> Campaign:
    """Makes images and programs, and attacks until all is done or the time is over."""
    for name, value in {
        "jax_platforms": "cpu",
        "jax_compilation_cache_dir": str(folder / "programs"),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }.items():
        jax.config.update(name, value)
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # programs that run for seconds
    make_images(folder / "images")
    gc.freeze()
    campaign = Campaign(
        folder, [*ARGUMENTS, f"--config.data.source={folder / 'images'}"], 60 * minutes
    )
    campaign.damage_checkpoints(200)
    campaign.damage_records()
    for number in (signal.SIGTERM, signal.SIGINT):
        strike = functools.partial(campaign.stop, number)
        campaign.along(number.name, 3 * len(PHASES), strike, folder / "stopped")
    campaign.fill_disk(4 * len(PHASES))
    campaign.along("SIGKILL", 100, campaign.kill, folder / "killed")
    return campaign


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20, help="no fault is tried after these")
    with tempfile.TemporaryDirectory(prefix="fault_campaign_") as name:
        campaign = run_campaign(Path(name), parser.parse_args().minutes)
    print(f"\n{campaign.table()}")
    sys.exit(any(any(fault[2:]) for fault in campaign.faults))
