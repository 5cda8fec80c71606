"""Degradations of low-light images: pure, jit-able, differentiable, one per artifact.

preset = degrade.load("endoscopy")
parameters = degrade.sample(key, preset, image.shape[:-3])
low = degrade.apply(noise_key, parameters, image)
"""

from lle_jax.degrade.blur import defocus_blur, gaussian_blur, motion_blur
from lle_jax.degrade.camera import bayer_sensor, denoise, sharpen
from lle_jax.degrade.chain import (
    Parameters,
    apply,
    from_json,
    sample,
    sample_and_apply,
    sample_mixture,
    to_json,
)
from lle_jax.degrade.exposure import exposure, gamma, tone_curve, white_balance
from lle_jax.degrade.glare import veiling_glare
from lle_jax.degrade.illumination import (
    cos4_vignetting,
    fundus_illumination,
    illumination,
    light_source,
    polynomial_vignetting,
)
from lle_jax.degrade.jpeg import jpeg
from lle_jax.degrade.noise import (
    banding_noise,
    correlated_noise,
    gaussian_noise,
    poisson_gaussian_noise,
    poisson_noise,
    quantise,
    salt_and_pepper,
)
from lle_jax.degrade.presets import BY_MODALITY, Preset, PresetError, load, name_for, names

__all__ = [
    "BY_MODALITY",
    "Parameters",
    "Preset",
    "PresetError",
    "apply",
    "banding_noise",
    "bayer_sensor",
    "correlated_noise",
    "cos4_vignetting",
    "defocus_blur",
    "denoise",
    "exposure",
    "from_json",
    "fundus_illumination",
    "gamma",
    "gaussian_blur",
    "gaussian_noise",
    "illumination",
    "jpeg",
    "light_source",
    "load",
    "motion_blur",
    "name_for",
    "names",
    "poisson_gaussian_noise",
    "poisson_noise",
    "polynomial_vignetting",
    "quantise",
    "salt_and_pepper",
    "sample",
    "sample_and_apply",
    "sample_mixture",
    "sharpen",
    "to_json",
    "tone_curve",
    "veiling_glare",
    "white_balance",
]
