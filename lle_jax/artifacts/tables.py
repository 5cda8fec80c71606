"""Summarises a folder's measures: quartiles, severities, and the published study's table."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from lle_jax import text_table
from lle_jax.artifacts import measures, severity, study

LABELS = ("none", "weak", "moderate", "strong", "unknown")
# The study's verdicts by the measure that they judge.
_JUDGED = {row["measure"]: name for name, row in study.thresholds().items()}

STUDY_NOTE = """\
The four measures and the verdicts are the published study's. Its salt-and-pepper ratio counts
every dark pixel (below 13 of 255) as pepper, so that it calls a dark image strong without a single
impulse: its verdict cannot be trusted on low light. impulse_density does not count black."""


class Quartiles(NamedTuple):
    """Quartiles of the `n` values that are not NaN."""

    n: int
    lower: float
    median: float
    upper: float


def quartiles(values: Iterable[float]) -> Quartiles:
    """NaN for no values."""
    numbers = np.array(list(values), np.float64)
    numbers = numbers[~np.isnan(numbers)]
    if not len(numbers):
        return Quartiles(0, math.nan, math.nan, math.nan)
    return Quartiles(len(numbers), *map(float, np.quantile(numbers, (0.25, 0.5, 0.75))))


class Severity(NamedTuple):
    """Of one artifact over the images: the median, and how many images have each of `LABELS`."""

    median: float
    labels: dict[str, int]


def severities(rows: Sequence[dict]) -> dict[str, Severity]:
    """By artifact, from rows of `quantify.Result`."""
    result = {}
    for artifact in severity.curves():
        values = [row["severity"][artifact] for row in rows]
        counts = Counter(map(severity.label, values))
        result[artifact] = Severity(
            quartiles(values).median, {name: counts[name] for name in LABELS}
        )
    return result


def recommendation(rows: Sequence[dict]) -> str:
    """One line for all the images, from the median of each severity."""
    return severity.recommend({name: one.median for name, one in severities(rows).items()})


def text(rows: Sequence[dict]) -> str:
    """The printed table: quartiles of each measure, severities, and the recommendation."""
    lines = [f"{'measure':24s}{'lower':>10s}{'median':>10s}{'upper':>10s}  {'n':>6s}  unit"]
    for name, unit in measures.UNITS.items():
        if name in study.MEASURES:
            continue
        count, *values = quartiles(row[name] for row in rows)
        cells = "".join(f"{number(value):>10s}" for value in values)
        lines.append(f"{name:24s}{cells}  {count:6d}  {unit}")
    lines += ["", f"{'severity':24s}{'median':>10s}" + "".join(f"{x:>10s}" for x in LABELS)]
    for artifact, one in severities(rows).items():
        counts = "".join(f"{one.labels[name]:10d}" for name in LABELS)
        lines.append(f"{artifact.replace('_', ' '):24s}{number(one.median, 2):>10s}{counts}")
    lines += ["", f"recommended for the median image: {recommendation(rows)}"]
    return "\n".join(lines)


def number(value: float, digits: int = 4) -> str:
    """A number for people; a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.{digits}g}"


def verdicts(row: dict) -> dict[str, str]:
    """The study's verdict for each of its measures of one image; a dash where it has none."""
    valid = {name: row[name] for name in study.MEASURES}
    judged = study.severity({n: np.nan_to_num(v, nan=0.0) for n, v in valid.items()})
    return {
        name: "-" if math.isnan(value) else str(judged[_JUDGED[name]])
        for name, value in valid.items()
    }


def study_text(rows: Sequence[dict]) -> str:
    """The study's table with its verdicts, and a note on its error."""
    names = tuple(study.MEASURES)
    table = [("image", *names)]
    for row in rows:
        judged = verdicts(row)
        image = row["path"] if row["frames"] == 1 else f"{row['path']} frame {row['frame']}"
        table.append((image, *(f"{number(row[n], 5)} {judged[n]}" for n in names)))
    lines = [text_table.render(table, words=len(names) + 1)]
    strong = sum(verdicts(row)["salt_and_pepper_ratio"] == "strong" for row in rows)
    impulses = quartiles(row["salt"] + row["pepper"] for row in rows).median
    lines += ["", STUDY_NOTE]
    lines.append(
        f"Here it calls {strong} of {len(rows)} images strong; the median of impulse_density is "
        f"{number(impulses)}."
    )
    return "\n".join(lines)
