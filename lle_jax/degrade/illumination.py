"""Non-uniform illumination: smooth fields that multiply linear light.

Positions and radii are in units of half the image's diagonal, from its centre, x to the right and
y down, so that a field looks the same at every resolution. All builders return `[..., H, W, 1]`
for parameters of shape `[...]`, scalar or one per image; parameters may be traced.
"""

import jax
import jax.numpy as jnp

from lle_jax import checks
from lle_jax.degrade.exposure import scale_linear


def illumination(image: jax.Array, *, field: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Multiplies the linear light of an image by a field.

    Args:
      image: `[..., H, W, C]` in [0, 1].
      field: `[..., H, W, 1]`, >= 0, that broadcasts to the image; 1 changes nothing.
      mask: optional `[..., H, W, 1]`, the field of view. Where it is zero (False), pixels stay as
        they were bit for bit.

    Raises:
      ValueError: for a malformed image, or a field or mask that does not broadcast to it.
    """
    image = checks.image(image)
    checks.number("field", field, 0)
    field = jnp.asarray(field, checks.compute_dtype(image))
    _must_broadcast("field", field, image)
    if mask is not None:
        mask = jnp.asarray(mask)
        _must_broadcast("mask", mask, image)
        field = jnp.where(mask != 0, field, 1)
    return scale_linear(image, field)


def _must_broadcast(name: str, value: jax.Array, image: jax.Array) -> None:
    try:
        fits = jnp.broadcast_shapes(value.shape, image.shape) == image.shape
    except ValueError:
        fits = False
    if not fits or value.ndim < 3:
        raise ValueError(
            f"{name} has shape {value.shape}; expected [..., H, W, 1] for images {image.shape}"
        )


def cos4_vignetting(height: int, width: int, *, half_angle: jax.Array | float) -> jax.Array:
    """Natural vignetting: irradiance falls with the fourth power of the cosine off the axis.

    With r the distance from the centre, tan(theta) = r tan(half_angle), field = cos(theta)^4.
    (Kolb, Mitchell and Hanrahan, "A realistic camera model for computer graphics", SIGGRAPH 1995,
    derive the law for a thin exit pupil.)

    Args:
      height: in pixels.
      width: in pixels.
      half_angle: between the axis and the image's corner, in degrees, [0, 89]; 0 is even.
    """
    checks.number("half_angle", half_angle, 0, 89)
    (angle,), (x, y) = _grid(height, width, half_angle)
    tangent = jnp.tan(jnp.deg2rad(angle))
    return 1 / (1 + (tangent**2) * (x**2 + y**2)) ** 2


def polynomial_vignetting(
    height: int,
    width: int,
    *,
    a: jax.Array | float = 0.0,
    b: jax.Array | float = 0.0,
    c: jax.Array | float = 0.0,
) -> jax.Array:
    """Vignetting as measured: field = max(0, 1 + a r^2 + b r^4 + c r^6), r = 1 in the corner.

    The sixth-order even polynomial of Goldman, "Vignette and exposure calibration and
    compensation", IEEE TPAMI 32(12), 2010, doi 10.1109/TPAMI.2010.55.

    Args:
      height: in pixels.
      width: in pixels.
      a: coefficient of r^2; usually negative.
      b: coefficient of r^4.
      c: coefficient of r^6.
    """
    for name, value in (("a", a), ("b", b), ("c", c)):
        checks.number(name, value)
    (a, b, c), (x, y) = _grid(height, width, a, b, c)
    r2 = x**2 + y**2
    return jnp.maximum(1 + r2 * (a + r2 * (b + r2 * c)), 0)


def light_source(
    height: int,
    width: int,
    *,
    x: jax.Array | float = 0.0,
    y: jax.Array | float = 0.0,
    falloff: jax.Array | float,
) -> jax.Array:
    """A lamp near the scene, as at the tip of an endoscope: light falls with squared distance.

    A point lamp stands above (x, y) at the height 1 / falloff over a plane, and the field is the
    inverse square of the distance from lamp to pixel, 1 where it is nearest:
    1 / (1 + falloff^2 rho^2) with rho the distance from (x, y) in the image.

    Args:
      height: in pixels.
      width: in pixels.
      x: position of the brightest point.
      y: position of the brightest point.
      falloff: half the image's diagonal divided by the lamp's distance, >= 0; 0 is even light.
    """
    for name, value in (("x", x), ("y", y)):
        checks.number(name, value)
    checks.number("falloff", falloff, 0)
    (x, y, falloff), (column, row) = _grid(height, width, x, y, falloff)
    return 1 / (1 + falloff**2 * ((column - x) ** 2 + (row - y) ** 2))


def fundus_illumination(
    height: int,
    width: int,
    *,
    halo: jax.Array | float = 0.0,
    halo_x: jax.Array | float = 0.0,
    halo_y: jax.Array | float = 0.0,
    halo_radius: jax.Array | float = 0.6,
    shadow: jax.Array | float = 0.0,
    shadow_x: jax.Array | float = 0.0,
    shadow_y: jax.Array | float = 0.0,
    shadow_radius: jax.Array | float = 0.4,
) -> jax.Array:
    """Halo and shadow of fundus photography after the degradation model of Cofe-Net.

    Stray light brightens the rim, outside a disc near the centre, and a badly aligned pupil
    leaves a dark disc; the edges of both are soft. Model: Shen et al., "Modeling and enhancing
    low-quality retinal fundus images", IEEE TMI 40(3), 2021, doi 10.1109/TMI.2020.3043495. There
    the discs, blurred by a Gaussian, are added to display values, the halo with a tint; here they
    multiply linear light, the halo is white, and the edge is a cubic ramp within 0.035 of the
    published blur of the shadow.

    Args:
      height: in pixels.
      width: in pixels.
      halo: light added far outside the halo's disc, relative to the light there, >= 0.
      halo_x: centre of the disc that the halo surrounds.
      halo_y: centre of the disc that the halo surrounds.
      halo_radius: radius of that disc, > 0.
      shadow: fraction of the light missing in the middle of the shadow, [0, 1].
      shadow_x: centre of the shadow.
      shadow_y: centre of the shadow.
      shadow_radius: radius of the shadow, > 0.
    """
    checks.number("halo", halo, 0)
    checks.number("shadow", shadow, 0, 1)
    for name, value in (("halo_radius", halo_radius), ("shadow_radius", shadow_radius)):
        checks.number(name, value, 1e-3)
    values, (x, y) = _grid(
        height, width, halo, halo_x, halo_y, halo_radius, shadow, shadow_x, shadow_y, shadow_radius
    )
    halo, halo_x, halo_y, halo_radius, shadow, shadow_x, shadow_y, shadow_radius = values
    rim = 1 - _soft_disc((x - halo_x) ** 2 + (y - halo_y) ** 2, halo_radius)
    hole = _soft_disc((x - shadow_x) ** 2 + (y - shadow_y) ** 2, shadow_radius)
    return (1 + halo * rim) * (1 - shadow * hole)


def _soft_disc(squared_distance: jax.Array, radius: jax.Array) -> jax.Array:
    """1 inside 0.1 of the radius, 0 outside 1.75, a cubic ramp between."""
    # the root's slope is infinite at the centre, where the ramp is flat
    distance = jnp.sqrt(jnp.maximum(squared_distance, 1e-12)) / radius
    t = jnp.clip((1.75 - distance) / 1.65, 0, 1)
    return t**2 * (3 - 2 * t)


def _grid(height: int, width: int, *parameters) -> tuple[list[jax.Array], tuple]:
    """Shapes parameters `[...]` to `[..., 1, 1, 1]`; returns them and the pixels' (x, y)."""
    arrays = jnp.broadcast_arrays(*(jnp.asarray(p) for p in parameters))
    dtype = jnp.result_type(*arrays, jnp.float32)
    shaped = [p.astype(dtype)[..., None, None, None] for p in arrays]
    half_diagonal = (height**2 + width**2) ** 0.5 / 2
    x = (jnp.arange(width, dtype=dtype) - (width - 1) / 2) / half_diagonal
    y = (jnp.arange(height, dtype=dtype) - (height - 1) / 2) / half_diagonal
    return shaped, (x[None, :, None], y[:, None, None])
