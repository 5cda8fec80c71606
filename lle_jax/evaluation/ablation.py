"""Ablations: the same experiment with one thing changed at a time, over several seeds.

A cell is one variant with one seed: a run of `lle_jax.main` in a process of its own, which trains
and evaluates. Finished cells are not run again, an interrupted one resumes from its last
checkpoint, so the command can be stopped at any moment and repeated. What it writes:

cells/VARIANT-seedN/       the run directory; next to it its configuration (.py) and output (.log)
cells/compiled/            jax's compilation cache, of use only while cells are run
results.csv                variant, seed, image, realisation, metric, value, unit: as measured
table.csv, table.md        means and deviations over seeds, tests against the first variant, cost
timings.csv                seconds per image, apart, since they differ from start to start
"""

import csv
import dataclasses
import difflib
import fcntl
import functools
import operator
import os
import pprint
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
import tqdm

from lle_jax import files, jobs, rundir
from lle_jax.evaluation import statistics, written
from lle_jax.evaluation.ablation_table import SIDE, Entry, Result, summarise, text
from lle_jax.evaluation.ablation_table import cells as cells_of
from lle_jax.models import cost

DONE = "suite.json"  # what an evaluation writes last of its tables
ATTEMPTS = 2  # of a cell that fails, in one start


class AblationError(ValueError):
    """The grid or the folder cannot be used; the message says what to change."""


@dataclasses.dataclass(frozen=True)
class Ablation:
    """A grid, as `get_ablation()` of a grid file returns it.

    Attributes:
      base: the experiment that all variants start from.
      variants: by name, what each changes: `{"optim.lr": 1e-4}`. Of whole groups only `model` can
        be replaced, by another network. The others are tested against the first.
      quick: what `--quick` changes in all of them, as in `variants`, to try the grid in minutes.
      seeds: number of seeds; `quick_seeds` with `--quick`.
    """

    base: ml_collections.ConfigDict
    variants: Mapping[str, Mapping[str, Any]]
    quick: Mapping[str, Any]
    seeds: int = 3
    quick_seeds: int = 2


class Cell(NamedTuple):
    """One run: a variant, a seed, the configuration that they make, the run directory."""

    variant: str
    seed: int
    config: ml_collections.ConfigDict
    folder: Path


class Report(NamedTuple):
    """Attributes: `table`, the entries; `seconds` per image by variant; `failures`, one line each.

    `cells` is the number of cells that were asked for.
    """

    table: list[Entry]
    seconds: dict[str, float]
    failures: list[str]
    cells: int


def load(path: Path) -> Ablation:
    """Runs a grid file; raises AblationError if it is none."""
    if not path.is_file():
        raise AblationError(f"{path}: no such file; for example experiments/ablations/losses.py")
    try:
        ablation = runpy.run_path(str(path))["get_ablation"]()
    except KeyError:
        raise AblationError(f"{path}: it has no get_ablation(); see docs/ablations.md") from None
    except Exception as error:  # whatever somebody's file can raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise AblationError(f"{path}: it cannot be run ({reason})") from None
    if not isinstance(ablation, Ablation):
        raise AblationError(f"{path}: get_ablation() returns no Ablation; see docs/ablations.md")
    return ablation


def plan(
    ablation: Ablation, workdir: Path, *, quick: bool = False, seeds: int | None = None
) -> list[Cell]:
    """Plans the cells, all variants of the first seed first, for an early table.

    Args:
      ablation: the grid.
      workdir: gets everything.
      quick: with the changes of `ablation.quick`.
      seeds: how many; None takes the grid's number.

    Raises:
      AblationError: for a name that no folder can have, a field that is not there, fewer than one
        seed, or a folder that holds cells of another configuration.
    """
    if seeds is None:
        seeds = ablation.quick_seeds if quick else ablation.seeds
    if seeds < 1 or not ablation.variants:
        raise AblationError(f"{len(ablation.variants)} variants, {seeds} seeds; expected some")
    cells = []
    for seed in range(seeds):
        for variant, changes in ablation.variants.items():
            if not re.fullmatch(r"\w[\w.+-]*", variant):
                raise AblationError(f"variant {variant!r}: use letters, digits, _ . + - in names")
            config = change(ablation.base, changes, variant)
            if quick:
                config = change(config, ablation.quick, "quick")
            config.seed += seed
            config.evaluation.baselines = False  # slower than the network, and the same in all
            folder = workdir.absolute() / "cells" / f"{variant}-seed{seed}"
            try:
                rundir.check(folder, config)
            except rundir.RunError as error:
                raise AblationError(str(error).replace("--workdir", "-o")) from None
            cells.append(Cell(variant, seed, config, folder))
    return cells


def change(
    config: ml_collections.ConfigDict, changes: Mapping[str, Any], where: str
) -> ml_collections.ConfigDict:
    """Copies a config with keys set; raises AblationError naming `where` and the field."""
    config = ml_collections.ConfigDict(config.to_dict())
    for name, value in changes.items():
        *path, last = name.split(".")
        try:
            group = functools.reduce(operator.getitem, path, config)
            if isinstance(group[last], ml_collections.ConfigDict):
                if name != "model":
                    raise TypeError(
                        f"a group; name its fields, such as {name}.{next(iter(group[last]))}"
                    )
                value = ml_collections.ConfigDict(value)
            group[last] = value
        except KeyError:
            fields = [*config, *rundir.flatten(config)]
            nearest = difflib.get_close_matches(name, fields, n=1, cutoff=0)[0]
            raise AblationError(f"{where}: no field {name!r}; did you mean {nearest}?") from None
        except (TypeError, ValueError) as error:
            raise AblationError(f"{where}: {name}: {' '.join(str(error).split())}") from None
    return config


def train_command(cell: Cell) -> list[str]:
    """Returns the command of a cell; it writes evaluation/per_image.csv, and last suite.json."""
    script, main = cell.folder.with_name(f"{cell.folder.name}.py"), "lle_jax.main"
    return [sys.executable, "-m", main, "--config", str(script), "--workdir", str(cell.folder)]


def run(
    cells: Sequence[Cell],
    workdir: Path,
    *,
    command: Callable[[Cell], list[str]] = train_command,
) -> Report:
    """Runs the cells that are not done, then writes the tables of all that are.

    Args:
      cells: from `plan`.
      workdir: as there.
      command: the process that runs a cell; if it was killed it must go on when run again.

    Raises:
      AblationError: if two cells were evaluated on different test images, once both are done.
      OSError: if the folder cannot be written.
    """
    (workdir / "cells").mkdir(parents=True, exist_ok=True)
    failures = _run_all(cells, command)
    # Only now does this process touch jax's devices: an accelerator can be one process's alone.
    done = sorted(filter(_is_done, cells), key=_order(cells))
    costs = {cell.variant: cost.cost(cell.config.model, SIDE, SIDE) for cell in done}
    results = _measured(done)
    files.write_csv(workdir / "results.csv", Result._fields, results)
    table = summarise(results, cells[0].variant, costs)
    files.write_csv(workdir / "table.csv", Entry._fields, map(cells_of, table))
    files.write_text(workdir / "table.md", text(table) + "\n")
    seconds = _timings(workdir / "timings.csv", done)
    return Report(table, seconds, failures, len(cells))


def _order(cells: Sequence[Cell]) -> Callable[[Cell], tuple[int, int]]:
    """Sorts by variants in the order of the grid, then seeds."""
    variants = list(dict.fromkeys(cell.variant for cell in cells))
    return lambda cell: (variants.index(cell.variant), cell.seed)


def _is_done(cell: Cell) -> bool:
    return (cell.folder / "evaluation" / DONE).exists()


def _run_all(cells: Sequence[Cell], command: Callable[[Cell], list[str]]) -> list[str]:
    """Runs unfinished cells, retries failed ones once at the end, and returns those that failed."""
    pending = [cell for cell in cells if not _is_done(cell)]
    failures: list[str] = []
    start = len(cells) - len(pending)
    with jobs.progress("ablate", len(cells), "cell", initial=start) as bar:
        for _ in range(ATTEMPTS):
            failed, failures = [], []
            for cell in pending:
                bar.set_postfix_str(cell.folder.name)
                if reason := _run(cell, command, bar):
                    failed.append(cell)
                    failures.append(f"{cell.folder.name}: {reason}")
                else:
                    bar.update()
                    # on other images: rather now than when all are trained
                    _read((next(filter(_is_done, cells)), cell))
            pending = failed
    return failures


def _run(cell: Cell, command: Callable[[Cell], list[str]], bar: tqdm.tqdm) -> str | None:
    """Runs one cell; returns the reason if it failed, else None.

    The process inherits the lock: where only its parent was killed, it still trains, and two must
    not write to one run directory. The next start waits for it and takes what it made.
    """
    siblings = {suffix: cell.folder.with_name(cell.folder.name + suffix) for suffix in SUFFIXES}
    with siblings[".lock"].open("a") as lock, siblings[".log"].open("ab") as log:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            bar.write(f"{cell.folder.name}: an earlier start still runs it; waiting", sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_done(cell):
            return None
        files.write_text(siblings[".py"], _script(cell))
        before = log.tell()
        status = subprocess.run(
            command(cell),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_share_compiled(cell.folder.with_name("compiled")) | os.environ,
            pass_fds=[lock.fileno()],
        ).returncode
    if _is_done(cell):
        return None
    if status < 0:
        return f"killed by {signal.Signals(-status).name}; see {siblings['.log']}"
    said = siblings[".log"].read_bytes()[before:].decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(said) if line.strip()), "no output")
    return f"{last.removeprefix('error: ')}; exit status {status}, see {siblings['.log']}"


SUFFIXES = (".lock", ".log", ".py")


def _share_compiled(folder: Path) -> dict[str, str]:
    """Returns environment variables by which the cells share jax's compilation cache."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    }


def _script(cell: Cell) -> str:
    fields = pprint.pformat(cell.config.to_dict(), width=92, sort_dicts=False)
    fields = fields.replace("\n", "\n        ")
    return (
        f'"""{cell.variant}, seed {cell.seed}: a cell of an ablation, written by lle ablate."""\n\n'
        "import ml_collections\n\n\n"
        "def get_config() -> ml_collections.ConfigDict:\n"
        f"    return ml_collections.ConfigDict(\n        {fields}\n    )\n"
    )


def _read(cells: Iterable[Cell]) -> list[tuple[Cell, dict, list[statistics.Row]]]:
    """Reads the evaluations of cells: each with its record and its values.

    Raises:
      AblationError: if they were not evaluated on the same test images.
    """
    read = [(cell, *written.read(cell.folder / "evaluation")) for cell in cells]
    for cell, record, _ in read:
        first, expected, _ = read[0]
        if record["fingerprint"] != expected["fingerprint"]:
            raise AblationError(
                f"{first.folder.name} and {cell.folder.name} were evaluated on different images, "
                "seeds or degradations, and cannot be compared; let no variant change data or "
                "degradation.preset"
            )
    return read


def _measured(cells: Sequence[Cell]) -> list[Result]:
    """Reads results.csv: each cell's network, the first method of its evaluation; as `_read`."""
    results: list[Result] = []
    for cell, record, rows in _read(cells):
        results += [
            Result(cell.variant, cell.seed, r.image, r.realisation, r.metric, r.value, r.unit)
            for r in rows
            if r.method == record["methods"][0]
        ]
    return results


def _timings(path: Path, cells: Sequence[Cell]) -> dict[str, float]:
    """Measures seconds per image by variant, once per network; earlier measurements are reused."""
    known: dict[str, float] = {}
    if path.exists():
        with path.open(newline="") as file:
            known = {
                row["variant"]: float(row["seconds_per_image"]) for row in csv.DictReader(file)
            }
    of_network: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for cell in cells:
        network = cell.config.model.to_json_best_effort()
        if cell.variant in known:
            of_network.setdefault(network, known[cell.variant])
        if network not in of_network:
            of_network[network] = cost.seconds_per_image(cell.config.model, SIDE, SIDE)
        seconds[cell.variant] = of_network[network]
    files.write_csv(path, ("variant", "seconds_per_image"), seconds.items())
    return seconds
