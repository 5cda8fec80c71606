"""Evaluation on images that training never saw."""
