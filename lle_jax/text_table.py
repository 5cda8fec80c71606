"""Formats tables as plain text."""

from collections.abc import Iterable, Sequence


def render(rows: Iterable[Sequence[str]], *, words: int = 1) -> str:
    """Lines of columns two spaces apart: the first `words` flush left, the rest flush right."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
