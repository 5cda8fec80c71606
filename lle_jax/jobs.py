"""Long work on many items: a journal of what was done, and a runner that resumes by it.

    journal = Journal(output / ".lle-enhance.jsonl", {"strength": 1.0})
    outcome = run(pairs, enhance_pair, journal, key=name_of_output)
    print(outcome.summary("enhanced"))  # 12 enhanced, 3 unchanged, 1 failed

A journal is a file of JSON lines, each on disk as soon as its item is done, so that a command which
is stopped at any moment and repeated loses at most the items that it was at.
"""

import concurrent.futures
import contextlib
import hashlib
import io
import json
import math
import os
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import tqdm

from lle_jax import console

T = TypeVar("T")

DONE, FAILED, SKIPPED = "done", "failed", "skipped"
_LINE = "{desc}: {n_fmt}/{total_fmt} {unit}s, {elapsed} elapsed, {remaining} to go{postfix}"
_RATE = ", {rate_noinv_fmt}"  # of frames, as in a bar
_BETWEEN_LINES = 10.0  # seconds between lines of progress, and before the first


class Journal:
    """Records of a command by key; of several of one key the last counts.

    A header line holds settings, and each record the digest of its own, so that what was done with
    other settings does not count as done. Threads and processes may share a journal.

    Args:
      path: the file, made with the first record; None keeps the records in memory only.
      settings: what decides, with an item, its result; plain values.
    """

    def __init__(self, path: Path | None, settings: Mapping[str, Any]):
        self.path = path
        self._settings = json.loads(json.dumps(dict(settings), sort_keys=True))
        text = json.dumps(self._settings, sort_keys=True)
        self._digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._lock = threading.Lock()
        self._records: dict[str, dict[str, Any]] = {}
        self._has_header = False
        for line in _lines(path) if path is not None else ():
            if line.get("header") == self._digest:
                self._has_header = True
            elif isinstance(line.get("key"), str) and line.get("status") in (DONE, FAILED, SKIPPED):
                self._records[line["key"]] = line

    def done(self, key: str) -> dict[str, Any] | None:
        """Returns the values recorded for `key` with these settings, None where it is not done."""
        with self._lock:
            record = self._records.get(key)
        if record is None or record["status"] != DONE or record.get("settings") != self._digest:
            return None
        return dict(record)

    def start(self) -> None:
        """Writes the header: the folder is this command's before the first item is done."""
        with self._lock:
            if self.path is not None and not self._has_header:
                self._append()

    def record(self, key: str, status: str, **values: Any) -> None:
        """Adds a record; it is on disk when this returns. NaN is stored as null.

        Args:
          key: of the item.
          status: DONE, FAILED or SKIPPED.
          **values: plain values of the result.
        """
        record = {"key": key, "status": status, "settings": self._digest, **plain(values)}
        with self._lock:
            if self.path is not None:
                self._append(record)
            self._records[key] = record

    def _append(self, record: dict[str, Any] | None = None) -> None:
        assert self.path is not None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab+") as file:
            text = ""
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                text = "" if file.read(1) == b"\n" else "\n"  # ends a line that was cut off
            if not self._has_header:
                header = {"header": self._digest, "values": self._settings}
                text += json.dumps(header, allow_nan=False) + "\n"
            if record is not None:
                text += json.dumps(record | {"crc32": _checksum(record)}, allow_nan=False) + "\n"
            file.write(text.encode())
            file.flush()
        self._has_header = True


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the whole lines of a journal; one that is damaged or was cut off is skipped."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                checksum = value.pop("crc32", None)  # earlier versions wrote none
                if checksum is None or checksum == _checksum(value):
                    yield value


def _checksum(record: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())


def plain(value: Any) -> Any:
    """Replaces NaN and infinity, which JSON has not, by None, and NumPy's numbers by Python's."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Outcome(NamedTuple, Generic[T]):
    """What became of the items of a run.

    Attributes:
      done: items that were worked on and changed.
      failed: (item, reason in one line).
      skipped: items that were finished before.
      unchanged: items that were worked on and needed nothing.
      duplicates: those of `skipped` that the same run had finished, as another item.
    """

    done: list[T]
    failed: list[tuple[T, str]]
    skipped: list[T]
    unchanged: list[T]
    duplicates: Sequence[T] = ()

    @property
    def total(self) -> int:
        """Counts the items."""
        return len(self.done) + len(self.failed) + len(self.skipped) + len(self.unchanged)

    def summary(self, verb: str) -> str:
        """Formats the counts: "12 enhanced, 3 unchanged, 2 skipped (finished before), 1 failed"."""
        counts = (
            (len(self.unchanged), "unchanged"),
            (len(self.skipped) - len(self.duplicates), "skipped (finished before)"),
            (len(self.duplicates), "skipped (duplicates)"),
            (len(self.failed), "failed"),
        )
        parts = [f"{number} {word}" for number, word in counts if number]
        return ", ".join([f"{len(self.done)} {verb}", *parts])

    def document(self, describe: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
        """Lists the items for a program: done, unchanged, skipped, and failed with the reason.

        Args:
          describe: an item as plain values: its "input" and, if it writes them, its outputs.
        """
        listed = {
            "done": self.done, "unchanged": self.unchanged, "skipped": self.skipped
        }  # fmt: skip
        result: dict[str, Any] = {name: list(map(describe, part)) for name, part in listed.items()}
        result["failed"] = [
            {"input": describe(item)["input"], "reason": reason} for item, reason in self.failed
        ]
        return result


def run(
    items: Iterable[T],
    work: Callable[[T], Mapping[str, Any]],
    journal: Journal | None = None,
    progress: bool = True,
    *,
    key: Callable[[T], str] = str,
    finished: Callable[[T, dict[str, Any] | None], bool] = lambda item, record: record is not None,
    label: Callable[[T], str] = str,
    unit: str = "file",
    threads: int = 1,
    stop: threading.Event | None = None,
) -> Outcome[T]:
    """Works on each item that is not finished; one that fails does not stop the rest.

    ValueError, OSError and MemoryError count as a failure of their item; any other exception ends
    the run.

    Args:
      items: what to work on.
      work: does one item and returns values to record; `{"unchanged": True}` among them says that
        it needed nothing.
      journal: what is done is recorded there; None records nothing.
      progress: show a bar in a terminal, and a line now and then elsewhere.
      key: of an item in the journal.
      finished: whether an item, of which the journal has this record, is skipped.
      label: an item's name in messages.
      unit: what an item is, for the progress.
      threads: items that are worked on at a time.
      stop: set when the run ends early, for work that looks at it.
    """
    items = list(items)

    def one(item: T) -> tuple[str, str]:
        try:
            record = journal.done(key(item)) if journal is not None else None
            if finished(item, record):
                return SKIPPED, ""
            values = work(item)
            if journal is not None:
                journal.record(key(item), DONE, **values)
            return ("unchanged" if values.get("unchanged") else DONE), ""
        except (ValueError, OSError, MemoryError) as error:
            console.LOGGER.debug("%s failed here", label(item), exc_info=True)
            reason = _reason(label(item), error)
        if journal is not None:
            with contextlib.suppress(OSError):
                journal.record(key(item), FAILED, reason=reason)
        return FAILED, reason

    results = _results(items, one, progress, unit, threads, stop or threading.Event())
    outcome: Outcome[T] = Outcome([], [], [], [])
    for item, (status, reason) in zip(items, results, strict=True):
        if status == FAILED:
            outcome.failed.append((item, reason))
        else:
            parts = {DONE: outcome.done, SKIPPED: outcome.skipped, "unchanged": outcome.unchanged}
            parts[status].append(item)
    return outcome


def _reason(label: str, error: Exception) -> str:
    if isinstance(error, MemoryError):
        return f"{label}: not enough memory for this image"
    if isinstance(error, ValueError):
        return str(error)
    reason = getattr(error, "strerror", None) or type(error).__name__
    return f"{label}: {reason}; check the output folder"


def _results(
    items: Sequence[T],
    one: Callable[[T], tuple[str, str]],
    progress: bool,
    unit: str,
    threads: int,
    stop: threading.Event,
) -> list[tuple[str, str]]:
    """Applies `one` to each item, in threads; returns in the order of the items."""
    if threads == 1:
        return [one(item) for item in track(items, unit=unit, show=progress)]
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        try:
            # each waits in the pool as an item, not as a picture
            futures = [pool.submit(one, item) for item in items]
            completed = concurrent.futures.as_completed(futures)
            for future in track(completed, len(futures), unit=unit, show=progress):
                future.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in futures]


def track(
    items: Iterable[T],
    total: int | None = None,
    *,
    unit: str = "file",
    show: bool = True,
    description: str = "progress",
) -> Iterator[T]:
    """Yields items and shows how many have been taken, as `progress` does."""
    if total is None and isinstance(items, Sequence):
        total = len(items)
    if not show:
        yield from items
        return
    with progress(description, total, unit) as bar:
        for item in items:
            yield item
            bar.update()


def progress(description: str, total: int | None, unit: str, *, initial: int = 0) -> tqdm.tqdm:
    """Makes a bar on stderr to `update`, used as a context; `console` can turn it off.

    In a terminal it is a bar; elsewhere whole lines, the first after 10 seconds, then each 10, so
    that a log stays readable and a short command prints none.

    Args:
      description: of the work.
      total: number of units, None where nobody knows.
      unit: in the singular.
      initial: number of units that were done before.
    """
    options: dict[str, Any] = {"desc": description, "total": total, "unit": unit}
    if console.is_quiet():
        return tqdm.tqdm(**options, disable=True)
    if sys.stderr.isatty():
        return tqdm.tqdm(**options, initial=initial, dynamic_ncols=True, leave=False)
    return tqdm.tqdm(
        **options,
        initial=initial,
        file=_Lines(),
        position=0,  # of a bar within another too: the cursor of a log cannot move up
        delay=_BETWEEN_LINES,
        mininterval=_BETWEEN_LINES,
        maxinterval=2 * _BETWEEN_LINES,
        bar_format=_LINE + _RATE if unit == "frame" else _LINE,
    )


class _Lines(io.StringIO):
    """Writes each state of a tqdm bar as a line of its own."""

    def write(self, text: str) -> int:
        if line := text.strip():
            sys.stderr.write(f"{line}\n")
        return len(text)

    def flush(self) -> None:
        sys.stderr.flush()


def report(command: str, outcome: Outcome[T], verb: str, *, skipped: str = "", label=str) -> int:
    """Prints what became of the items, in the same words for every command; failures last.

    Args:
      command: for example "enhance".
      outcome: of `run`.
      verb: what was done, for example "enhanced".
      skipped: a line on further files, of `images.skipped_formats`; "" for none.
      label: the name of an unchanged item.

    Returns:
      the exit status: 1 if an item failed, else 0.
    """
    for item in outcome.unchanged:
        console.note(f"unchanged: {label(item)}")
    console.note(outcome.summary(verb))
    if skipped:
        console.note(skipped)
    for _, reason in outcome.failed:
        print(f"lle {command}: {reason}", file=sys.stderr)
    if outcome.failed:
        total = outcome.total
        print(f"lle {command}: {len(outcome.failed)} of {total} files failed", file=sys.stderr)
    return 1 if outcome.failed else 0
