"""The printed tables of an evaluation, as text and as LaTeX."""

import math
from collections.abc import Iterable, Sequence

from lle_jax import text_table
from lle_jax.evaluation import statistics
from lle_jax.evaluation.evaluate import EvaluationResult
from lle_jax.evaluation.measures import METRICS


def table(summary: Iterable[statistics.Summary], chosen: Sequence[str] | None = None) -> str:
    """Formats means +- standard deviations over units, the best of each column starred.

    Args:
      summary: of `statistics.summarise`.
      chosen: metrics to show, None for all.
    """
    rows, best = _cells(summary, chosen)
    starred = [
        [cell + ("*" if (y, x) in best else " ") if x and y else cell for x, cell in enumerate(row)]
        for y, row in enumerate(rows)
    ]
    return text_table.render(starred)


def latex(summary: Iterable[statistics.Summary], chosen: Sequence[str] | None = None) -> str:
    """Formats the same table as LaTeX, the best of each column in bold."""
    return text_table.latex(*_cells(summary, chosen))


def _cells(
    summary: Iterable[statistics.Summary], chosen: Sequence[str] | None
) -> tuple[list[list[str]], set[tuple[int, int]]]:
    """Returns the header and the rows, and (row, column) of the best cells."""
    cells = {(s.method, s.metric): s for s in summary}
    names = list(dict.fromkeys(method for method, _ in cells))
    chosen = tuple(METRICS) if chosen is None else chosen
    columns = [metric for metric in chosen if any((name, metric) in cells for name in names)]
    rows = [["method", *(METRICS[metric].title for metric in columns)]]
    for name in names:
        row = [name]
        for metric in columns:
            cell, digits = cells.get((name, metric)), METRICS[metric].digits
            if cell is None:
                row.append("-")
                continue
            std = "" if math.isnan(cell.std) else f" +- {cell.std:.{digits}f}"
            row.append(f"{cell.mean:.{digits}f}{std}")
        rows.append(row)
    best = set()
    for x, metric in enumerate(columns, start=1):
        if not METRICS[metric].better:
            continue
        scores = {
            (y, x): cells[name, metric].mean * METRICS[metric].better
            for y, name in enumerate(names, start=1)
            if (name, metric) in cells
        }
        best |= {place for place, score in scores.items() if score == max(scores.values())}
    return rows, best


def verdict(result: EvaluationResult) -> str:
    """Describes the gain of the first method over its input and each metric's best baseline."""
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


def comparison_table(comparisons: Sequence[statistics.Comparison]) -> str:
    """Formats differences with intervals, corrected p-values and effect sizes."""
    lines = []
    for c in comparisons:
        digits = METRICS[c.metric].digits + 1
        note = f"  {c.note}" if c.note else ""
        lines.append(
            f"{c.method} - {c.other}, {METRICS[c.metric].title}: {c.difference:+.{digits}f} "
            f"[{c.low:+.{digits}f}, {c.high:+.{digits}f}], p = {c.p_holm:.2g} (Holm), "
            f"effect {c.effect:+.2f}, n = {statistics.counted(c)}{note}"
        )
    return "\n".join(lines)
