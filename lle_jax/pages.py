"""Pages that ask for nothing outside them: a template with its style and script put inside."""

import base64
import hashlib
import html
import string
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

NAME = ' class="name"'  # of a cell that holds words


def fill(template: Path, *, report: bool, **fields: str) -> bytes:
    """The page of an HTML template with the .css and .js files of its name put inside.

    The page's own policy lets no style or script run but these two, by their hashes, and nothing
    be loaded but `data:` images.

    Args:
      template: an HTML file with `$policy`, `$style`, `$script` and `$name` for each field.
      report: put pages.css and pages.js before its own: the look of reports, and tables that sort.
      fields: HTML, escaped by the caller where it comes from files.
    """
    sources = [Path(__file__), template] if report else [template]
    style, script = (
        "".join(path.read_text("utf-8") for path in paths if path.exists())
        for paths in ([source.with_suffix(kind) for source in sources] for kind in (".css", ".js"))
    )
    page = template.read_text("utf-8")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    fields |= {"policy": policy, "style": style, "script": script}
    return string.Template(page).substitute(fields).encode()


def text(value) -> str:
    """Anything as HTML that shows it."""
    return html.escape(str(value), quote=True)


def table(heads: Sequence[str], words: Collection[str], rows: Iterable[str], label: str) -> str:
    """A scrolling table that a column's title sorts.

    Args:
      heads: the columns' titles; as text.
      words: those of them whose columns hold words, to be sorted by the alphabet.
      rows: HTML of `<tr>` elements.
      label: what the table is, for who cannot see it.
    """
    head = "".join(
        f'<th scope="col" aria-sort="none"{NAME if title in words else ""}>'
        f'<button type="button">{text(title)}</button></th>'
        for title in heads
    )
    body = "\n".join(rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(label)}">'
        f'<table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{body}</tbody></table></div>"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
