"""Computes colour differences: CIE Lab of sRGB images and CIEDE2000."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from lle_jax import checks
from lle_jax.colour import srgb_to_linear
from lle_jax.metrics.conventions import pair, sqrt

# Linear sRGB to XYZ under D65, and D65 for the 2-degree observer, as in scikit-image.
XYZ_OF_RGB = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)
D65 = np.array([0.95047, 1.0, 1.08883])

# Squared angle (radians) as a polynomial of u = 1 - cos(angle), to 2e-9 up to u = 1.2 (101 deg).
SQUARED_ANGLE = (
    np.polynomial.Chebyshev.interpolate(lambda u: np.arccos(1 - u) ** 2, 12, domain=[0, 1.2])
    .convert(kind=np.polynomial.Polynomial)
    .coef
)


def srgb_to_lab(image: jax.Array) -> jax.Array:
    """Converts display-referred sRGB to CIE 1976 L*a*b* under D65 (ISO/CIE 11664-4).

    The constants are scikit-image's (`rgb2lab`): its matrix has six decimals and its white point
    five, so that grey has a* and b* of up to 0.005 instead of 0.

    Args:
      image: `[..., H, W, C]` in [0, 1]; one channel counts as three equal ones.

    Returns:
      `[..., H, W, 3]`: L* in [0, 100], a* and b* about -110 to 110.

    Raises:
      ValueError: if the image is malformed.
    """
    image = checks.image(image)
    image = image.astype(checks.compute_dtype(image))
    linear = [srgb_to_linear(image[..., c]) for c in range(image.shape[-1])]
    red, green, blue = linear if len(linear) == 3 else 3 * linear
    x, y, z = (
        _lab_curve(float(r) * red + float(g) * green + float(b) * blue)
        for r, g, b in XYZ_OF_RGB / D65[:, None]
    )
    return jnp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _lab_curve(t: jax.Array) -> jax.Array:
    root = jnp.exp(jnp.log(jnp.maximum(t, 0.008856)) / 3)  # faster than a cube root on CPU
    return jnp.where(t > 0.008856, root, 7.787 * t + 16 / 116)


def delta_e_2000(lab1: jax.Array, lab2: jax.Array) -> jax.Array:
    """Computes the CIEDE2000 difference of Lab colours, with kL = kC = kH = 1.

    Sharma, Wu and Dalal, "The CIEDE2000 color-difference formula: implementation notes,
    supplementary test data, and mathematical observations", Color Research and Application 30(1),
    2005, doi:10.1002/col.20070, eq. 2-22 (ISO/CIE 11664-6). Hues enter as unit vectors instead of
    angles (eq. 7, 10, 11, 14), which needs no arc tangent and no cosine of the hue,
    and has finite gradients: 0 where colours are equal, and no hue where one of them is grey.

    Args:
      lab1: `[..., 3]`, L* in [0, 100], a*, b*.
      lab2: same shape.

    Returns:
      `[...]`, at least 0; about 1 is just noticeable side by side. Symmetric.

    Raises:
      ValueError: if the shapes differ or the last axis is not of length 3.
    """
    lab1, lab2 = jnp.asarray(lab1), jnp.asarray(lab2)
    checks.same_shape(lab1, lab2, ("lab1", "lab2"))
    if lab1.shape[-1:] != (3,):
        raise ValueError(f"lab1 has shape {lab1.shape}; expected [..., 3]: L*, a*, b*")
    dtype = jnp.promote_types(jnp.promote_types(lab1.dtype, lab2.dtype), jnp.float32)
    (l1, a1, b1), (l2, a2, b2) = (
        [lab[..., i].astype(dtype) for i in range(3)] for lab in (lab1, lab2)
    )
    mean = (_length(a1, b1) + _length(a2, b2)) / 2
    scale = 1.5 - 0.5 * _saturation(mean)
    da, db = scale * (a2 - a1), b2 - b1  # differences first: exactly 0 for equal colours
    a1, a2 = scale * a1, scale * a2
    c1, c2 = _length(a1, b1), _length(a2, b2)
    mean = (c1 + c2) / 2
    hue_difference, cos, sin = _hues((a1, b1, c1), (a2, b2, c2), da, db)

    middle = ((l1 + l2) / 2 - 50) ** 2
    lightness = (l2 - l1) / (1 + 0.015 * middle / jnp.sqrt(20 + middle))
    chroma_difference = (da * (a1 + a2) + db * (b1 + b2)) / jnp.where(mean > 0, 2 * mean, 1)
    chroma = chroma_difference / (1 + 0.045 * mean)
    hue = hue_difference / (1 + 0.015 * mean * _hue_weight(cos, sin))
    rotation = -2 * _saturation(mean) * jnp.sin(math.radians(60) * _blueness(cos, sin))
    return sqrt(lightness**2 + chroma**2 + hue**2 + rotation * chroma * hue)


def _length(a: jax.Array, b: jax.Array) -> jax.Array:
    return sqrt(a * a + b * b)


def _saturation(chroma: jax.Array) -> jax.Array:
    """sqrt(C^7 / (C^7 + 25^7)) of eq. 4 and 17."""
    r = chroma / 25
    r7 = r * (r * r) * (r * r) * (r * r)
    return sqrt(r7 / (r7 + 1))


def _hues(first, second, da, db) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Delta H' (eq. 11), and cosine and sine of the mean hue (eq. 14), by vector algebra.

    The mean hue bisects the smaller angle between the hues. Beyond 90 degrees it is perpendicular
    to the difference of the unit vectors, which then is the longer and better conditioned one.
    """
    (a1, b1, c1), (a2, b2, c2) = first, second
    dot, product = a1 * a2 + b1 * b2, c1 * c2
    coloured = jnp.minimum(c1, c2) > 1e-8
    near = dot >= 0
    product = jnp.where(coloured, product, 1)
    longer = jnp.where(coloured, product + jnp.abs(dot), 1)
    cross = a1 * db - b1 * da  # exactly 0 for equal colours
    # Opposite hues (to rounding) turn from the smaller angle in [0, 360) to the larger.
    opposite = jnp.abs(cross) <= 4 * float(jnp.finfo(a1.dtype).eps) * product
    ahead = jnp.where(opposite, (b1 > 0) | ((b1 == 0) & (a1 > 0)), cross > 0)
    turn = jnp.where(ahead, 1.0, -1.0).astype(a1.dtype)
    inverse = jax.lax.rsqrt(longer)
    difference = math.sqrt(2) * inverse * jnp.where(near, cross, turn * longer)
    inverse = inverse * jax.lax.rsqrt(2 * product)
    u1, v1, u2, v2 = a1 * c2, b1 * c2, a2 * c1, b2 * c1
    cos = inverse * jnp.where(near, u1 + u2, turn * (v2 - v1))
    sin = inverse * jnp.where(near, v1 + v2, turn * (u1 - u2))
    return jnp.where(coloured, difference, 0), cos, sin


def _hue_weight(c: jax.Array, s: jax.Array) -> jax.Array:
    """T of eq. 15, the cosines of multiples of the mean hue written out."""
    c2, s2 = 1 - 2 * s * s, 2 * s * c
    harmonics = (
        (-0.17, -30, c, s),
        (0.24, 0, c2, s2),
        (0.32, 6, c2 * c - s2 * s, s2 * c + c2 * s),
        (-0.20, -63, 1 - 2 * s2 * s2, 2 * s2 * c2),
    )
    weight = jnp.ones_like(c)
    for amplitude, phase, cos, sin in harmonics:
        x, y = math.cos(math.radians(phase)), math.sin(math.radians(phase))
        weight = weight + amplitude * x * cos - amplitude * y * sin
    return weight


def _blueness(c: jax.Array, s: jax.Array) -> jax.Array:
    """exp(-((mean hue - 275) / 25)^2) of eq. 16, without the angle."""
    u = 1 - c * math.cos(math.radians(275)) - s * math.sin(math.radians(275))
    u = jnp.minimum(u, 1.2)  # beyond, the exponential is below 1e-7
    squared = jnp.full_like(u, SQUARED_ANGLE[-1])
    for coefficient in SQUARED_ANGLE[-2::-1]:
        squared = squared * u + float(coefficient)
    # The formula takes the hue from 0 to 360, so hues just above 0 count as 275 away, not 85.
    return jnp.where((c > 0) & (s >= 0), 0, jnp.exp(-squared / math.radians(25) ** 2))


def ciede2000_map(image: jax.Array, reference: jax.Array) -> jax.Array:
    """Computes the CIEDE2000 difference of each pixel, `[..., H, W]`; see `ciede2000`."""
    image, reference = pair(image, reference)
    return delta_e_2000(srgb_to_lab(image), srgb_to_lab(reference))


def ciede2000(image: jax.Array, reference: jax.Array) -> jax.Array:
    """Computes the mean CIEDE2000 difference of two sRGB images under D65.

    Equals the mean of scikit-image's `deltaE_ciede2000(rgb2lab(image), rgb2lab(reference))`.

    Args:
      image: `[..., H, W, C]` in [0, 1], C 1 or 3.
      reference: same shape.

    Returns:
      `[...]`, at least 0, in units of Delta E00; 0 for identical images.

    Raises:
      ValueError: on a wrong rank, dtype or channel count, or shapes that differ.
    """
    local = ciede2000_map(image, reference)
    # A product keeps XLA from fusing the sum with the map, which it then does not vectorise on CPU.
    weights = jnp.full(local.shape[-1], 1 / local.shape[-1], local.dtype)
    return jnp.mean(jnp.matmul(local, weights, precision="highest"), axis=-1)
