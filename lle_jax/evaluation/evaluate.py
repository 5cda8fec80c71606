"""Evaluates methods on a suite: per-image values, intervals, paired tests, subgroups, a page.

The folder written is the record:

    per_image.csv    image, realisation, unit, modality, condition, method, metric, value
    summary.csv      by method and metric: mean, std, median, 95 % interval, images, units
    comparisons.csv  each method against every other: difference, interval, p, effect
    subgroups.csv    the same differences against the input, by modality and by condition
    suite.json       the suite, the methods, packages, and what must be said of them
    panels/          a picture of the first realisation of each of up to 24 images
    index.html       all of it to look at
"""

import functools
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lle_jax import files, images, jobs, metrics, rundir
from lle_jax.evaluation import measures, panels, statistics
from lle_jax.evaluation import methods as method_loader
from lle_jax.evaluation.measures import EvaluationError
from lle_jax.evaluation.methods import Method
from lle_jax.evaluation.suite import Case, Suite, label

MAX_PANELS = 24  # images with a picture of their own
MAX_SHAPES = 8  # whose compiled programs are kept at a time, so that memory stays bounded


class EvaluationResult(NamedTuple):
    """The result of an evaluation.

    Attributes:
      suite: what on.
      methods: names of the methods in question; the baselines are there to compare with.
      rows: one per case, method and metric that is defined for it (`statistics.defined`).
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
    more_metrics: Iterable[str] = (),
    lpips_weights: Path | None = None,
) -> EvaluationResult:
    """Runs every method on every case and writes the tables; resumes where it was stopped.

    Args:
      suite: from `suite.load`.
      methods: the methods in question, with unique names.
      baselines: what they are compared with; "low", the input, is added where it is missing.
      folder: to write to.
      allow_overlap: evaluate a method on images it was trained on; the record then warns of it.
      more_metrics: names of METRICS to measure besides the standard ones.
      lpips_weights: file of `metrics.load_lpips`, which "lpips" needs.

    Raises:
      EvaluationError: if a method was trained on images of the suite, or LPIPS has no weights.
      MethodError: if an output image is missing.
    """
    measured, measure = _metrics(more_metrics, lpips_weights)
    everyone = [m for m in (*methods, *baselines) if m.name != "low"]
    everyone.insert(0, method_loader.load("low"))
    notes = _overlaps(suite, everyone, allow_overlap)
    (folder / "panels").mkdir(parents=True, exist_ok=True)
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
    measurements, cases = _measure(suite, everyone, folder, _settings(record) | measured, measure)
    rows, without = statistics.defined(measurements)
    record["warnings"] |= {title: [said] for title, said in measures.left_out(without).items()}
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
    _write(folder, result, measurements)
    return result


def refuse_other(folder: Path, suite: Suite, everyone: Iterable[Method]) -> None:
    """Raises EvaluationError where the results of another evaluation would be overwritten.

    Repeating an evaluation, and adding methods to it, loses nothing.
    """
    try:
        before = json.loads((folder / "suite.json").read_text(encoding="utf-8"))
        fingerprint, names = before["fingerprint"], list(before["methods"])
    except (OSError, ValueError, KeyError, TypeError):
        return  # none, or one that is damaged
    if fingerprint != suite.fingerprint:
        raise EvaluationError(
            f"{folder}: holds an evaluation of {', '.join(names)} on other images, seeds or "
            "degradations; choose another -o, or remove it"
        )
    now = {method.name for method in everyone}
    lost = [name for name in names if name not in now]
    if lost:
        raise EvaluationError(
            f"{folder}: holds the results of {', '.join(lost)}; choose another -o, name these "
            "methods too, or remove it"
        )


def _metrics(
    more: Iterable[str], lpips_weights: Path | None
) -> tuple[dict[str, Any], Callable[[np.ndarray, Case], dict[str, float]]]:
    """Returns what decides which values are measured, for the journal, and what measures them."""
    names = measures.selected(more)
    if ("lpips" in names) != (lpips_weights is not None):
        raise EvaluationError(
            "LPIPS needs both lpips in --metrics and --lpips-weights FILE, which does not come "
            "with lle_jax (docs/metrics.md)"
        )
    settings: dict[str, Any] = {"measured": list(names)}
    weights = None
    if lpips_weights is not None:
        weights = metrics.load_lpips(lpips_weights)
        settings["lpips_weights"] = files.sha256(lpips_weights)
    return settings, functools.partial(measures.measure, names=names, lpips_weights=weights)


def _overlaps(
    suite: Suite, everyone: Sequence[Method], allow_overlap: bool
) -> dict[str, list[str]]:
    """Describes the overlap of each method's training images with the suite's, or refuses it."""
    notes = {
        method.name: method_loader.overlap(method, suite.hashes, suite.same_photographs)
        for method in everyone
    }
    for method in everyone:
        trained = [note for note in notes[method.name] if note.startswith("trained")]
        if trained and not allow_overlap:
            raise EvaluationError(
                f"{method.name} was {trained[0]}; use other images, or --allow-overlap, "
                "which the report will say"
            )
    return notes


def _settings(record: dict[str, Any]) -> dict[str, Any]:
    """What the values depend on: those of other settings are not resumed."""
    keys = ("fingerprint", "records", "lle_jax", "code", "packages")
    return json.loads(json.dumps({key: record[key] for key in keys}, default=str))


def _measure(
    suite: Suite,
    everyone: Sequence[Method],
    folder: Path,
    settings: dict[str, Any],
    measure: Callable[[np.ndarray, Case], dict[str, float]],
) -> tuple[list[statistics.Row], dict[tuple[str, str], tuple[str, str]]]:
    """Measures every method on every case that an earlier start has not finished."""
    journal = jobs.Journal(folder / "journal.jsonl", settings)
    listed = suite.listed()
    labels = [label(image, realisation) for image, realisation, *_ in listed]
    missing = {name for name in labels if journal.done(name) is None}
    identities: dict[tuple[str, str], float] = {}
    shapes: set[tuple[int, ...]] = set()
    first = {image: realisation for image, realisation, *_ in reversed(listed)}
    pictured = {label(*case) for case in list(first.items())[-MAX_PANELS:]}
    done = suite.count - len(missing)
    with jobs.progress(suite.name, suite.count, "case", initial=done) as bar:
        for case in suite.cases(missing):
            if case.low.shape not in shapes and len(shapes) == MAX_SHAPES:
                jax.clear_caches()
                shapes.clear()
            shapes.add(case.low.shape)
            values = _measure_case(
                case, everyone, measure, identities, folder if case.label in pictured else None
            )
            journal.record(case.label, jobs.DONE, values=values)
            bar.update()
    units = dict(zip(suite.images.names, suite.images.units, strict=True))
    rows = [
        statistics.Row(
            image,
            method,
            metric,
            math.nan if value is None else value,
            realisation,
            units[image],
        )
        for image, realisation, *_ in listed
        for method, metric, value in (journal.done(label(image, realisation)) or {})["values"]
    ]
    groups = {(image, number): (modality, what) for image, number, modality, what in listed}
    return rows, groups


def _measure_case(
    case: Case,
    everyone: Sequence[Method],
    measure: Callable[[np.ndarray, Case], dict[str, float]],
    identities: dict[tuple[str, str], float],
    folder: Path | None,
) -> list[tuple[str, str, float]]:
    """(method, metric, value) of a case.

    Args:
      case: to enhance.
      everyone: the methods.
      measure: computes the metrics of an output.
      identities: (method, image) -> value of what is measured once an image; is added to.
      folder: gets panels/IMAGE.png; None draws none.
    """
    outputs = {m.name: np.asarray(m.enhance_case(case), np.float32) for m in everyone}
    values: list[tuple[str, str, float]] = []
    for method in everyone:
        measured = measure(outputs[method.name], case)
        if method.enhance_image is not None:
            key = method.name, case.image
            if key not in identities:
                identities[key] = measures.measure_identity(
                    method.enhance_image(case.clean), case.clean
                )
            measured["identity"] = identities[key]
        values += [(method.name, metric, value) for metric, value in measured.items()]
    if folder is not None:
        titles = {(method, metric): value for method, metric, value in values}
        fidelity = {name: (titles[name, "psnr"], titles[name, "ssim"]) for name in outputs}
        panels.save(folder / "panels" / f"{case.image}.png", outputs, fidelity, case.clean)
    return values


def _write(folder: Path, result: EvaluationResult, measurements: list[statistics.Row]) -> None:
    files.write_csv(
        folder / "per_image.csv",
        ("image", "realisation", "unit", "modality", "condition", "method", "metric", "value"),
        (
            (r.image, r.realisation, r.unit, *result.cases[r.image, r.realisation], *r[1:4])
            for r in measurements
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
    """`statistics.compare` on the metrics that the method has: outputs in files lack identity.

    Metrics of which neither more nor less is better are left out.
    """
    rows = list(rows)
    has = {row.metric for row in rows if row.method == method}
    has -= {name for name, metric in measures.METRICS.items() if not metric.better}
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


def write_inputs(suite: Suite, folder: Path) -> int:
    """Writes every low-light image for other systems to enhance; returns how many.

    PNG of 8 bits where that is exact, else of 16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with jobs.progress("inputs", suite.count, "image") as bar:
        for case in suite.cases():
            eighth = np.rint(case.low * 255) / 255
            bits = 8 if np.abs(eighth - case.low).max() < 1e-6 else 16
            like = images.Picture(case.low, Path(), "png", bits)
            images.write(folder / f"{case.label}.png", case.low, like)
            count += 1
            bar.update()
    return count
