"""Recorded values of PyTorch packages (tests/reference/record_iqa.py), and a fundus photograph."""

import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

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


@pytest.fixture(scope="session")
def fundus():
    """A crop of a fundus photograph with vessels, slightly blurred, so that it has no noise."""
    side = 192
    crop = skimage.data.retina()[500 : 500 + 2 * side, 300 : 300 + 2 * side]
    crop = cv2.resize(crop.astype(np.float32) / 255, (side, side), interpolation=cv2.INTER_AREA)
    crop = cv2.GaussianBlur(crop, (0, 0), 0.8)
    crop.setflags(write=False)
    return crop
