"""The tables of an evaluation as text: means by method, and differences with their tests."""

import math
from collections.abc import Iterable, Sequence

from lle_jax import text_table
from lle_jax.evaluation import statistics
from lle_jax.evaluation.measures import METRICS


def table(summary: Iterable[statistics.Summary], chosen: Sequence[str] | None = None) -> str:
    """Means +- standard deviations over images as text, the best of each column starred.

    Args:
      summary: of `statistics.summarise`.
      chosen: metrics to show, None for all.
    """
    chosen = tuple(METRICS) if chosen is None else chosen
    found = {(s.method, s.metric): s for s in summary}
    names = list(dict.fromkeys(method for method, _ in found))
    columns = [metric for metric in chosen if any((name, metric) in found for name in names)]
    lines = [["method", *(METRICS[metric].title for metric in columns)]]
    best = {
        metric: max(
            (found[n, metric].mean * METRICS[metric].better, n)
            for n in names if (n, metric) in found
        )[1]
        for metric in columns
    }  # fmt: skip
    for name in names:
        line = [name]
        for metric in columns:
            if (name, metric) not in found:
                line.append("-")
                continue
            cell, digits = found[name, metric], METRICS[metric].digits
            std = "" if math.isnan(cell.std) else f" +- {cell.std:.{digits}f}"
            star = "*" if best[metric] == name else " "
            line.append(f"{cell.mean:.{digits}f}{std}{star}")
        lines.append(line)
    return text_table.render(lines)


def comparison_table(comparisons: Sequence[statistics.Comparison]) -> str:
    """Differences with intervals, corrected p-values and effect sizes as text."""
    lines = []
    for c in comparisons:
        digits = METRICS[c.metric].digits + 1
        note = f"  {c.note}" if c.note else ""
        lines.append(
            f"{c.method} - {c.other}, {METRICS[c.metric].title}: {c.difference:+.{digits}f} "
            f"[{c.low:+.{digits}f}, {c.high:+.{digits}f}], p = {c.p_holm:.2g} (Holm), "
            f"effect {c.effect:+.2f}, n = {c.images}{note}"
        )
    return "\n".join(lines)
