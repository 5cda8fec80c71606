"""Image quality measures; every convention is in the name or an argument (docs/metrics.md)."""

from lle_jax.metrics.colour import ciede2000, ciede2000_map, delta_e_2000, srgb_to_lab
from lle_jax.metrics.contrast import (
    contrast_improvement_index,
    contrast_to_noise,
    eme,
    local_entropy,
)
from lle_jax.metrics.fidelity import brightness_ratio, gt_mean, mae, psnr
from lle_jax.metrics.harm import (
    StructureChange,
    background_colour_shift,
    fourier_ring_correlation,
    hallucination_rate,
    structure_change,
)
from lle_jax.metrics.learned import load_lpips, lpips
from lle_jax.metrics.lightness import lightness_order_error
from lle_jax.metrics.lines import LineChange, line_change
from lle_jax.metrics.naturalness import brisque, niqe
from lle_jax.metrics.naturalness_models import load_brisque, load_niqe, niqe_model
from lle_jax.metrics.perceptual import gmsd, vif
from lle_jax.metrics.spots import SpotChange, spot_change, spots_unlike_input
from lle_jax.metrics.structure import (
    GAUSSIAN_11,
    SCALE_WEIGHTS,
    UNIFORM_7,
    ms_ssim,
    ssim,
    ssim_map,
)

__all__ = [
    "GAUSSIAN_11",
    "SCALE_WEIGHTS",
    "UNIFORM_7",
    "LineChange",
    "SpotChange",
    "StructureChange",
    "background_colour_shift",
    "brightness_ratio",
    "brisque",
    "ciede2000",
    "ciede2000_map",
    "contrast_improvement_index",
    "contrast_to_noise",
    "delta_e_2000",
    "eme",
    "fourier_ring_correlation",
    "gmsd",
    "gt_mean",
    "hallucination_rate",
    "lightness_order_error",
    "line_change",
    "load_brisque",
    "load_lpips",
    "load_niqe",
    "local_entropy",
    "lpips",
    "mae",
    "ms_ssim",
    "niqe",
    "niqe_model",
    "psnr",
    "spot_change",
    "spots_unlike_input",
    "srgb_to_lab",
    "ssim",
    "ssim_map",
    "structure_change",
    "vif",
]
