"""Computes the severity of each artifact, 0 to 1, by calibrated curves.

The curves, and how they were found, are data: `configs/artifacts/severity.toml`. Severity is the
square root of the structural similarity (of 1) that the artifact alone costs, so that artifacts
can be compared with each other.
"""

import functools
import math
import tomllib
from collections.abc import Mapping

import numpy as np

from lle_jax import files

_MAX_BLUR_SIGMA = 20.0


@functools.cache
def curves() -> dict[str, dict]:
    """Reads the curves of `configs/artifacts/severity.toml` in the order of correction."""
    return {name: table for name, table in _tables().items() if name != "labels"}


@functools.cache
def _tables() -> dict[str, dict]:
    return tomllib.loads(
        (files.configs() / "artifacts" / "severity.toml").read_text(encoding="utf-8")
    )


def argument(artifact: str, measures: Mapping[str, float]) -> float:
    """Computes the argument of a severity curve from the measures of one image.

    Noise is compared with the brightness of the image (the sRGB value of its mean luminance), as
    brightening amplifies noise. A blur of 20 pixels means no structure above the noise, so NaN.

    Raises:
      KeyError: if there is no such artifact.
    """
    m = measures
    return {
        "impulses": lambda: m["salt"] + m["pepper"],
        "noise": lambda: m["noise_sigma"] / max(_srgb(m["luminance"]), 1 / 255),
        "low_light": lambda: m["luminance"],
        "uneven_light": lambda: m["non_uniformity"],
        "blur": lambda: m["blur_sigma"] if m["blur_sigma"] < _MAX_BLUR_SIGMA else math.nan,
        "jpeg": lambda: m["jpeg_quality"],
    }[artifact]()


def _srgb(linear: float) -> float:
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055


def severity(measures: Mapping[str, float]) -> dict[str, float]:
    """Computes the severity of each artifact, 0 to 1; NaN where a measure it needs is NaN.

    Args:
      measures: of one image by name, as `measures.measure` returns.
    """
    return {
        artifact: float(np.interp(argument(artifact, measures), *np.transpose(table["points"])))
        for artifact, table in curves().items()
    }


def label(value: float) -> str:
    """Names a severity: "none", "weak", "moderate" or "strong"; "unknown" for NaN."""
    if math.isnan(value):
        return "unknown"
    names = [name for name, lowest in _tables()["labels"].items() if value >= lowest]
    return names[-1]


def recommend(severities: Mapping[str, float]) -> str:
    """Lists the corrections of moderate or strong artifacts in order of application, as a line."""
    steps = [
        f"{table['correction']} ({label(severities[artifact])} {artifact.replace('_', ' ')})"
        for artifact, table in curves().items()
        if label(severities[artifact]) in ("moderate", "strong")
    ]
    return ", then ".join(steps) or "no correction needed"
