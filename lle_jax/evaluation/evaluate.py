"""Evaluates methods on a suite: per-image values, intervals, paired tests, subgroups, a page.

The folder written is the record:

    per_image.csv    image, realisation, modality, condition, method, metric, value
    summary.csv      by method and metric: mean, std, median, 95 % interval, images
    comparisons.csv  each method against every other: difference, interval, p, effect
    subgroups.csv    the same differences against the input, by modality and by condition
    suite.json       the suite, the methods, packages, and what must be said of them
    index.html       all of it to look at
"""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tqdm

from lle_jax import files, images, metrics, rundir
from lle_jax.evaluation import methods as method_loader
from lle_jax.evaluation import statistics
from lle_jax.evaluation.measures import IDENTICAL as IDENTICAL  # X as X: used as evaluate.X
from lle_jax.evaluation.measures import METRICS, Pair
from lle_jax.evaluation.measures import Metric as Metric
from lle_jax.evaluation.methods import Method
from lle_jax.evaluation.suite import Case, Suite, label
from lle_jax.evaluation.tables import comparison_table as comparison_table
from lle_jax.evaluation.tables import table as table

PROGRESS = 30.0  # least seconds between lines of progress, so that a log stays short


class EvaluationError(ValueError):
    """The evaluation is refused; the message says why and what to do."""


class EvaluationResult(NamedTuple):
    """What was found.

    Attributes:
      suite: what on.
      methods: names of the methods in question; the baselines are there to compare with.
      rows: one per case, method and metric.
      cases: (image, realisation) -> (modality, condition).
      summary: of the rows.
      comparisons: each of `methods` against each other method and baseline.
      subgroups: (group, the same within it), by modality and by condition.
      record: what suite.json says.
    """

    suite: Suite
    methods: tuple[str, ...]
    rows: list[statistics.Row]
    cases: dict[tuple[str, str], tuple[str, str]]
    summary: list[statistics.Summary]
    comparisons: list[statistics.Comparison]
    subgroups: list[tuple[str, list[statistics.Comparison]]]
    record: dict[str, Any]


def evaluate(
    suite: Suite,
    methods: Sequence[Method],
    baselines: Sequence[Method],
    folder: Path,
    *,
    allow_overlap: bool = False,
) -> EvaluationResult:
    """Runs every method on every case and writes the tables; goes on where it was stopped.

    Args:
      suite: from `suite.load`.
      methods: the methods in question, with unique names.
      baselines: what they are compared with; "low", the input, is added where it is missing.
      folder: to write to.
      allow_overlap: evaluate a method on images it was trained on; the record then warns of it.

    Raises:
      EvaluationError: if a method was trained on images of the suite.
      MethodError: if an output image is missing.
    """
    everyone = [method_loader.load("low"), *methods, *(m for m in baselines if m.name != "low")]
    notes = {method.name: method_loader.overlap(method, suite.hashes) for method in everyone}
    for method in everyone:
        trained = [note for note in notes[method.name] if note.startswith("trained")]
        if trained and not allow_overlap:
            raise EvaluationError(
                f"{method.name} was {trained[0]}; use other images, or --allow-overlap, "
                "which the report will say"
            )
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "suite": suite.name,
        "kind": suite.kind,
        "settings": suite.settings,
        "fingerprint": suite.fingerprint,
        "images": len(suite.images),
        "rejected": len(suite.rejected),
        "methods": [method.name for method in methods],
        "records": {method.name: method.record for method in everyone},
        "warnings": {name: said for name, said in notes.items() if said},
        "metrics": "lle_jax.metrics; SSIM Gaussian 11/1.5, RGB; PSNR RGB; identical images 100 dB",
        **rundir.environment(suite.fingerprint),
    }
    rows, cases = _measure(suite, everyone, folder, _settings(record))
    names = tuple(record["methods"])
    result = EvaluationResult(
        suite,
        names,
        rows,
        cases,
        statistics.summarise(rows),
        [c for name in names for c in compare(rows, name)],
        _subgroups(suite, names, rows, cases),
        record,
    )
    _write(folder, result)
    return result


def _settings(record: dict) -> str:
    """What measured values depend on, to tell whether half a table can be gone on with."""
    keys = ("fingerprint", "records", "lle_jax", "packages")
    return json.dumps({key: record[key] for key in keys}, sort_keys=True, default=str)


def _measure(suite: Suite, everyone: list[Method], folder: Path, settings: str):
    partial = folder / "partial.jsonl"
    done = _read_partial(partial, settings)
    listed = suite.listed()
    missing = {label(image, number) for image, number, *_ in listed} - done.keys()
    identities: dict[tuple[str, str], float] = {}
    shape = None
    with (
        partial.open("a", encoding="utf-8") as sink,
        tqdm.tqdm(
            total=suite.count,
            initial=suite.count - len(missing),
            desc=suite.name,
            unit="case",
            mininterval=PROGRESS,
        ) as bar,
    ):
        for case in suite.cases(missing):
            if shape is not None and case.low.shape != shape:
                jax.clear_caches()  # programs of one size are of no use to another
            shape = case.low.shape
            values = []
            for method in everyone:
                measured = measure(np.asarray(method.enhance_case(case), np.float32), case)
                if method.enhance_image is not None:
                    key = method.name, case.image
                    if key not in identities:
                        identities[key] = _identity(method.enhance_image, case.clean)
                    measured["identity"] = identities[key]
                values += [[method.name, name, value] for name, value in measured.items()]
            sink.write(json.dumps({"case": case.label, "values": values}) + "\n")
            sink.flush()
            done[case.label] = values
            bar.update()
    rows = [
        statistics.Row(image, method, metric, value, realisation)
        for image, realisation, *_ in listed
        for method, metric, value in done[label(image, realisation)]
    ]
    return rows, {(image, number): tuple(groups) for image, number, *groups in listed}


def _read_partial(path: Path, settings: str) -> dict[str, list]:
    """Cases that an earlier start with the same settings has finished; begins the file anew."""
    lines = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                break  # cut off by whatever stopped the earlier start
    if not lines or lines[0].get("settings") != settings:
        lines = [{"settings": settings}]
    files.write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
    return {line["case"]: line["values"] for line in lines[1:]}


def measure(output: np.ndarray, case: Case) -> dict[str, float]:
    """All metrics of one output but identity; the output is clipped to [0, 1] first."""
    output = np.clip(output, 0, 1)
    if not np.isfinite(output).all():
        raise EvaluationError(f"an output for {case.label} is not finite")
    found = _pairwise(output, case.clean, case.low, case.parameters)
    return {
        name: min(float(found[name]), metric.greatest)
        for name, metric in METRICS.items()
        if name in found
    }


@jax.jit
def _pairwise(output, clean, low, parameters) -> dict[str, jax.Array]:
    matched = metrics.gt_mean(output, clean)
    structure = metrics.structure_change(output, clean)
    pair = Pair(output, clean, low, parameters, matched, structure)
    found = {
        name: metric.function(pair)
        for name, metric in METRICS.items()
        if metric.function is not None
    }
    return {name: value for name, value in found.items() if value is not None}


_psnr = jax.jit(metrics.psnr)


def _identity(enhance: Callable[[np.ndarray], np.ndarray], clean: np.ndarray) -> float:
    """PSNR of what the method makes of an image that needs nothing."""
    output = np.clip(np.asarray(enhance(clean), np.float32), 0, 1)
    return min(float(_psnr(output, clean)), METRICS["identity"].greatest)


def _write(folder: Path, result: EvaluationResult) -> None:
    files.write_csv(
        folder / "per_image.csv",
        ("image", "realisation", "modality", "condition", "method", "metric", "value"),
        (
            (r.image, r.realisation, *result.cases[r.image, r.realisation], *r[1:4])
            for r in result.rows
        ),
    )
    files.write_csv(folder / "summary.csv", statistics.Summary._fields, result.summary)
    files.write_csv(folder / "comparisons.csv", statistics.Comparison._fields, result.comparisons)
    files.write_csv(
        folder / "subgroups.csv",
        ("group", *statistics.Comparison._fields),
        ((group, *c) for group, part in result.subgroups for c in part),
    )
    text = json.dumps(result.record, indent=2, default=str)
    files.write_text(folder / "suite.json", text + "\n")


def compare(rows: Iterable[statistics.Row], method: str) -> list[statistics.Comparison]:
    """`statistics.compare` on the metrics that the method has: outputs in files lack identity."""
    rows = list(rows)
    has = {row.metric for row in rows if row.method == method}
    return statistics.compare([row for row in rows if row.metric in has], method)


def _subgroups(
    suite: Suite, methods: Sequence[str], rows: Sequence[statistics.Row], cases: dict
) -> list[tuple[str, list[statistics.Comparison]]]:
    tables = []
    for index, what in enumerate(("modality", "condition")):
        parts = statistics.split(rows, [cases[row.image, row.realisation][index] for row in rows])
        if len(parts) < 2 or (what == "condition" and suite.kind == "sweep"):
            continue
        for group, part in sorted(parts.items()):
            compared = [c for name in methods for c in compare(part, name)]
            tables.append((f"{what} {group or 'other'}", compared))
    return tables


def read(folder: Path) -> tuple[dict, list[statistics.Row]]:
    """The record and the values of an evaluation that was written.

    Raises:
      EvaluationError: if there is none, or a file of it is damaged.
    """
    try:
        record = json.loads((folder / "suite.json").read_text(encoding="utf-8"))
        with (folder / "per_image.csv").open(newline="", encoding="utf-8") as file:
            rows = [
                statistics.Row(
                    r["image"], r["method"], r["metric"], float(r["value"]), r["realisation"]
                )
                for r in csv.DictReader(file)
            ]
        return {key: record[key] for key in ("fingerprint", "methods", "suite")}, rows
    except FileNotFoundError:
        raise EvaluationError(f"{folder}: no evaluation there; make it with lle evaluate") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(f"{folder}: damaged ({error}); run lle evaluate again") from None


def join(folders: Iterable[Path]) -> tuple[list[str], list[statistics.Row]]:
    """The methods in question and the values of several evaluations on one suite.

    A method of a later folder whose name is taken gets the folder's name besides, unless it is one
    that both only compare with.

    Raises:
      EvaluationError: if they are not of one suite, images and seeds.
    """
    methods: list[str] = []
    rows: list[statistics.Row] = []
    first = None
    for folder in folders:
        record, found = read(folder)
        if first is None:
            first = record
        if record["fingerprint"] != first["fingerprint"]:
            raise EvaluationError(
                f"{folder}: evaluated on {record['suite']} with other images, seeds or "
                f"degradations than {first['suite']} before; evaluate all on one suite"
            )
        taken = {row.method for row in rows}
        names = {}
        for name in dict.fromkeys(row.method for row in found):
            if name in taken and name not in record["methods"]:
                continue
            new, number = name, 1
            while new in taken:
                number += 1
                new = (
                    f"{name} ({folder.name})" if number == 2 else f"{name} ({folder.name} {number})"
                )
            names[name] = new
        methods += [names[name] for name in record["methods"]]
        rows += [row._replace(method=names[row.method]) for row in found if row.method in names]
    return methods, rows


def verdict(result: EvaluationResult) -> str:
    """What the first method gains over its input and the best baseline of each metric, if any."""
    means = {(s.method, s.metric): s.mean for s in result.summary}
    first = result.methods[0]
    psnr, ssim = (means[first, metric] - means["low", metric] for metric in ("psnr", "ssim"))
    names = dict.fromkeys(s.method for s in result.summary)
    baselines = [name for name in names if name not in ("low", *result.methods)]
    if not baselines:
        return f"{first}: {psnr:+.2f} dB and SSIM {ssim:+.3f} over the low-light input"

    def gain(metric: str) -> tuple[float, str]:
        best = max(baselines, key=lambda name: means[name, metric])
        return means[first, metric] - means[best, metric], best

    (more_psnr, best_psnr), (more_ssim, best_ssim) = gain("psnr"), gain("ssim")
    return (
        f"{first}: {psnr:+.2f} dB over the low-light input, {more_psnr:+.2f} dB over the best "
        f"baseline ({best_psnr}); SSIM {ssim:+.3f} and {more_ssim:+.3f} ({best_ssim})"
    )


def write_inputs(suite: Suite, folder: Path) -> int:
    """Writes every low-light image for other systems to enhance; returns how many.

    PNG of 8 bits where that is exact, else of 16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for case in tqdm.tqdm(suite.cases(), total=suite.count, desc="inputs", mininterval=PROGRESS):
        eighth = np.rint(case.low * 255) / 255
        bits = 8 if np.abs(eighth - case.low).max() < 1e-6 else 16
        like = images.Picture(case.low, Path(), "png", bits)
        images.write(folder / f"{case.label}.png", case.low, like)
        count += 1
    return count
