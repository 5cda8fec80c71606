"""Adapts a trained network to the images of one clinic: fits, fine-tunes, compares, releases.

result = adapt(dark, clean, Path("clinic"), Settings(minutes=10))
if result.better: ...  # clinic/release is there
"""

from lle_jax.adapt.job import Settings, adapt
from lle_jax.adapt.verdict import Verdict

__all__ = ["Settings", "Verdict", "adapt"]
