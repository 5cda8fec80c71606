"""Pages that ask for nothing outside them: a template with its style and script put inside."""

import base64
import hashlib
import string
from pathlib import Path


def fill(template: Path, **fields: str) -> bytes:
    """The page of an HTML template with the .css and .js files of its name put inside.

    The page's own policy lets no style or script run but these two, by their hashes, and nothing
    be loaded but `data:` images.

    Args:
      template: an HTML file with `$policy`, `$style`, `$script` and `$name` for each field.
      fields: HTML, escaped by the caller where it comes from files.
    """
    page, style, script = (
        template.with_suffix(f".{kind}").read_text("utf-8") for kind in ("html", "css", "js")
    )
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    fields |= {"policy": policy, "style": style, "script": script}
    return string.Template(page).substitute(fields).encode()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
