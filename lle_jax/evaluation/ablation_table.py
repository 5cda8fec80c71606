"""The tables of an ablation: means over seeds, tests against the first variant, cost."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from lle_jax import text_table
from lle_jax.evaluation import statistics as tests
from lle_jax.evaluation.measures import METRICS
from lle_jax.models import cost

SIDE = 256  # pixels of the square image for which cost is stated


class Result(NamedTuple):
    """What a cell measured; `image` to `value` as of `statistics.Row`."""

    variant: str
    seed: int
    image: str
    realisation: str
    metric: str
    value: float
    unit: str = ""


class Entry(NamedTuple):
    """A variant on a metric. Differences are to the first variant, NaN of itself or untested.

    Attributes:
      variant, metric: of the line.
      seeds: number of seeds that are done.
      mean: over seeds of the mean over units (patients, or images).
      std: over seeds, sample standard deviation; NaN of one seed.
      difference, low, high, p_holm, effect, note: as of `statistics.Comparison`, by unit, the
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


class Difference(NamedTuple):
    """A variant less the first one, by unit; as of `statistics.Comparison`."""

    difference: float
    low: float
    high: float
    p_holm: float
    effect: float
    note: str


def summarise(results: Iterable[Result], base: str, costs: Mapping[str, cost.Cost]) -> list[Entry]:
    """The table, in the order of `costs`.

    Args:
      results: of all cells, on the same images. Realisations, like seeds, are averaged before
        images are compared.
      base: the variant that the others are compared with.
      costs: of the variants that have rows.

    Returns:
      an entry per metric and variant. Tests are made on the seeds that all those have.
    """
    results = list(results)
    rows, without = tests.defined(
        tests.Row(r.image, _cell(r.variant, r.seed), r.metric, r.value, r.realisation, r.unit)
        for r in results
    )
    results = [r for r in results if r.image not in without.get(r.metric, ())]
    untested = Difference(math.nan, math.nan, math.nan, math.nan, math.nan, "")
    seeds: dict[str, set[int]] = {}
    for r in results:
        seeds.setdefault(r.variant, set()).add(r.seed)
    values = tests.per_unit(rows) if rows else {}
    compared = _compare(results, base, seeds)
    table = []
    for metric, (cells_of, _) in values.items():
        for variant in costs:
            means = [
                statistics.fmean(cells_of[_cell(variant, seed)]) for seed in sorted(seeds[variant])
            ]
            std = statistics.stdev(means) if len(means) > 1 else math.nan
            difference = compared.get((metric, variant), untested)
            mean = statistics.fmean(means)
            entry = Entry(variant, metric, len(means), mean, std, *difference, *costs[variant])
            if images := without.get(metric):
                said = f"{metric} is not defined for {len(images)} images, which are left out"
                entry = entry._replace(note="; ".join(filter(None, (entry.note, said))))
            table.append(entry)
    return table


def _cell(variant: str, seed: int) -> str:
    return f"{variant}, seed {seed}"


def _compare(
    results: Sequence[Result], base: str, seeds: Mapping[str, set[int]]
) -> dict[tuple[str, str], Difference]:
    """(metric, variant) -> its difference to the base, on the seeds that all variants have."""
    common = set.intersection(*seeds.values()) if seeds else set()
    if base not in seeds or not common:
        return {}
    paired = [
        tests.Row(r.image, r.variant, r.metric, r.value, f"{r.realisation}, seed {r.seed}", r.unit)
        for r in results
        if r.seed in common
    ]
    missing = len(set.union(*seeds.values())) - len(common)
    partly = f"on {len(common)} of {len(common) + missing} seeds" if missing else ""
    return {
        # `compare` has the base minus the others
        (c.metric, c.other): Difference(
            -c.difference,
            -c.high,
            -c.low,
            c.p_holm,
            -c.effect,
            "; ".join(filter(None, (c.note, partly))),
        )
        for c in tests.compare(paired, base)
    }


def cells(entry: Entry) -> list[Any]:
    return ["" if isinstance(x, float) and math.isnan(x) else x for x in entry]


def text(table: Sequence[Entry], seconds: Mapping[str, float] | None = None) -> str:
    """The table in Markdown, a line per variant; with seconds per image where they are given."""
    if not table:
        return "no cell is done"
    header, *body = _lines(table, seconds)
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *body]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
    notes = dict.fromkeys(entry.note for entry in table if entry.note)
    about = (
        "Means +- standard deviations over seeds; differences to the first variant and their tests "
        f"are over images\n(or patients; Wilcoxon, corrected by Holm); cost for {SIDE} x {SIDE} "
        "pixels."
    )
    return "\n".join([*rows, "", about, *notes])


def latex(table: Sequence[Entry], seconds: Mapping[str, float] | None = None) -> str:
    """The same table as LaTeX, the best mean of each metric in bold."""
    if not table:
        return "% no cell is done"
    variants = list(dict.fromkeys(entry.variant for entry in table))
    bold = set()
    for number, metric in enumerate(dict.fromkeys(entry.metric for entry in table)):
        if not METRICS[metric].better:
            continue
        scores = {e.variant: e.mean * METRICS[metric].better for e in table if e.metric == metric}
        best = max(scores.values())
        # after the variant and its seeds, each metric has a mean and a difference
        bold |= {(1 + variants.index(v), 2 + 2 * number) for v in scores if scores[v] == best}
    return text_table.latex(_lines(table, seconds), bold)


def _lines(table: Sequence[Entry], seconds: Mapping[str, float] | None) -> list[list[str]]:
    """The header and a line per variant."""
    metrics = list(dict.fromkeys(entry.metric for entry in table))
    header = ["variant", "seeds"]
    for metric in metrics:
        header += [METRICS[metric].title, "difference [95 %], p"]
    header += ["parameters", "G MACs"] + ["ms per image"] * bool(seconds)
    summaries = {(entry.variant, entry.metric): entry for entry in table}
    lines = [header]
    for variant in dict.fromkeys(entry.variant for entry in table):
        first = summaries[variant, metrics[0]]
        line = [variant, str(first.seeds)]
        for metric in metrics:
            line += _pair(summaries[variant, metric])
        line += [f"{first.parameters:,}", f"{first.macs / 1e9:.2f}"]
        if seconds:
            line.append(f"{1e3 * seconds[variant]:.0f}")
        lines.append(line)
    return lines


def _pair(entry: Entry) -> tuple[str, str]:
    digits = METRICS[entry.metric].digits
    value = f"{entry.mean:.{digits}f}"
    if not math.isnan(entry.std):
        value += f" +- {entry.std:.{digits}f}"
    if math.isnan(entry.difference):
        return value, ""
    low, high = f"{entry.low:+.{digits}f}", f"{entry.high:+.{digits}f}"
    return value, f"{entry.difference:+.{digits}f} [{low}, {high}], {entry.p_holm:.2g}"
