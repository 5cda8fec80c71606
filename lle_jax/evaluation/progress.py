"""Shows progress: a bar in a terminal, a plain line now and then in a log."""

import sys

import tqdm

SECONDS = 10.0  # between lines in a log
_LINE = "{desc}: {n_fmt}/{total_fmt} {unit}s, {elapsed} elapsed, {remaining} to go"


class _Lines:
    """Writes each state of a tqdm bar as a line of its own."""

    def write(self, text: str) -> None:
        if line := text.strip():
            sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress(name: str, total: int, unit: str, *, initial: int = 0) -> tqdm.tqdm:
    """Makes a bar to `update`; used as a context.

    Args:
      name: of the work.
      total: number of units.
      unit: in the singular.
      initial: number of units that are done before.
    """
    if sys.stderr.isatty():
        return tqdm.tqdm(desc=name, total=total, unit=unit, initial=initial)
    return tqdm.tqdm(
        desc=name,
        total=total,
        unit=unit,
        initial=initial,
        file=_Lines(),
        mininterval=SECONDS,
        maxinterval=2 * SECONDS,
        bar_format=_LINE,
    )
