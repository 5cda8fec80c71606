"""Measures of the artifacts of low-light images: pure, jit-able, one number per image.

`study` has the naive measures of the published study under their own names.
"""

from lle_jax.artifacts import study

__all__ = ["study"]
