"""Enhancement without learning, on OpenCV: what a network has to beat."""

from lle_jax.classical.baselines import METHODS, clahe, gamma_from_mean, histogram_equalisation, nlm

__all__ = ["METHODS", "clahe", "gamma_from_mean", "histogram_equalisation", "nlm"]
