"""Supervised training on LOL-v1, the common set of real low-light pairs."""
