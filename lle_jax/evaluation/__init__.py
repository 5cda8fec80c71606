"""Evaluation on images that training never saw."""

from lle_jax.evaluation.evaluate import evaluate

__all__ = ["evaluate"]
