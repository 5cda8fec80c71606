"""The page of `lle evaluate`: one HTML file that works offline, from an e-mail.

What comes from files is escaped, and the page's own policy lets nothing be loaded (see
`lle_jax.pages`).
"""

import base64
import json
import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from lle_jax import jobs, pages
from lle_jax.evaluation import curves as curves_of
from lle_jax.evaluation import measures, panels, statistics, suite, surfaces
from lle_jax.evaluation.evaluate import EvaluationResult
from lle_jax.evaluation.measures import GROUPS, METRICS, Metric
from lle_jax.evaluation.methods import Method
from lle_jax.files import write_bytes
from lle_jax.pages import NAME, text

PICTURES = 24
WORST = 10
_ARROWS = {1: "↑", -1: "↓", 0: ""}  # by Metric.better
_SIDE = 384  # of a picture, at most
_LISTS = {
    "psnr": "least gain in PSNR over the input",
    "structure_added": "most structure added",
    "hallucination_rate": "most patches unlike the truth",
} | {name: f"most {name.replace('_', ' ')}" for name in GROUPS["invention"]}


def write(
    folder: Path,
    result: EvaluationResult,
    methods: Sequence[Method],
    curves: Path | None = None,
) -> None:
    """Writes index.html into the evaluation's folder, atomically.

    Args:
      folder: that `evaluate.evaluate` wrote.
      result: what it returned.
      methods: all that were evaluated, to show what they make of the pictured cases.
      curves: a training's scalars.csv, to show its curves.
    """
    summary = {(s.method, s.metric): s for s in result.summary}
    worst = _worst(result)
    shown = _pictured(result, worst)
    data = _viewer_data(result, methods, shown, summary)
    record = result.record
    page = pages.fill(
        Path(__file__).with_suffix(".html"),
        report=True,
        suite=text(record["suite"]),
        description=_description(record["settings"].get("description", "")),
        warnings=_warnings(record),
        summary=_summary(summary),
        intervals="\n".join(_interval_plot(metric, summary) for metric in METRICS),
        comparisons=pages.table(
            _COMPARED, _WORDS, _compared(result.comparisons), "Paired comparisons"
        ),
        subgroups=_subgroups(result),
        surfaces=surfaces.figures(result),
        training=_training(curves),
        worst=_worst_lists(worst, shown),
        pictured=f"{len(shown)} of {len(result.cases)} cases",
        record=_record(record),
        data=json.dumps(data).replace("<", "\\u003c"),
    )
    write_bytes(folder / "index.html", page)


def _description(line: str) -> str:
    return f"<p>{text(line)}.</p>" if line else ""


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _warnings(record: dict) -> str:
    warnings = record["warnings"].items()
    lines = [f"{text(name)}: {text('; '.join(notes))}." for name, notes in warnings]
    if record["rejected"]:
        lines.append(f"{record['rejected']} files were skipped.")
    if not lines:
        return ""
    return "<ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>"


def _summary(summary: dict) -> str:
    names = list(dict.fromkeys(method for method, _ in summary))
    columns = [metric for metric in METRICS if any((name, metric) in summary for name in names)]
    lines = []
    for name in names:
        cells = [f'<th scope="row"{NAME}>{text(name)}</th>']
        for metric in columns:
            cell = summary.get((name, metric))
            if cell is None:
                cells.append('<td data-value="">-</td>')
                continue
            digits = METRICS[metric].digits
            cells.append(
                f'<td data-value="{cell.mean:.6g}">{_number(cell.mean, digits)}'
                f"{_deviation(cell, METRICS[metric])}</td>"
            )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    heads = [
        "method",
        *(f"{METRICS[m].title} {_ARROWS[METRICS[m].better]}".strip() for m in columns),
    ]
    return pages.table(heads, heads[:1], lines, "Means")


def _deviation(cell: statistics.Summary, metric: Metric) -> str:
    """The interval of a mean, or the standard deviation where that is what the metric says."""
    if math.isnan(cell.low):  # of one image
        return ""
    digits = metric.digits
    interval = f"{cell.low:.{digits}f} to {cell.high:.{digits}f}"
    said = interval if metric.better else f"± {cell.std:.{digits}f}"
    return f'<span class="spread">{said}</span>'


def _interval_plot(metric: str, summary: dict) -> str:
    cells = [cell for (_, name), cell in summary.items() if name == metric]
    if len(cells) < 2 or not METRICS[metric].better:
        return ""
    ends = [v for c in cells for v in (c.mean, c.low, c.high) if not math.isnan(v)]
    low, high = min(ends), max(ends)
    scale = 240 / (high - low or 1)

    def x(value: float) -> float:
        return 130 + (value - low) * scale

    title, better, digits = METRICS[metric][:3]
    parts = []
    for row, cell in enumerate(cells):
        y = 14 + 18 * row
        name = cell.method if len(cell.method) <= 18 else cell.method[:17] + "…"
        parts.append(f'<text x="120" y="{y + 4}" text-anchor="end">{text(name)}</text>')
        if not math.isnan(cell.low):
            parts.append(
                f'<line x1="{x(cell.low):.1f}" x2="{x(cell.high):.1f}" y1="{y}" y2="{y}"/>'
            )
        parts.append(f'<circle cx="{x(cell.mean):.1f}" cy="{y}" r="4"/>')
    height = 14 + 18 * len(cells)
    summary_text = "; ".join(f"{c.method} {_number(c.mean, digits)}" for c in cells)
    return (
        f'<figure><svg class="intervals" viewBox="0 0 390 {height}" role="img" '
        f'aria-label="{text(f"{title}: {summary_text}")}">{"".join(parts)}</svg>'
        f'<div class="ends"><span>{_number(low, digits)}</span>'
        f"<span>{_number(high, digits)}</span></div><figcaption><strong>{text(title)}</strong>, "
        f"{'more' if better > 0 else 'less'} is better; mean and 95 % interval over "
        f"{statistics.counted(cells[0])}</figcaption></figure>"
    )


_COMPARED = ("method", "other", "metric", "difference", "95 % interval", "p (Holm)", "effect",
             "images", "units", "note")  # fmt: skip
_WORDS = ("method", "other", "metric", "note")


def _compared(comparisons: Sequence[statistics.Comparison], group: str | None = None) -> list[str]:
    lines = []
    for c in comparisons:
        metric = METRICS[c.metric]
        digits = metric.digits + 1
        better = c.difference * metric.better
        sure = c.p_holm < 0.05
        kind = ("better" if better > 0 else "worse") if sure else "unsure"
        words = [c.method, c.other, metric.title]
        words = words if group is None else [group, *words]
        cells = [f"<td{NAME}>{text(word)}</td>" for word in words]
        cells += [
            f'<td data-value="{c.difference:.6g}" class="{kind}">{c.difference:+.{digits}f}</td>',
            f'<td data-value="{c.low:.6g}">{_number(c.low, digits)} to '
            f"{_number(c.high, digits)}</td>",
            f'<td data-value="{c.p_holm:.6g}">{c.p_holm:.2g}</td>',
            f'<td data-value="{c.effect:.6g}">{c.effect:+.2f}</td>',
            f"<td>{c.images}</td>",
            f"<td>{c.units}</td>",
            f"<td{NAME}>{text(c.note)}</td>",
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return lines


def _subgroups(result: EvaluationResult) -> str:
    lines = []
    for group, comparisons in result.subgroups:
        chosen = [c for c in comparisons if c.other == "low" and c.metric in ("psnr", "ssim")]
        lines += _compared(chosen, group)
    if not lines:
        return "<p>There is one group only.</p>"
    return pages.table(("group", *_COMPARED), ("group", *_WORDS), lines, "Subgroups")


def _training(scalars: Path | None) -> str:
    if scalars is None:
        return ""
    return (
        '<section id="training" aria-labelledby="training-title">'
        '<h2 id="training-title">Training</h2>'
        f'<div class="plots">{curves_of.figures(scalars)}</div></section>'
    )


def _worst(result: EvaluationResult) -> dict[str, list[tuple[str, float]]]:
    """Lists the worst cases of the first method by metric: labels and values."""
    if not result.methods:
        return {}
    values: dict[tuple[str, str, str], float] = {}
    for row in result.rows:
        values[row.method, row.metric, suite.label(row.image, row.realisation)] = row.value
    labels = list(dict.fromkeys(label for *_, label in values))
    first, lists = result.methods[0], {}
    for metric in _LISTS:
        entries = []
        for label in labels:
            if (first, metric, label) in values:
                value = values[first, metric, label]
                if metric == "psnr":
                    value -= values["low", metric, label]
                entries.append((label, value))
        if not entries:  # not measured
            continue
        entries.sort(key=lambda item: item[1] * METRICS[metric].better)
        lists[metric] = entries[:WORST]
    return lists


def _pictured(result: EvaluationResult, worst: dict) -> list[str]:
    """Chooses the worst cases by any list, then others evenly spaced."""
    labels = [suite.label(*key) for key in result.cases]
    chosen = [label for entries in worst.values() for label, _ in entries[:WORST]]
    evenly = np.linspace(0, len(labels) - 1, min(PICTURES, len(labels))).astype(int)
    keep = list(dict.fromkeys(chosen))[: PICTURES - 6]
    keep += [labels[i] for i in evenly[:: max(1, len(evenly) // 12)]]
    kept = set(list(dict.fromkeys(keep))[:PICTURES])
    return [label for label in labels if label in kept]


def _worst_lists(worst: dict, shown: list[str]) -> str:
    parts = []
    for metric, entries in worst.items():
        digits = METRICS[metric].digits
        lines = []
        for label, value in entries:
            said = f"{text(label)}: {value:.{digits}f}"
            if label in shown:
                said = f'<button type="button" data-case="{text(label)}">{said}</button>'
            lines.append(f"<li>{said}</li>")
        parts.append(f"<div><h3>{_LISTS[metric]}</h3><ol>{''.join(lines)}</ol></div>")
    return f'<div class="lists">{"".join(parts)}</div>'


def _viewer_data(
    result: EvaluationResult, methods: Sequence[Method], shown: list[str], summary: dict
) -> dict:
    """Encodes pictures as data URIs, with the metrics of each, for the script."""
    baselines = [m for m in methods if m.name not in result.methods]
    best = max(baselines, key=lambda m: summary[m.name, "psnr"].mean, default=None)
    drawn = [m for m in methods if m.name in result.methods] + ([best] if best else [])
    values: dict[str, dict[str, dict[str, float]]] = {}
    for row in result.rows:
        label = suite.label(row.image, row.realisation)
        if label in shown:
            values.setdefault(label, {}).setdefault(row.method, {})[row.metric] = row.value
    cases = []
    with jobs.progress("pictures", len(shown), "case") as bar:
        for case in result.suite.cases(shown):
            cases.append(
                _pictures(case, drawn, result.methods[:1]) | {"metrics": values[case.label]}
            )
            bar.update()
    titles = {name: [m.title, m.digits] for name, m in METRICS.items()}
    return {"cases": cases, "metrics": titles}


def _pictures(case: suite.Case, drawn: Sequence[Method], marked: Sequence[str]) -> dict:
    """Encodes a case's pictures; of the methods in `marked` also where spots and lines changed."""
    outputs = {m.name: m.enhance_case(case) for m in drawn}
    images = {"low": case.low} | outputs | {"clean": case.clean}
    for name in marked:
        maps = measures.invention_maps(outputs[name], case.clean)
        images[f"{name}: added red, lost blue"] = panels.mark(outputs[name], *maps, side=_SIDE)
    height, width = case.clean.shape[:2]
    return {
        "label": case.label,
        "size": [width, height],
        "images": {name: data_uri(image, _SIDE) for name, image in images.items()},
    }


def data_uri(image: np.ndarray, largest: int) -> str:
    """Encodes `[H, W, C]` in [0, 1] for a page, reduced to at most `largest` pixels a side."""
    levels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    scale = largest / max(levels.shape[:2])
    if scale < 1:
        levels = cv2.resize(levels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        levels = levels if levels.ndim == 3 else levels[..., None]
    # OpenCV's order of colours is blue, green, red
    data = cv2.imencode(
        ".webp", np.ascontiguousarray(levels[..., ::-1]), [cv2.IMWRITE_WEBP_QUALITY, 90]
    )[1]
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode()


def _record(record: dict) -> str:
    git = record.get("git") or {}
    lines = {
        "suite": f"{record['suite']}, fingerprint {record['fingerprint']}",
        "images": record["images"],
        "metrics": record["metrics"],
        "lle_jax": record["lle_jax"],
        "commit": git.get("commit", "not in a checkout")
        + (", changed" if git.get("dirty") else ""),
        "python": record["python"],
        "packages": ", ".join(f"{k} {v}" for k, v in record["packages"].items() if v),
        "devices": ", ".join(record["devices"]),
        "started": record["started"],
    }
    lines |= {f"method {k}": json.dumps(v, default=str) for k, v in record["records"].items()}
    rows = "".join(
        f'<tr><th scope="row"{NAME}>{text(k)}</th><td{NAME}>{text(v)}</td></tr>\n'
        for k, v in lines.items()
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Record">'
        f"<table><tbody>{rows}</tbody></table></div>"
    )
