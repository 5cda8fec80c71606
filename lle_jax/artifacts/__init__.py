"""Measures the artifacts of low-light images: pure, jit-able, one number per image.

The functions hold in the dark and have units; `study` has the naive measures of the published
study under their own names.
"""

from lle_jax.artifacts import study
from lle_jax.artifacts.blocking import (
    JpegTraces,
    blockiness,
    file_quality,
    jpeg_quality,
    jpeg_traces,
    quality_of_table,
)
from lle_jax.artifacts.blur import blur_sigma
from lle_jax.artifacts.exposure import Exposure, exposure
from lle_jax.artifacts.impulses import impulse_density
from lle_jax.artifacts.noise import noise_sigma
from lle_jax.artifacts.noise_correlation import NoiseCorrelation, PlaneNoise, noise_correlation
from lle_jax.artifacts.sensor import NoiseModel, noise_model

__all__ = [
    "Exposure",
    "JpegTraces",
    "NoiseCorrelation",
    "NoiseModel",
    "PlaneNoise",
    "blockiness",
    "blur_sigma",
    "exposure",
    "file_quality",
    "impulse_density",
    "jpeg_quality",
    "jpeg_traces",
    "noise_correlation",
    "noise_model",
    "noise_sigma",
    "quality_of_table",
    "study",
]
