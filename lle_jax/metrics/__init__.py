"""Full-reference image quality measures; every convention is in the name or an argument."""

from lle_jax.metrics.fidelity import mae, psnr
from lle_jax.metrics.structure import ssim

__all__ = ["mae", "psnr", "ssim"]
