"""Measuring files: what `lle quantify` does.

Each frame's measures are appended to `measures.jsonl` as soon as they are known, by the SHA-256 of
the file and the number of the frame, so that a command that is stopped at any moment and repeated
loses at most the images it was at. At the end that file is put in order and the table written.
"""

import concurrent.futures
import contextlib
import csv
import functools
import io
import json
import math
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import tqdm

import lle_jax
from lle_jax import images
from lle_jax.artifacts import measures, severity
from lle_jax.files import write_bytes
from lle_jax.images.errors import shown

RECORDS = "measures.jsonl"
TABLE = "measures.csv"
UNREADABLE = "unreadable.csv"
PAGE = "index.html"

# What is kept of a file besides its measures.
_FILE = ("frame", "frames", "format", "height", "width", "channels", "jpeg_quality_from")
_THREADS = 4


class Result(NamedTuple):
    """What `quantify` found.

    Attributes:
      rows: one dictionary per frame in the order of the files: `path` to show and `source` to
        open, `frame` and so on, each measure by name (NaN where there is none), `severity`, a
        dictionary by artifact, and `recommendation`.
      failures: path and reason of each file that could not be read.
    """

    rows: list[dict]
    failures: list[tuple[str, str]]


class Journal:
    """The records of a folder by SHA-256 and frame; a record that is added is on disk at once."""

    def __init__(self, path: Path | None):
        self._path = path
        self._lock = threading.Lock()
        self._found: dict[str, dict[int, dict]] = {}
        if path is not None:
            for record in _records(path):
                self._found.setdefault(record["sha256"], {})[record["frame"]] = record
            _end_line(path)

    def of(self, sha256: str) -> dict[int, dict]:
        """The records of a file by frame."""
        with self._lock:
            return dict(self._found.get(sha256, {}))

    def add(self, record: dict) -> None:
        with self._lock:
            if self._path is not None:
                with open(self._path, "a", encoding="utf-8") as file:
                    file.write(_line(record))
            self._found.setdefault(record["sha256"], {})[record["frame"]] = record


def _records(path: Path) -> Iterator[dict]:
    """Those of this version; a line that was cut off is passed over."""
    needed = ("lle_jax", "sha256", *_FILE, *measures.UNITS)
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if not isinstance(record, dict) or record.get("lle_jax") != lle_jax.__version__:
                continue
            if any(name not in record for name in needed):
                continue
            record = {name: record[name] for name in needed}  # not the path, which may be another
            for name in measures.UNITS:
                record[name] = math.nan if record[name] is None else record[name]
            yield record


def _end_line(path: Path) -> None:
    """Ends a line that was cut off, so that the next record has a line of its own."""
    with open(path, "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")


def _line(record: dict) -> str:
    """One line of JSON, which knows no NaN."""
    plain = {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in record.items()
    }
    return json.dumps(plain, allow_nan=False) + "\n"


def quantify(inputs: Iterable[Path], output: Path | None = None, progress: bool = True) -> Result:
    """Measures every frame of images and folders, in threads.

    At any time as many pictures are in memory as there are threads, at most four.

    Args:
      inputs: files and folders (`images.find`).
      output: folder of the records, made if it does not exist: what is recorded there is not
        measured again. None keeps nothing.
      progress: show a bar.

    Raises:
      ImageError: if an input does not exist or holds no image, or `output` holds other files by
        the names that are written.
    """
    paths = images.find(inputs)
    if output is not None:
        _own(output)
        output.mkdir(parents=True, exist_ok=True)
    journal = Journal(output / RECORDS if output is not None else None)
    stop = threading.Event()
    outcomes: dict[Path, str | tuple[str, int]] = {}
    threads = min(_THREADS, os.cpu_count() or 1)
    bar = tqdm.tqdm(total=len(paths), unit="file", disable=not progress)
    with bar, concurrent.futures.ThreadPoolExecutor(threads) as pool:
        job = functools.partial(_measure_file, journal=journal, stop=stop)
        try:
            # each waits in the pool as a path, not as a picture
            futures = {pool.submit(job, path): path for path in paths}
            for future in concurrent.futures.as_completed(futures):
                outcomes[futures[future]] = future.result()
                bar.update()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    result = _collect(paths, outcomes, journal)
    if output is not None:
        _write(output, result)
    return result


def _own(output: Path) -> None:
    """Raises ImageError if a result would replace a file of somebody else's."""
    if (output / RECORDS).exists():
        return
    for name in (TABLE, UNREADABLE, PAGE):
        if (output / name).exists():
            raise images.ImageError(
                f"{shown(output / name)} is not of lle quantify and would be replaced; choose "
                "another output folder"
            )


def _measure_file(path: Path, journal: Journal, stop: threading.Event) -> str | tuple[str, int]:
    """Records each frame of a file; returns its SHA-256 and number of frames, or what is wrong."""
    if stop.is_set():
        return ""
    try:
        content = images.sha256(path)
        done = journal.of(content)
        frames = next((record["frames"] for record in done.values()), None)
        if frames is not None and all(number in done for number in range(frames)):
            return content, frames
        return content, _measure_frames(path, content, done, journal, stop)
    except images.ImageError as error:
        return str(error)
    except MemoryError:
        return f"{shown(path)}: not enough memory for this image"


def _measure_frames(path: Path, content: str, done: dict, journal: Journal, stop) -> int:
    picture = images.read(path)
    stack = picture.pixels if picture.pixels.ndim == 4 else picture.pixels[None]
    quality = measures.header_quality(path) if picture.format == "jpeg" else None
    for number, frame in enumerate(stack):
        if number in done:
            continue
        if stop.is_set():
            break
        about = (number, len(stack), picture.format, *frame.shape)
        record = {"lle_jax": lle_jax.__version__, "sha256": content}
        record |= zip(_FILE, (*about, "pixels" if quality is None else "header"), strict=True)
        journal.add(record | measures.measure(frame, quality))
    return len(stack)


def _collect(paths: Sequence[Path], outcomes: dict, journal: Journal) -> Result:
    rows, failures = [], []
    for path in paths:
        if isinstance(outcomes[path], str):
            failures.append((shown(path), outcomes[path].removeprefix(f"{shown(path)}: ")))
            continue
        content, frames = outcomes[path]
        records = journal.of(content)
        for number in range(frames):
            record = records[number]
            levels = severity.severity(record)
            rows.append(
                {"path": shown(path), "source": path}
                | record
                | {"severity": levels, "recommendation": severity.recommend(levels)}
            )
    return Result(rows, failures)


def _write(output: Path, result: Result) -> None:
    write_bytes(output / TABLE, _csv(result.rows).encode())
    failed = [{"path": path, "reason": reason} for path, reason in result.failures]
    write_bytes(output / UNREADABLE, _table(("path", "reason"), failed).encode())
    lines = "".join(_line(flat(row) | {"sha256": row["sha256"], "lle_jax": row["lle_jax"]})
                    for row in result.rows)  # fmt: skip
    write_bytes(output / RECORDS, lines.encode())


def flat(row: dict) -> dict:
    """The cells of a row of `Result.rows` in the order of the table."""
    cells = {name: row[name] for name in ("path", *_FILE, *measures.UNITS)}
    cells |= {f"severity_{artifact}": value for artifact, value in row["severity"].items()}
    return cells | {"recommendation": row["recommendation"]}


def _csv(rows: list[dict]) -> str:
    artifacts = tuple(f"severity_{artifact}" for artifact in severity.curves())
    names = ("path", *_FILE, *measures.UNITS, *artifacts, "recommendation")
    return _table(names, map(flat, rows))


def _table(names: Sequence[str], rows: Iterable[dict]) -> str:
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
