"""Measuring files: what `lle quantify` does.

Each frame's measures are added to a journal (`lle_jax.jobs`) as soon as they are known, by the
SHA-256 of the file and the number of the frame, so that a command that is stopped at any moment and
repeated loses at most the frames that it was at. At the end the tables are written.
"""

import csv
import io
import json
import math
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lle_jax
from lle_jax import images, jobs
from lle_jax.artifacts import measures, severity
from lle_jax.files import remove_abandoned, write_bytes
from lle_jax.images.errors import shown
from lle_jax.images.files import refusal

JOURNAL = ".lle-quantify.jsonl"
RECORDS = "measures.jsonl"
TABLE = "measures.csv"
UNREADABLE = "unreadable.csv"
PAGE = "index.html"

# What is recorded of a file besides its measures.
_FILE = ("frame", "frames", "format", "height", "width", "channels", "jpeg_quality_from")
_THREADS = 4


class Result(NamedTuple):
    """Measures of files.

    Attributes:
      rows: one dictionary per frame in the order of the files: `path` to show and `source` to
        open, `frame` and so on, each measure by name (NaN where there is none), `severity`, a
        dictionary by artifact, and `recommendation`.
      failures: path and reason of each file that could not be read.
      others: pictures that were skipped, as of `images.scan`.
      outcome: what became of each file; None for a result that no run made.
    """

    rows: list[dict[str, Any]]
    failures: list[tuple[str, str]]
    others: Sequence[Path] = ()
    outcome: jobs.Outcome[Path] | None = None

    @property
    def unreadable(self) -> list[tuple[str, str]]:
        """Path and reason of the failures and of the files of other formats."""
        skipped = [(shown(p), refusal(p).removeprefix(f"{shown(p)}: ")) for p in self.others]
        return [*self.failures, *skipped]


def _line(record: Mapping[str, Any]) -> str:
    """Formats one line of JSON, which has no NaN."""
    plain = {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in record.items()
    }
    return json.dumps(plain, allow_nan=False) + "\n"


def quantify(inputs: Iterable[Path], output: Path | None = None, progress: bool = True) -> Result:
    """Measures every frame of images and folders, in threads.

    At any time as many pictures are in memory as there are threads, at most four.

    Args:
      inputs: files and folders (`images.scan`).
      output: folder of the journal and tables, made if it does not exist: what is recorded there
        is not measured again. None writes nothing.
      progress: show it.

    Raises:
      ImageError: if an input does not exist or holds no image, or `output` holds other files by
        the names that are written.
    """
    paths, others = images.scan(inputs)
    if output is not None:
        _own(output)
        output.mkdir(parents=True, exist_ok=True)
        remove_abandoned(output)
    path = None if output is None else output / JOURNAL
    journal = jobs.Journal(path, {"lle_jax": lle_jax.__version__})
    stop = threading.Event()
    contents: dict[Path, str] = {}
    measured: set[str] = set()  # contents, by this run

    def finished(path: Path, _: dict[str, Any] | None) -> bool:
        contents[path] = images.sha256(path)
        first = _measured(journal, contents[path], 0)
        return first is not None and all(
            _measured(journal, contents[path], number) for number in range(first["frames"])
        )

    def measure(path: Path) -> dict[str, Any]:
        measured.add(contents[path])
        _measure_frames(path, contents[path], journal, stop)
        return {}

    # work is recorded by frame, not by file, so that a long film resumes inside
    outcome = jobs.run(
        paths,
        measure,
        progress=progress,
        finished=finished,
        label=shown,
        threads=min(_THREADS, os.cpu_count() or 1),
        stop=stop,
    )
    duplicates = [path for path in outcome.skipped if contents[path] in measured]
    outcome = outcome._replace(duplicates=duplicates)
    result = _collect(paths, contents, journal, outcome, others)
    if output is not None:
        _write(output, result)
    return result


def _measured(journal: jobs.Journal, content: str, number: int) -> dict[str, Any] | None:
    """Returns what is recorded of a frame, NaN for a measure that it has not, or None."""
    record = journal.done(f"{content}:{number}")
    if record is None or any(name not in record for name in (*_FILE, *measures.UNITS)):
        return None
    values = {name: record[name] for name in (*_FILE, *measures.UNITS)}
    for name in measures.UNITS:
        values[name] = math.nan if values[name] is None else values[name]
    return {"lle_jax": lle_jax.__version__, "sha256": content} | values


def _own(output: Path) -> None:
    """Raises ImageError if a result would replace a file that lle quantify did not write."""
    if (output / JOURNAL).exists() or (output / RECORDS).exists():
        return
    for name in (TABLE, UNREADABLE, PAGE):
        if (output / name).exists():
            raise images.ImageError(
                f"{shown(output / name)} is not of lle quantify and would be replaced; choose "
                "another output folder"
            )


def _measure_frames(path: Path, content: str, journal: jobs.Journal, stop: threading.Event) -> None:
    """Records each frame of a file that is not recorded."""
    if stop.is_set():
        return
    picture = images.read(path)
    stack = picture.pixels if picture.pixels.ndim == 4 else picture.pixels[None]
    quality = measures.header_quality(path) if picture.format == "jpeg" else None
    for number, frame in enumerate(stack):
        if _measured(journal, content, number) is not None:
            continue
        if stop.is_set():
            break
        about = (number, len(stack), picture.format, *frame.shape)
        about = (*about, "pixels" if quality is None else "header")
        values = dict(zip(_FILE, about, strict=True)) | measures.measure(frame, quality)
        journal.record(f"{content}:{number}", jobs.DONE, **values)


def _collect(
    paths: Sequence[Path],
    contents: Mapping[Path, str],
    journal: jobs.Journal,
    outcome: jobs.Outcome[Path],
    others: Sequence[Path],
) -> Result:
    reasons = dict(outcome.failed)
    rows: list[dict[str, Any]] = []
    for path in paths:
        number, frames = 0, 0 if path in reasons else 1
        while number < frames:
            record = _measured(journal, contents[path], number)
            assert record is not None
            number, frames = number + 1, record["frames"]
            levels = severity.severity(record)
            rows.append(
                {"path": shown(path), "source": path}
                | record
                | {"severity": levels, "recommendation": severity.recommend(levels)}
            )
    failures = [
        (shown(path), reason.removeprefix(f"{shown(path)}: ")) for path, reason in outcome.failed
    ]
    return Result(rows, failures, others, outcome)


def _write(output: Path, result: Result) -> None:
    write_bytes(output / TABLE, _csv(result.rows).encode())
    failed = [{"path": path, "reason": reason} for path, reason in result.unreadable]
    write_bytes(output / UNREADABLE, _table(("path", "reason"), failed).encode())
    lines = "".join(_line(flat(row) | {"sha256": row["sha256"], "lle_jax": row["lle_jax"]})
                    for row in result.rows)  # fmt: skip
    write_bytes(output / RECORDS, lines.encode())


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """The cells of a row of `Result.rows` in the order of the table."""
    cells = {name: row[name] for name in ("path", *_FILE, *measures.UNITS)}
    cells |= {f"severity_{artifact}": value for artifact, value in row["severity"].items()}
    return cells | {"recommendation": row["recommendation"]}


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    artifacts = tuple(f"severity_{artifact}" for artifact in severity.curves())
    names = ("path", *_FILE, *measures.UNITS, *artifacts, "recommendation")
    return _table(names, map(flat, rows))


def _table(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        # a spreadsheet takes what begins like this for a formula; the path is the same
        path = f"./{row['path']}" if row["path"].startswith(tuple("=+-@")) else row["path"]
        cells = {
            name: "" if isinstance(value, float) and math.isnan(value) else value
            for name, value in row.items()
        }
        writer.writerow(cells | {"path": path})
    return text.getvalue()
