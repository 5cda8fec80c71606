"""Enhances images without learning, on OpenCV: the baselines."""

from lle_jax.classical.baselines import METHODS, clahe, gamma_from_mean, histogram_equalisation, nlm

__all__ = ["METHODS", "clahe", "gamma_from_mean", "histogram_equalisation", "nlm"]
