"""Formats tables as plain text and as LaTeX."""

import re
from collections.abc import Collection, Iterable, Sequence


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


_ESCAPES = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "\n": " ",
    **{sign: f"\\{sign}" for sign in "{}$&#%_"},
}  # fmt: skip


def latex(
    rows: Iterable[Sequence[str]], bold: Collection[tuple[int, int]] = (), *, words: int = 1
) -> str:
    """Formats a `tabular` of the package booktabs.

    Args:
      rows: of cells, the header first; their text is escaped.
      bold: (row, column) of cells in bold.
      words: number of columns, from the left, that are flush left; the rest is flush right.
    """
    lines = []
    for y, row in enumerate(rows):
        cells = [
            f"\\textbf{{{_latex(cell)}}}" if (y, x) in bold else _latex(cell)
            for x, cell in enumerate(row)
        ]
        lines.append(f"{' & '.join(cells)} \\\\")
        columns = "l" * words + "r" * (len(row) - words)
    head, *body = lines
    parts = (r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}")
    return "\n".join((f"\\begin{{tabular}}{{{columns}}}", *parts))


def _latex(cell: str) -> str:
    """Escapes a cell; "+-" and the minus of a number become signs of mathematics."""
    text = "".join(_ESCAPES.get(sign, sign) for sign in cell)
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", text.replace("+-", r"$\pm$"))
