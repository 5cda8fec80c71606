"""Ablations: the same experiment with one thing changed at a time, over several seeds.

A cell is one variant with one seed: a run of `lle_jax.main` in a process of its own, which trains
and evaluates. Cells that are done are not run again, one that was killed goes on from its last
checkpoint, so the command can be stopped at any moment and repeated. What it writes:

cells/VARIANT-seedN/       the run directory; beside it its configuration (.py) and output (.log)
cells/compiled/            jax's compilation cache, of use only while cells are run
results.csv                variant, seed, image, metric, value: the measurements, nothing else
table.csv, table.md        means and deviations over seeds, tests against the first variant, cost
timings.csv                seconds per image, apart, since they differ from start to start
"""

import csv
import dataclasses
import difflib
import fcntl
import functools
import math
import operator
import os
import pprint
import re
import runpy
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
import tqdm

from lle_jax import files, rundir
from lle_jax.evaluation import statistics as tests
from lle_jax.models import cost

SIDE = 256  # pixels of the square image for which cost is stated
ATTEMPTS = 2  # of a cell that fails, in one start
UNITS = {"psnr": "PSNR (dB)", "ssim": "SSIM"}


class AblationError(ValueError):
    """The grid or the folder cannot be used; the message says what to change."""


@dataclasses.dataclass(frozen=True)
class Ablation:
    """What a grid file's `get_ablation()` returns.

    Attributes:
      base: the experiment that all variants start from.
      variants: by name, what each changes: `{"optim.lr": 1e-4}` a field that is there, `{"model":
        {...}}` a whole group. The others are tested against the first.
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


class Entry(NamedTuple):
    """A variant on a metric. Differences are to the first variant, NaN of itself or untested.

    Attributes:
      variant, metric: of the line.
      seeds: number of seeds that are done.
      mean: over seeds of the mean over images.
      std: over seeds, sample standard deviation; NaN of one seed.
      difference, low, high, p_holm, effect, note: as of `statistics.Comparison`, by image, the
        seeds averaged.
      parameters, macs: as of `models.cost`, for an image of SIDE x SIDE.
    """

    variant: str
    metric: str
    seeds: int
    mean: float
    std: float
    difference: float
    low: float
    high: float
    p_holm: float
    effect: float
    note: str
    parameters: int
    macs: int


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
    if os.getcwd() not in sys.path:  # as `python -m` has it, for grids that import experiments
        sys.path.append(os.getcwd())
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
    """The cells, all variants of the first seed first, so that a table is there early.

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
    """A copy with fields set and groups replaced; raises AblationError naming `where` and field."""
    config = ml_collections.ConfigDict(config.to_dict())
    for name, value in changes.items():
        *path, last = name.split(".")
        try:
            group = functools.reduce(operator.getitem, path, config)
            group[last]  # what is not there yet must come with its group
            if isinstance(value, Mapping):
                del group[last]
                value = ml_collections.ConfigDict(dict(value))
            group[last] = value
        except KeyError:
            fields = [*config, *rundir.flatten(config)]
            nearest = difflib.get_close_matches(name, fields, n=1, cutoff=0)[0]
            raise AblationError(f"{where}: no field {name!r}; did you mean {nearest}?") from None
        except (TypeError, ValueError) as error:
            raise AblationError(f"{where}: {name}: {' '.join(str(error).split())}") from None
    return config


def train_command(cell: Cell) -> list[str]:
    """What runs a cell: it leaves evaluation/per_image.csv, and last evaluation/summary.csv."""
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
      OSError: if the folder cannot be written.
    """
    (workdir / "cells").mkdir(parents=True, exist_ok=True)
    failures = _run_all(cells, command)
    # Only now does this process touch jax's devices: an accelerator can be one process's alone.
    done = sorted(filter(_is_done, cells), key=_order(cells))
    costs = {cell.variant: cost.cost(cell.config.model, SIDE, SIDE) for cell in done}
    rows = [row for cell in done for row in _measured(cell)]
    columns = ("variant", "seed", "image", "metric", "value")
    files.write_csv(workdir / "results.csv", columns, rows)
    table = summarise([(*row[:4], float(row[4])) for row in rows], cells[0].variant, costs)
    files.write_csv(workdir / "table.csv", Entry._fields, map(_cells, table))
    files.write_text(workdir / "table.md", text(table) + "\n")
    seconds = _timings(workdir / "timings.csv", done)
    return Report(table, seconds, failures, len(cells))


def _order(cells: Sequence[Cell]) -> Callable[[Cell], tuple[int, int]]:
    """Variants as the grid has them, then seeds."""
    variants = list(dict.fromkeys(cell.variant for cell in cells))
    return lambda cell: (variants.index(cell.variant), cell.seed)


def _is_done(cell: Cell) -> bool:
    return (cell.folder / "evaluation" / "summary.csv").exists()


def _run_all(cells: Sequence[Cell], command: Callable[[Cell], list[str]]) -> list[str]:
    """Runs what is not done, what fails once more at the end; returns what failed in the end."""
    pending = [cell for cell in cells if not _is_done(cell)]
    failures: list[str] = []
    start = len(cells) - len(pending)
    with tqdm.tqdm(
        total=len(cells), initial=start, desc="ablate", unit="cell", disable=None
    ) as bar:
        for _ in range(ATTEMPTS):
            failed, failures = [], []
            for cell in pending:
                bar.set_postfix_str(cell.folder.name)
                if reason := _run(cell, command, bar):
                    failed.append(cell)
                    failures.append(f"{cell.folder.name}: {reason}")
                else:
                    bar.update()
            pending = failed
    return failures


def _run(cell: Cell, command: Callable[[Cell], list[str]], bar: tqdm.tqdm) -> str | None:
    """Runs one cell; returns why it failed, None if it did not.

    The process inherits the lock: where only its parent was killed, it still trains, and two must
    not write to one run directory. The next start waits for it and takes what it made.
    """
    beside = {suffix: cell.folder.with_name(cell.folder.name + suffix) for suffix in SUFFIXES}
    with beside[".lock"].open("a") as lock, beside[".log"].open("ab") as log:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            bar.write(f"{cell.folder.name}: an earlier start still runs it; waiting", sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_done(cell):
            return None
        files.write_text(beside[".py"], _script(cell))
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
        return f"killed by {signal.Signals(-status).name}; see {beside['.log']}"
    said = beside[".log"].read_bytes()[before:].decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(said) if line.strip()), "no output")
    return f"{last.removeprefix('error: ')}; exit status {status}, see {beside['.log']}"


SUFFIXES = (".lock", ".log", ".py")


def _share_compiled(folder: Path) -> dict[str, str]:
    """Variables that make jax keep what it compiles: most cells need the same programs."""
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


def _measured(cell: Cell) -> list[tuple[str, int, str, str, str]]:
    """Rows of results.csv; the values as the file has them."""
    method = f"{cell.config.model.name} (EMA)"
    with (cell.folder / "evaluation" / "per_image.csv").open(newline="") as file:
        return [
            (cell.variant, cell.seed, row["image"], row["metric"], row["value"])
            for row in csv.DictReader(file)
            if row["method"] == method
        ]


def summarise(
    rows: Iterable[tuple[str, int, str, str, float]], base: str, costs: Mapping[str, cost.Cost]
) -> list[Entry]:
    """The table, in the order of `costs`.

    Args:
      rows: variant, seed, image, metric, value. An image's name ends in -0, -1, ... for its
        degraded versions, which like the seeds are averaged before images are compared.
      base: the variant that the others are compared with.
      costs: of the variants that have rows.

    Returns:
      an entry per metric and variant. Tests are made on the seeds that all those have.
    """
    rows = list(rows)
    seeds: dict[str, set[int]] = {}
    values: dict[tuple[str, str, int], list[float]] = {}
    for variant, seed, _, metric, value in rows:
        seeds.setdefault(variant, set()).add(seed)
        values.setdefault((metric, variant, seed), []).append(value)
    compared = _compare(rows, base, seeds)
    table = []
    for metric in dict.fromkeys(metric for metric, _, _ in values):
        for variant in costs:
            means = [
                math.fsum(v := values[metric, variant, s]) / len(v) for s in sorted(seeds[variant])
            ]
            std = statistics.stdev(means) if len(means) > 1 else math.nan
            test = compared.get((metric, variant), (math.nan,) * 5 + ("",))
            table.append(
                Entry(
                    variant,
                    metric,
                    len(means),
                    statistics.fmean(means),
                    std,
                    *test,
                    *costs[variant],
                )
            )
    return table


def _compare(rows: list, base: str, seeds: Mapping[str, set[int]]) -> dict[tuple[str, str], tuple]:
    """(metric, variant) -> difference, low, high, p_holm, effect, note."""
    common = set.intersection(*seeds.values()) if seeds else set()
    if base not in seeds or not common:
        return {}
    paired = []
    for variant, seed, label, metric, value in rows:
        if seed in common:
            image, _, draw = label.rpartition("-")
            paired.append(tests.Row(image, variant, metric, value, f"{draw}, seed {seed}"))
    missing = len(set.union(*seeds.values())) - len(common)
    partly = f"on {len(common)} of {len(common) + missing} seeds" if missing else ""
    return {
        # `compare` has the base minus the others
        (c.metric, c.other): (
            -c.difference, -c.high, -c.low, c.p_holm, -c.effect,
            "; ".join(filter(None, (c.note, partly))),
        )
        for c in tests.compare(paired, base)
    }  # fmt: skip


def _cells(entry: Entry) -> list[Any]:
    return ["" if isinstance(x, float) and math.isnan(x) else x for x in entry]


def text(table: Sequence[Entry], seconds: Mapping[str, float] | None = None) -> str:
    """The table in Markdown, a line per variant; with seconds per image where they are given."""
    if not table:
        return "no cell is done"
    metrics = list(dict.fromkeys(entry.metric for entry in table))
    header = ["variant", "seeds"]
    for metric in metrics:
        name = UNITS.get(metric, metric)
        header += [name, "difference [95 %], p"]
    header += ["parameters", "G MACs"] + ["ms per image"] * bool(seconds)
    found = {(entry.variant, entry.metric): entry for entry in table}
    lines = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for variant in dict.fromkeys(entry.variant for entry in table):
        first = found[variant, metrics[0]]
        line = [variant, str(first.seeds)]
        for metric in metrics:
            line += _pair(found[variant, metric])
        line += [f"{first.parameters:,}", f"{first.macs / 1e9:.2f}"]
        if seconds:
            line.append(f"{1e3 * seconds[variant]:.0f}")
        lines.append(line)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
    notes = dict.fromkeys(entry.note for entry in table if entry.note)
    about = (
        "Means +- standard deviations over seeds; differences to the first variant and their tests "
        f"are over images\n(Wilcoxon, corrected by Holm); cost for {SIDE} x {SIDE} pixels."
    )
    return "\n".join([*rows, "", about, *notes])


def _pair(entry: Entry) -> tuple[str, str]:
    digits = 2 if entry.metric == "psnr" else 3
    value = f"{entry.mean:.{digits}f}"
    if not math.isnan(entry.std):
        value += f" +- {entry.std:.{digits}f}"
    if math.isnan(entry.difference):
        return value, ""
    low, high = f"{entry.low:+.{digits}f}", f"{entry.high:+.{digits}f}"
    return value, f"{entry.difference:+.{digits}f} [{low}, {high}], {entry.p_holm:.2g}"


def _timings(path: Path, cells: Sequence[Cell]) -> dict[str, float]:
    """Seconds per image by variant; what was measured before is kept, equal networks share one."""
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
