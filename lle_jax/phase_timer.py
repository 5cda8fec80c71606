"""Measures where the wall time of a run goes."""

import contextlib
import time
from collections.abc import Iterator


class PhaseTimer:
    """Accumulates wall time by phase: `with timer("train"): ...`; the rest is "other"."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            self.seconds[phase] = self.seconds.get(phase, 0.0) + elapsed

    def summary(self) -> str:
        """Formats one line: total seconds, then each phase's seconds and share."""
        total = time.perf_counter() - self._start
        phases = self.seconds | {"other": total - sum(self.seconds.values())}
        parts = [f"{name} {spent:.1f} s ({spent / total:.0%})" for name, spent in phases.items()]
        return f"wall time {total:.1f} s: " + ", ".join(parts)
