"""The degradation chain: draw parameters from a preset, then apply them in the physical order.

Linear light -> illumination field and exposure -> optics (glare, blur) -> photon, read and banding
noise, or a Bayer sensor -> white balance, sRGB encoding, gamma -> the camera's denoising and
sharpening -> independent and correlated noise of the display values, impulses, tint -> quantisation
-> JPEG. Light is decoded and encoded once for all stages between.

Parameters are a dict `"stage.parameter"` -> float32 array of the batch's shape. Its keys are the
static structure: a stage without keys is not computed. `"stage.active"`, 1 or 0 per image, says
whether the artifact occurs; where it does not, the image passes the stage bit for bit.
"""

import difflib
import functools
import json
import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri

from lle_jax import checks, colour
from lle_jax.degrade.presets import Distribution, Preset
from lle_jax.degrade.stages import STAGES, ParameterSpec, Stage

Parameters = dict[str, jax.Array]

_ACTIVE = ParameterSpec(0, 1, 0)
_FAR = 12.0  # standard deviations from a normal's mean to its range


def sample(
    key: jax.Array,
    preset: Preset,
    batch_shape: tuple[int, ...] = (),
    severity: jax.Array | float = 1.0,
) -> Parameters:
    """Draws the parameters of every image of a batch.

    Args:
      key: random key. The same key draws the same artifacts at every severity.
      preset: from `load`; static.
      batch_shape: of the images, `image.shape[:-3]`.
      severity: in [0, 1], one number or one per image. 1 gives the preset's own strengths, 0 the
        image bit for bit; between, every strength moves from its neutral value to the one drawn
        (gains and gamma on a logarithmic scale), so that more severity is never less artifact.

    Returns:
      dict `"stage.parameter"` -> float32 `batch_shape`.

    Raises:
      ValueError: if a concrete severity is outside [0, 1] or has another shape.
    """
    checks.number("severity", severity, 0, 1)
    severity = jnp.asarray(severity, jnp.float32)
    if severity.shape not in ((), tuple(batch_shape)):
        raise ValueError(f"severity has shape {severity.shape}; expected () or {batch_shape}")
    rows = sum(1 + len(stage.parameters) for stage in preset.stages)
    # one draw for all parameters: each call of the generator costs time to compile and to run
    draws = iter(jax.random.uniform(key, (rows, *batch_shape), jnp.float32))
    parameters = {}
    for stage in preset.stages:
        active = (next(draws) < stage.probability) & (severity > 0)
        parameters[f"{stage.name}.active"] = active.astype(jnp.float32)
        for name, distribution in stage.parameters:
            value = quantile(distribution, next(draws))
            spec = STAGES[stage.name].parameters[name]
            parameters[f"{stage.name}.{name}"] = _scale_by_severity(value, spec, severity)
    return parameters


def sample_mixture(
    key: jax.Array,
    presets: Sequence[Preset],
    which: jax.Array,
    severity: jax.Array | float = 1.0,
) -> Parameters:
    """As `sample`, with a preset of its own for each image.

    Args:
      key: random key.
      presets: from `load`; static.
      which: int32, the batch's shape; each image's position in `presets`.
      severity: as in `sample`.

    Returns:
      As `sample`, with the stages of all presets; one that an image's preset lacks is not active.
    """
    drawn = [sample(key, preset, which.shape, severity) for preset in presets]
    parameters = {}
    for name in {name: None for each in drawn for name in each}:
        stage, _, parameter = name.partition(".")
        spec = STAGES[stage].parameters.get(parameter, _ACTIVE)
        absent = min(max(spec.neutral or 0.0, spec.low), spec.high)
        values = [each.get(name, jnp.full(which.shape, absent, jnp.float32)) for each in drawn]
        parameters[name] = jnp.choose(which, values, mode="clip")
    return parameters


def quantile(distribution: Distribution, u: jax.Array) -> jax.Array:
    """Computes the quantile function of a distribution at `u` in [0, 1]."""
    values = distribution.values
    bounds: Sequence[float]
    match distribution.kind:
        case "fixed":
            return jnp.full_like(u, values[0])
        case "choice":
            return jnp.asarray(values, u.dtype)[jnp.floor(u * len(values)).astype(jnp.int32)]
        case "uniform":
            result, bounds = values[0] + u * (values[1] - values[0]), values
        case "loguniform":
            low, high = jnp.log(jnp.asarray(values, u.dtype))
            result, bounds = jnp.exp(low + u * (high - low)), values
        case "normal":
            mean, std, *bounds = values
            result = _truncated_normal(u, mean, std, *bounds)
        case "lognormal":
            median, std, *bounds = values
            low, high = map(math.log, bounds)
            result = jnp.exp(_truncated_normal(u, math.log(median), std, low, high))
    return jnp.clip(result, *bounds)  # rounding may leave the range by one unit in the last place


def _truncated_normal(u: jax.Array, mean: float, std: float, low: float, high: float) -> jax.Array:
    if low > mean:  # mirrored: near 1, float32 cannot tell the tail's probabilities
        return -_truncated_normal(1 - u, -mean, std, -high, -low)
    near, far = (mean - high) / std, (mean - low) / std
    if near > _FAR:  # the probabilities underflow; so far out the law is nearly Rayleigh's
        within = math.exp((near - far) * (near + far) / 2)
        share = -2 * jnp.log(jnp.maximum(within + u * (1 - within), 2.0**-25))
        return high - std * share / (near + jnp.sqrt(near * near + share))
    below, above = (ndtr(jnp.asarray((bound - mean) / std, u.dtype)) for bound in (low, high))
    return mean + std * ndtri(below + u * (above - below))


def _scale_by_severity(value: jax.Array, spec: ParameterSpec, severity: jax.Array) -> jax.Array:
    if spec.neutral is None:
        return value
    if spec.log_scaled:
        value = value**severity
    else:
        value = spec.neutral + severity * (value - spec.neutral)
    return jnp.round(value) if spec.integer else value


def apply(key: jax.Array, parameters: Mapping[str, jax.Array], image: jax.Array) -> jax.Array:
    """Degrades images with given parameters.

    An image of three equal channels is taken for the picture of a sensor without colour: it stays
    grey, its channels sharing one noise, and white balance does nothing to it. `tint` colours it,
    as a picture of a grey picture; `illuminant` makes it a grey subject in coloured light, which a
    sensor for colours sees.

    Differentiable in the image and in every continuous parameter, with the surrogates that noise
    and JPEG state.

    Args:
      key: random key of the noise.
      parameters: as from `sample`; each a scalar or one per image. `"stage.active"` may be
        missing and is then 1.
      image: `[..., H, W, C]` in [0, 1].

    Returns:
      The degraded images, same shape and dtype, in [0, 1].

    Raises:
      ValueError: for a malformed image, or a parameter that is unknown, missing, of a wrong shape
        or, where concrete, outside its range.
    """
    image = checks.image(image)
    for stage, values in group(parameters).items():
        for name, value in values.items():
            spec = STAGES[stage].parameters.get(name, _ACTIVE)
            checks.number(f"{stage}.{name}", value, spec.low, spec.high)
            checks.per_image(f"{stage}.{name}", value, image)
    return _apply(key, dict(parameters), image)


def sample_and_apply(
    key: jax.Array, preset: Preset, image: jax.Array, severity: jax.Array | float = 1.0
) -> tuple[jax.Array, Parameters]:
    """Degrades every image with parameters of its own; returns the parameters too.

    Args and errors are those of `sample` and `apply`.
    """
    drawn, noise = jax.random.split(key)
    parameters = sample(drawn, preset, image.shape[:-3], severity)
    return apply(noise, parameters, image), parameters


@jax.jit
def _apply(key: jax.Array, parameters: Parameters, image: jax.Array) -> jax.Array:
    values = group(parameters)
    x = image.astype(checks.compute_dtype(image))
    grey = colour.is_grey(x)
    for name, given in values.items():
        if STAGES[name].colours_grey:
            grey = grey & ~_active(given)[..., None, None, None]
    light = [STAGES[name] for name in values if STAGES[name].domain != "display"]
    if light:
        active = [_active(values[stage.name])[..., None, None, None] for stage in light]
        linear = colour.srgb_to_linear(jnp.clip(x, 0, 1))
        for stage in light:
            run = _run_field if stage.domain == "field" else _run
            linear = run(stage, key, values[stage.name], grey, linear)
        lit = colour.linear_to_srgb(jnp.clip(linear, 0, 1))
        x = jnp.where(functools.reduce(jnp.logical_or, active), lit, x)
    for name in values:
        if STAGES[name].domain == "display":
            x = _run(STAGES[name], key, values[name], grey, x)
    return x.astype(image.dtype)


def _run_field(
    stage: Stage, key: jax.Array, values: dict[str, jax.Array], grey: jax.Array, x: jax.Array
) -> jax.Array:
    """Multiplies linear light by a field; where it is not active its parameters are neutral."""
    if (stage.colour_only or stage.colours_grey) and x.shape[-1] != 3:
        return x
    factor = stage.function(*x.shape[-3:-1], **_values(stage, values)).astype(x.dtype)
    return x * (jnp.where(grey, 1, factor) if stage.colour_only else factor)


def _run(
    stage: Stage, key: jax.Array, values: dict[str, jax.Array], grey: jax.Array, x: jax.Array
) -> jax.Array:
    """Applies one stage; images where it is not active are unchanged bit for bit.

    A stage that no image of the batch has is skipped. The branch also makes the stage's input a
    value in memory: without it XLA on CPU fuses the stages and evaluates the noise of all earlier
    ones again for each use of a later one's input, which takes three times as long.
    """
    active = _active(values)

    def degraded(key, values, x):
        result = stage.function(key, x, **values)
        if stage.always_changes:
            result = jnp.where(active[..., None, None, None], result, x)
        return result

    key = jax.random.fold_in(key, stage.key_id)
    x = jax.lax.cond(
        active.any(), degraded, lambda key, values, x: x, key, _values(stage, values), x
    )
    return jnp.where(grey, x[..., :1], x) if stage.grey_shared else x


def _active(values: Mapping[str, jax.Array]) -> jax.Array:
    return jnp.asarray(values.get("active", 1.0)) != 0


def _values(stage: Stage, given: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Selects the parameters, neutral for images where the stage is not active.

    A select on a number is cheaper than one on an image, which would also keep the image before
    and after the stage alive.
    """
    active = _active(given)
    values = {}
    for name, spec in stage.parameters.items():
        value = jnp.asarray(given[name])
        if spec.neutral is not None and not stage.always_changes:
            value = jnp.where(active, value, jnp.asarray(spec.neutral, value.dtype))
        values[name] = value
    return values


def group(parameters: Mapping[str, jax.Array]) -> dict[str, dict[str, jax.Array]]:
    """Groups `{"stage.parameter": value}` as `{"stage": {"parameter": value}}`, in chain order.

    Raises:
      ValueError: if a key is unknown, naming the nearest, or a stage lacks a parameter.
    """
    valid = [
        f"{stage.name}.{name}"
        for stage in STAGES.values()
        for name in (*stage.parameters, "active")
    ]
    for key in parameters:
        if key not in valid:
            close = difflib.get_close_matches(key, valid, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"parameters have an unknown key {key!r}{hint}")
    stages = {}
    for stage, record in STAGES.items():
        names = record.parameters
        given = {
            name: parameters[f"{stage}.{name}"]
            for name in (*names, "active")
            if f"{stage}.{name}" in parameters
        }
        missing = [name for name in names if name not in given]
        if given and missing:
            raise ValueError(f"parameters lack {', '.join(f'{stage}.{name}' for name in missing)}")
        if given:
            stages[stage] = given
    return stages


def to_json(parameters: Mapping[str, jax.Array]) -> str:
    """Writes parameters as JSON, `{"stage": {"parameter": number or nested lists}}`, exactly."""
    stages = group(jax.device_get(dict(parameters)))
    nested = {
        stage: {name: jnp.asarray(value).tolist() for name, value in values.items()}
        for stage, values in stages.items()
    }
    return json.dumps(nested, indent=2)


def from_json(text: str) -> Parameters:
    """Reads what `to_json` wrote, to the bit.

    Raises:
      ValueError: if the text is not such JSON.
    """
    try:
        nested = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"parameters are not JSON: {error}") from None
    if not isinstance(nested, dict) or not all(isinstance(v, dict) for v in nested.values()):
        raise ValueError('expected a JSON object {"stage": {"parameter": number}}')
    flat = {f"{s}.{name}": value for s, values in nested.items() for name, value in values.items()}
    group(flat)
    parameters = {}
    for name, value in flat.items():
        try:
            parameters[name] = jnp.asarray(value, jnp.float32)
        except (TypeError, ValueError):
            raise ValueError(f"{name} must be a number or a nested list of numbers") from None
    return parameters
