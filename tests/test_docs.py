"""The documents agree with the code."""

import re
from pathlib import Path

from lle_jax import artifacts, metrics
from lle_jax.artifacts import measures

DOCS = Path(__file__).parents[1] / "docs"


def test_every_metric_and_measure_is_named_in_its_document():
    for module, document in ((metrics, "metrics.md"), (artifacts, "artifacts.md")):
        text = (DOCS / document).read_text(encoding="utf-8")
        functions = [name for name in module.__all__ if name.islower() and name != "study"]
        assert not [name for name in functions if name not in text]
    text = (DOCS / "artifacts.md").read_text(encoding="utf-8")
    assert not [name for name in measures.study.MEASURES if name not in text]


def test_the_floors_in_the_document_are_those_that_are_tested():
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    source = (Path(__file__).parent / "test_architecture.py").read_text(encoding="utf-8")
    floors = {name: int(floor) for name, floor in re.findall(r'"(\w+)": (\d+)', source)}
    documented = {
        name: int(floor)
        for floor, names in re.findall(r"^\| (\d+) \| ([^|]*) \|", text, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    assert documented == floors


def test_links_between_documents_lead_somewhere():
    for document in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8")):
            if not target.startswith(("http:", "https:", "mailto:")):
                assert (DOCS / target).exists(), f"{document.name}: {target}"
