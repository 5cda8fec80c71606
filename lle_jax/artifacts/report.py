"""The page of `lle quantify`: one HTML file of bounded size that loads nothing from outside.

Everything that comes from files (their names, what is wrong with them) is escaped, and the page's
own policy lets no script run but its own, by its hash, and nothing be loaded.
"""

import base64
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

import lle_jax
from lle_jax import images, pages
from lle_jax.artifacts import maps, measures, severity, study, tables
from lle_jax.artifacts.quantify import Result
from lle_jax.files import write_bytes
from lle_jax.pages import NAME, text

ROWS = 1000
PICTURES = 24
_SIDE = 128
_BINS = 24
_COLUMNS = tuple(name for name in measures.UNITS if name not in study.MEASURES)


def write(path: Path, result: Result, dicom_pictures: bool = False) -> None:
    """Writes the page, atomically.

    It has at most the 1,000 most severe images in its table, and pictures of at most the 24 most
    severe: their files are read again.

    Args:
      path: of the page; the folder exists.
      result: of `quantify.quantify`.
      dicom_pictures: also show pictures of DICOM images, which may have a name burnt in.
    """
    worst = sorted(result.rows, key=_worst, reverse=True)
    listed = {id(row) for row in worst[:ROWS]}
    rows = [row for row in result.rows if id(row) in listed]
    pictures = _pictures(worst, dicom_pictures)
    page = pages.fill(
        Path(__file__).with_suffix(".html"),
        report=True,
        images=_count(len(result.rows), "image"),
        failed=f"{_count(len(result.unreadable), 'file')} could not be read",
        recommendation=text(tables.recommendation(result.rows)) if rows else "nothing",
        severities=_severities(result.rows),
        histograms="\n".join(_histogram(name, result.rows) for name in _COLUMNS),
        shown=_shown(len(rows), len(result.rows)),
        table=_table(rows),
        pictured=_pictured(len(pictures), result.rows, dicom_pictures),
        pictures="\n".join(pictures),
        unreadable=_unreadable(result.unreadable),
        version=text(lle_jax.__version__),
    )
    write_bytes(path, page)


def _worst(row: dict) -> float:
    return max((v for v in row["severity"].values() if not math.isnan(v)), default=-1.0)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _shown(listed: int, total: int) -> str:
    if listed == total:
        return ""
    return f"The {listed:,} most severe of {total:,}; the others are in measures.csv."


def _severities(rows: Sequence[dict]) -> str:
    heads = "".join(f'<th scope="col">{label}</th>' for label in tables.LABELS)
    lines = []
    for artifact, result in tables.severities(rows).items():
        counts = "".join(f"<td>{result.labels[label]}</td>" for label in tables.LABELS)
        name = artifact.replace("_", " ")
        lines.append(
            f'<tr><th scope="row" class="name">{name}</th>'
            f"<td>{tables.number(result.median, 2)}</td>"
            f"<td>{_shares(result.labels)}</td>{counts}</tr>"
        )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Severity by artifact"><table>'
        '<thead><tr><th scope="col" class="name">artifact</th><th scope="col">median</th>'
        f'<th scope="col">images</th>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _shares(labels: dict[str, int]) -> str:
    """Draws a bar of the images' labels; their numbers are in the next cells for screen readers."""
    total, start, parts = max(sum(labels.values()), 1), 0.0, []
    for label, count in labels.items():
        width = 100 * count / total
        parts.append(f'<rect class="{label}" x="{start:.2f}" width="{width:.2f}" height="10"/>')
        start += width
    return (
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(parts)}</svg>"
    )


def _histogram(name: str, rows: Sequence[dict]) -> str:
    values = np.array([row[name] for row in rows], np.float64)
    values = values[~np.isnan(values)]
    quartiles = tables.quartiles(values)
    summary = (
        f"median {tables.number(quartiles.median)}, quartiles {tables.number(quartiles.lower)} and "
        f"{tables.number(quartiles.upper)}, n = {quartiles.n}"
    )
    bars, ends = "", ("", "")
    if len(values):
        counts, edges = np.histogram(values, _BINS)
        height = 100 * counts / counts.max()
        bars = "".join(
            f'<rect x="{10 * i}" y="{100 - h:.1f}" width="9" height="{h:.1f}"/>'
            for i, h in enumerate(height)
            if h
        )
        ends = (tables.number(float(edges[0])), tables.number(float(edges[-1])))
    return (
        f'<figure><svg class="histogram" viewBox="0 0 {10 * _BINS} 100" role="img" '
        f'preserveAspectRatio="none" aria-label="Histogram of {name}: {summary}">{bars}</svg>'
        f'<div class="ends"><span>{ends[0]}</span><span>{ends[1]}</span></div>'
        f"<figcaption><strong>{name}</strong> ({measures.UNITS[name]}): {summary}</figcaption>"
        "</figure>"
    )


def _table(rows: Sequence[dict]) -> str:
    artifacts = [name.replace("_", " ") for name in severity.curves()]
    heads = ("image", "frame", "height", "width", *artifacts, "recommendation", *_COLUMNS)
    return pages.table(heads, {"image", "recommendation"}, map(_row, rows), "Table of images")


def _row(row: dict) -> str:
    cells = [f'<th scope="row"{NAME}>{text(row["path"])}</th>']
    cells += [f"<td>{row[name]}</td>" for name in ("frame", "height", "width")]
    cells += [_severity(value) for value in row["severity"].values()]
    cells.append(f"<td{NAME}>{text(row['recommendation'])}</td>")
    cells += [_value(row[name]) for name in _COLUMNS]
    return f"<tr>{''.join(cells)}</tr>"


def _value(value: float) -> str:
    if math.isnan(value):
        return '<td data-value="">-</td>'
    return f'<td data-value="{value:.6g}">{tables.number(value)}</td>'


def _severity(value: float) -> str:
    if math.isnan(value):
        return '<td data-value="">-</td>'
    bar = (
        '<svg class="bar small" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{severity.label(value)}" width="{100 * value:.0f}" height="10"/></svg>'
    )
    return f'<td data-value="{value:.6g}">{value:.2f} {bar}</td>'


def _pictures(worst: Iterable[dict], dicom: bool) -> list[str]:
    """Of the first rows whose files can still be read, one frame each in memory at a time."""
    shown: list[str] = []
    for row in worst:
        if len(shown) == PICTURES:
            break
        if row["format"] == "dicom" and not dicom:
            continue
        try:
            pixels = images.read(row["source"]).pixels
        except images.ImageError:
            continue
        shown.append(_picture(row, pixels if pixels.ndim == 3 else pixels[row["frame"]]))
    return shown


def _picture(row: dict, image: np.ndarray) -> str:
    name = row["path"] if row["frames"] == 1 else f"{row['path']}, frame {row['frame']}"
    parts = [_figure(_png(maps.reduced(image, _SIDE)), "image", f"{name}")]
    for title, values in maps.maps(image).items():
        small = maps.reduced(values[..., None].astype(np.float32, copy=False), _SIDE)
        white = float(np.quantile(small, 0.99))
        shown = _png(small / max(white, 1e-9))
        parts.append(_figure(shown, f"{title}: {white:.3g}", f"{title} of {name}"))
    return (
        f'<article><h3 class="name">{text(name)}</h3><p>{text(row["recommendation"])}</p>'
        f'<div class="maps">{"".join(parts)}</div></article>'
    )


def _figure(png: bytes, caption: str, alternative: str) -> str:
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{text(alternative)}">'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def _png(image: np.ndarray) -> bytes:
    levels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    # OpenCV's order of colours is blue, green, red
    return cv2.imencode(".png", np.ascontiguousarray(levels[..., ::-1]))[1].tobytes()


def _pictured(count: int, rows: Sequence[dict], dicom: bool) -> str:
    said = f"Of {_count(count, 'image')}, the most severe; at most {PICTURES}."
    if not dicom and any(row["format"] == "dicom" for row in rows):
        said += (
            " DICOM images are not shown, as a name may be burnt in; --dicom-pictures shows them."
        )
    return said


def _unreadable(failures: Sequence[tuple[str, str]]) -> str:
    if not failures:
        return "<p>None.</p>"
    lines = "".join(
        f'<tr><th scope="row"{NAME}>{text(path)}</th><td{NAME}>{text(reason)}</td></tr>\n'
        for path, reason in failures[:ROWS]
    )
    more = f"<p>The first {ROWS:,}; all are in unreadable.csv.</p>" if len(failures) > ROWS else ""
    heads = "".join(f'<th scope="col"{NAME}>{head}</th>' for head in ("file", "reason"))
    return (
        f'{more}<div class="scroll" tabindex="0" role="region" aria-label="Files not read">'
        f"<table><thead><tr>{heads}</tr></thead><tbody>\n{lines}</tbody></table></div>"
    )
