"""The stages of the degradation chain: one record each, in the physical order.

A new stage is its function and one record in `STAGES`, with a `key_id` no other stage has.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import jax

from lle_jax.degrade.blur import defocus_blur, gaussian_blur, motion_blur
from lle_jax.degrade.camera import bayer_sensor, denoise, sharpen
from lle_jax.degrade.exposure import channel_gains, gamma, tone_curve, white_balance
from lle_jax.degrade.glare import veiling_glare
from lle_jax.degrade.illumination import (
    cos4_vignetting,
    fundus_illumination,
    light_source,
    polynomial_vignetting,
)
from lle_jax.degrade.jpeg import jpeg
from lle_jax.degrade.noise import (
    banding_noise,
    correlated_noise,
    gaussian_noise,
    poisson_gaussian_noise,
    quantise,
    salt_and_pepper,
)

# Prefix of the stage that stands for `exact = false`: static choices live in the stage's name.
APPROXIMATE = "approximate_"


@dataclasses.dataclass(frozen=True)
class ParameterSpec:
    """The range of a parameter and how the severity acts on it.

    Attributes:
      low: smallest value that makes sense.
      high: largest.
      neutral: the value that changes nothing, which severity 0 stands for; None for positions
        and directions, which severity leaves alone.
      log_scaled: severity moves the logarithm instead of the value.
      integer: only whole numbers are meant.
      unit: for the documentation.
    """

    low: float
    high: float
    neutral: float | None = None
    log_scaled: bool = False
    integer: bool = False
    unit: str = ""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of the chain.

    Attributes:
      name: as in presets.
      function: `(key, image, **parameters) -> image`; of the domain "field"
        `(height, width, **parameters) -> factor`, broadcastable to the image.
      domain: "field", a factor of linear light; "light", an operation on linear light; or
        "display", on sRGB-encoded values.
      parameters: the specification of each parameter.
      noise: the stage adds random noise.
      grey_shared: all channels of a grey image get the first channel's result.
      always_changes: the stage changes the image at any strength, so that it is skipped by
        selecting the image instead of by neutral parameters.
      key_id: number folded into the random key; never changed, so that results stay the same
        when stages are added.
      colour_only: a field that leaves grey images unchanged, and those without three channels.
      colours_grey: a field after which a grey image of three channels is one in colour.
    """

    name: str
    function: Callable[..., jax.Array]
    domain: Literal["field", "light", "display"]
    parameters: dict[str, ParameterSpec]
    noise: bool = False
    grey_shared: bool = False
    always_changes: bool = False
    key_id: int = dataclasses.field(kw_only=True)
    colour_only: bool = False
    colours_grey: bool = False


def _keyless(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Adapts a deterministic operation to the signature of the stages."""
    return lambda key, image, **parameters: function(image, **parameters)


def _exposure_field(height: int, width: int, *, gain: jax.Array) -> jax.Array:
    return gain[..., None, None, None]


def _white_balance_field(height: int, width: int, *, red: jax.Array, blue: jax.Array) -> jax.Array:
    return channel_gains(red[..., None, None, None], blue[..., None, None, None])


_GAIN = ParameterSpec(1e-3, 10, 1, log_scaled=True)
_POSITION = ParameterSpec(-2, 2)
_RADIUS = ParameterSpec(0.01, 4)
_SIGMA = ParameterSpec(0, 1, 0)
_COEFFICIENT = ParameterSpec(-3, 3, 0)
_BALANCE = ParameterSpec(1, 10, 1, log_scaled=True)
_FRACTION = ParameterSpec(0, 0.5, 0)

_ORDER = (
    Stage(
        "cos4_vignetting",
        cos4_vignetting,
        "field",
        {"half_angle": ParameterSpec(0, 80, 0, unit="degrees")},
        key_id=0,
    ),
    Stage(
        "polynomial_vignetting",
        polynomial_vignetting,
        "field",
        {"a": _COEFFICIENT, "b": _COEFFICIENT, "c": _COEFFICIENT},
        key_id=1,
    ),
    Stage(
        "light_source",
        light_source,
        "field",
        {"x": _POSITION, "y": _POSITION, "falloff": ParameterSpec(0, 10, 0)},
        key_id=2,
    ),
    Stage(
        "fundus_illumination",
        fundus_illumination,
        "field",
        {
            "halo": ParameterSpec(0, 10, 0),
            "halo_x": _POSITION,
            "halo_y": _POSITION,
            "halo_radius": _RADIUS,
            "shadow": ParameterSpec(0, 1, 0),
            "shadow_x": _POSITION,
            "shadow_y": _POSITION,
            "shadow_radius": _RADIUS,
        },
        key_id=3,
    ),
    Stage("exposure", _exposure_field, "field", {"gain": _GAIN}, key_id=4),
    # unlike white balance, before the sensor, so that the noise of grey subjects is in colour too
    Stage(
        "illuminant",
        _white_balance_field,
        "field",
        {"red": _GAIN, "blue": _GAIN},
        key_id=24,
        colours_grey=True,
    ),
    Stage(
        "veiling_glare",
        _keyless(veiling_glare),
        "light",
        {"share": ParameterSpec(0, 1, 0), "white": ParameterSpec(0, 1)},
        grey_shared=True,
        key_id=23,
    ),
    Stage(
        "gaussian_blur",
        _keyless(gaussian_blur),
        "light",
        {"sigma": ParameterSpec(0, 50, 0, unit="pixels")},
        grey_shared=True,
        key_id=5,
    ),
    Stage(
        "defocus_blur",
        _keyless(defocus_blur),
        "light",
        {"radius": ParameterSpec(0, 10, 0, unit="pixels")},
        grey_shared=True,
        key_id=6,
    ),
    Stage(
        "motion_blur",
        _keyless(motion_blur),
        "light",
        {
            "length": ParameterSpec(0, 31, 0, unit="pixels"),
            "angle": ParameterSpec(-360, 360, unit="degrees"),
            "curvature": ParameterSpec(-1, 1),
        },
        grey_shared=True,
        key_id=7,
    ),
    Stage(
        "poisson_gaussian_noise",
        poisson_gaussian_noise,
        "light",
        {"gain": _SIGMA, "read_noise": _SIGMA},
        noise=True,
        grey_shared=True,
        key_id=8,
    ),
    Stage(
        f"{APPROXIMATE}poisson_gaussian_noise",
        functools.partial(poisson_gaussian_noise, exact=False),
        "light",
        {"gain": _SIGMA, "read_noise": _SIGMA},
        noise=True,
        grey_shared=True,
        key_id=9,
    ),
    Stage(
        "banding_noise",
        banding_noise,
        "light",
        {"row_sigma": _SIGMA, "column_sigma": _SIGMA},
        noise=True,
        grey_shared=True,
        key_id=10,
    ),
    Stage(
        "bayer_sensor",
        bayer_sensor,
        "light",
        {
            "gain": _SIGMA,
            "read_noise": _SIGMA,
            "tail": ParameterSpec(0, 1),
            "row_noise": _SIGMA,
            "bits": ParameterSpec(8, 16, 16, integer=True),
            "red": _BALANCE,
            "blue": _BALANCE,
            "camera": ParameterSpec(0, 3),
            "correction": ParameterSpec(0, 1),
        },
        noise=True,
        grey_shared=True,
        always_changes=True,
        key_id=17,
    ),
    Stage(
        "white_balance",
        _white_balance_field,
        "field",
        {"red": _GAIN, "blue": _GAIN},
        key_id=11,
        colour_only=True,
    ),
    Stage(
        "gamma",
        _keyless(gamma),
        "display",
        {"gamma": ParameterSpec(1, 10, 1, log_scaled=True)},
        key_id=12,
    ),
    Stage(
        "tone_curve",
        _keyless(tone_curve),
        "display",
        {"contrast": ParameterSpec(-1, 1, 0)},
        key_id=20,
    ),
    Stage(
        "denoise",
        _keyless(denoise),
        "display",
        {"luma": _SIGMA, "chroma": _SIGMA},
        grey_shared=True,
        key_id=18,
    ),
    Stage(
        "sharpen",
        _keyless(sharpen),
        "display",
        {"amount": ParameterSpec(0, 10, 0), "sigma": ParameterSpec(0.1, 10, unit="pixels")},
        grey_shared=True,
        key_id=19,
    ),
    Stage(
        "gaussian_noise",
        gaussian_noise,
        "display",
        {"sigma": _SIGMA},
        noise=True,
        grey_shared=True,
        key_id=13,
    ),
    Stage(
        "correlated_noise",
        correlated_noise,
        "display",
        {"luma": _SIGMA, "chroma": _SIGMA, "length": ParameterSpec(0, 3, unit="pixels")},
        noise=True,
        grey_shared=True,
        key_id=21,
    ),
    Stage(
        "salt_and_pepper",
        salt_and_pepper,
        "display",
        {"salt": _FRACTION, "pepper": _FRACTION},
        noise=True,
        grey_shared=True,
        key_id=14,
    ),
    # unlike white balance, of grey images too: a screen or a film photographed in coloured light
    Stage(
        "tint",
        _keyless(white_balance),
        "display",
        {"red": _GAIN, "blue": _GAIN},
        key_id=22,
    ),
    Stage(
        "quantise",
        _keyless(quantise),
        "display",
        {"bits": ParameterSpec(1, 16, 16, integer=True)},
        always_changes=True,
        key_id=15,
    ),
    Stage(
        "jpeg",
        _keyless(jpeg),
        "display",
        {"quality": ParameterSpec(1, 100, 100, integer=True)},
        always_changes=True,
        key_id=16,
    ),
)

# By name, in the order in which the chain applies them.
STAGES: dict[str, Stage] = {stage.name: stage for stage in _ORDER}


def has_approximation(name: str) -> bool:
    """Whether a preset may choose the approximation of a stage by `exact = false`."""
    return f"{APPROXIMATE}{name}" in STAGES


def noise_stages() -> tuple[str, ...]:
    """Returns the names of the stages that add random noise."""
    return tuple(name for name, stage in STAGES.items() if stage.noise)


def markdown_table() -> str:
    """Returns the stages, their parameters' ranges and neutral values as a Markdown table."""
    rows = [("", "stage", "parameters", "acts on", "noise"), ("---",) * 5]
    acts_on = {"field": "linear light (factor)", "light": "linear light", "display": "display"}
    for number, stage in enumerate(STAGES.values(), 1):
        parameters = "; ".join(_describe(*item) for item in stage.parameters.items())
        noise = "yes" if stage.noise else ""
        rows.append((str(number), f"`{stage.name}`", parameters, acts_on[stage.domain], noise))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _describe(name: str, spec: ParameterSpec) -> str:
    unit = f" {spec.unit}" if spec.unit else ""
    neutral = "" if spec.neutral is None else f", neutral {spec.neutral:g}"
    scale = ", logarithmic" if spec.log_scaled else ", whole" if spec.integer else ""
    return f"{name} {spec.low:g} to {spec.high:g}{unit}{neutral}{scale}"
