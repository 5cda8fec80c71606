"""The pairs and the values that tests/reference/record_iqa.py recorded from PyTorch packages."""

import importlib.util
import json
from pathlib import Path

import pytest

REFERENCE = Path(__file__).parents[1] / "reference"


@pytest.fixture(scope="session")
def recorded() -> dict:
    """Name -> (image, reference, values by "package.function")."""
    spec = importlib.util.spec_from_file_location("record_iqa", REFERENCE / "record_iqa.py")
    recorder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recorder)
    record = json.loads(recorder.PATH.read_text())["pairs"]
    pairs = recorder.pairs()
    for name, pair in pairs.items():
        assert recorder.checksum(pair) == record[name]["sha256"], f"{name}: not what was recorded"
    return {name: (*pair, record[name]["values"]) for name, pair in pairs.items()}
