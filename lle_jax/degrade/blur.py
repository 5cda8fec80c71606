"""Blur by a point-spread function whose size may be traced and differ per image.

Every kernel sums to 1 (energy is preserved, a flat image stays flat) and images are extended by
half-sample symmetry, d c b a | a b c d | d c b a, SciPy's "reflect".
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from lle_jax import checks

MAX_RADIUS = 10.0
MAX_LENGTH = 31.0


def gaussian_blur(image: jax.Array, *, sigma: jax.Array | float) -> jax.Array:
    """Convolves with a Gaussian, cut off at 4 sigma as `scipy.ndimage.gaussian_filter` does.

    Rows and columns are filtered one after the other: by a sum of shifted images while every sigma
    is below 4.1 pixels; beyond, by a matrix over the whole side, whose cost per pixel grows with
    the side.

    Args:
      image: `[..., H, W, C]` in [0, 1].
      sigma: standard deviation in pixels, one number or one per image, >= 0.

    Returns:
      The blurred image; at sigma 0 the image bit for bit.

    Raises:
      ValueError: for a malformed image, or a concrete sigma that is negative or NaN.
    """
    image = checks.image(image)
    checks.number("sigma", sigma, 0)
    x = image.astype(checks.compute_dtype(image))
    sigma = checks.per_image("sigma", sigma, x)
    flat = sigma[..., 0, 0, 0] if sigma.ndim else sigma
    max_tap = jnp.max(jnp.floor(4 * flat + 0.5))
    branches = [functools.partial(_blur_by_taps, reach) for reach in TAP_RADII]
    branch = sum((max_tap > reach).astype(jnp.int32) for reach in TAP_RADII)
    # as an operand of the branch the weights are numbers in memory, not formulas for each pixel
    weights = _gaussian(np.arange(-TAP_RADII[-1], TAP_RADII[-1] + 1)[None], flat)[..., 0, :]
    weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
    y = jax.lax.switch(branch, [*branches, _blur_by_sides], x, weights, flat)
    # At sigma 0 the weights are exactly 0 and one 1, so that y is x; rounding may leave [0, 1].
    return jnp.where(sigma > 0, jnp.clip(y, 0, 1), y).astype(image.dtype)


# Radii of the kernels that are summed tap by tap, smallest first. Measured on two CPU cores
# for 16 x 256 x 256 x 3: 2.9 and 9 ms, whole sides 16 ms.
TAP_RADII = (4, 16)
_FARTHEST = 400  # pixels that a kernel may reach beyond an image of any side: a sigma of 100


def _gaussian(distance: jax.Array | np.ndarray, sigma: jax.Array) -> jax.Array:
    """Unnormalised weights `[..., *distance.shape]`, zero beyond 4 sigma, for sigma `[...]`."""
    # Below 0.01 pixels the kernel is a single tap in double precision too.
    sigma = jnp.maximum(sigma, 1e-2)[..., None, None]
    distance = jnp.asarray(distance, sigma.dtype)
    inside = jnp.abs(distance) <= jnp.floor(4 * sigma + 0.5)
    return jnp.where(inside, jnp.exp(-0.5 * (distance / sigma) ** 2), 0)


def _blur_by_taps(reach: int, x: jax.Array, weights: jax.Array, sigma: jax.Array) -> jax.Array:
    return separable(x, weights[..., TAP_RADII[-1] - reach : TAP_RADII[-1] + reach + 1])


def separable(x: jax.Array, weights: jax.Array) -> jax.Array:
    """Filters rows and columns of `[..., H, W, C]` by an odd, symmetric window; sides mirrored.

    Args:
      x: the images.
      weights: `[taps]`, or `[..., taps]` of each image.
    """
    reach = weights.shape[-1] // 2
    # Pixels and channels in one axis: XLA on CPU does not vectorise loops over three channels.
    rows = (*x.shape[:-2], x.shape[-2] * x.shape[-1])
    y = _sum_of_shifts(_extend(x, -3, reach), weights, rows, -2, 1)
    return _sum_of_shifts(
        _extend(y.reshape(x.shape), -2, reach), weights, rows, -1, x.shape[-1]
    ).reshape(x.shape)


def _extend(x: jax.Array, axis: int, reach: int) -> jax.Array:
    """The image extended at both ends of an axis, as rows `[..., H, W * C]`."""
    padding = [(0, 0)] * x.ndim
    padding[axis] = (reach, reach)
    extended = jnp.pad(x, padding, mode="symmetric")
    return extended.reshape(*extended.shape[:-2], -1)


def _sum_of_shifts(
    extended: jax.Array,
    weights: jax.Array,
    shape: tuple[int, ...],
    axis: int,
    step: int,
) -> jax.Array:
    """Each weight times the array from its multiple of `step` on, summed; mirrored taps paired."""
    taps, side = weights.shape[-1], shape[axis]
    shifts = [
        jax.lax.slice_in_dim(extended, i * step, i * step + side, axis=axis) for i in range(taps)
    ]
    weights = weights[..., None, None, :]
    middle = taps // 2
    total = weights[..., middle] * shifts[middle]
    for i in range(middle):
        total += weights[..., i] * (shifts[i] + shifts[-1 - i])
    return total


def _blur_by_sides(x: jax.Array, weights: jax.Array, sigma: jax.Array) -> jax.Array:
    def blur(image_and_sigma):
        image, sigma = image_and_sigma
        rows, columns = (_gaussian_matrix(side, sigma) for side in image.shape[:2])
        y = jnp.einsum("ij,jwc->iwc", rows, image, precision="highest")
        return jnp.einsum("ij,hjc->hic", columns, y, precision="highest")

    # one image after the other, for the memory of the matrices
    images = x.reshape(-1, *x.shape[-3:])
    sigma = jnp.broadcast_to(sigma, x.shape[:-3]).reshape(-1)
    return jax.lax.map(blur, (images, sigma)).reshape(x.shape)


def _gaussian_matrix(side: int, sigma: jax.Array) -> jax.Array:
    """`[..., side, side]`: row i holds the weights of the pixels that blur into pixel i."""
    out, source = jnp.arange(side)[:, None], jnp.arange(side)
    # The image and its mirror image repeat every 2 * side pixels; two repeats reach 4 sides far.
    count = max(2, -(-_FARTHEST // (2 * side)))
    repeats = 2 * side * jnp.arange(-count, count + 1)[:, None, None]
    distances = jnp.concatenate([source - out + repeats, -1 - source - out + repeats])
    total = jnp.sum(_gaussian(distances, sigma[..., None]), axis=-3)
    return total / jnp.sum(total, axis=-1, keepdims=True)


def disc_kernel(radius: jax.Array | float, *, max_radius: float = MAX_RADIUS) -> jax.Array:
    """Out-of-focus point-spread function: a disc, its edge falling linearly over one pixel.

    Args:
      radius: in pixels, `[...]`, at most `max_radius`.
      max_radius: static; sets the kernel's size.

    Returns:
      `[..., n, n]` with n = 2 ceil(max_radius + 0.5) + 1, sum 1.
    """
    reach = int(np.ceil(max_radius + 0.5))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    radius = jnp.asarray(radius)[..., None, None]
    kernel = jnp.clip(radius + 0.5 - jnp.asarray(np.hypot(x, y), radius.dtype), 0, 1)
    return kernel / jnp.sum(kernel, axis=(-2, -1), keepdims=True)


def defocus_blur(
    image: jax.Array, *, radius: jax.Array | float, max_radius: float = MAX_RADIUS
) -> jax.Array:
    """Convolves with a disc, the geometric point-spread function of a lens out of focus.

    Args:
      image: `[..., H, W, C]` in [0, 1].
      radius: of the disc in pixels, one number or one per image, in [0, max_radius]; a traced
        value above is taken as `max_radius`.
      max_radius: static bound.

    Returns:
      The blurred image; at radius 0 the image bit for bit.

    Raises:
      ValueError: for a malformed image, or a concrete radius outside its range.
    """
    checks.number("radius", radius, 0, max_radius)
    image = checks.image(image)
    x = image.astype(checks.compute_dtype(image))
    radius = checks.per_image("radius", radius, x)
    flat = jnp.minimum(radius[..., 0, 0, 0] if radius.ndim else radius, max_radius)
    blurred = _convolve(x, disc_kernel(flat, max_radius=max_radius))
    return jnp.where(radius > 0, blurred.astype(image.dtype), image)


def motion_kernel(
    length: jax.Array | float,
    angle: jax.Array | float,
    curvature: jax.Array | float = 0.0,
    *,
    max_length: float = MAX_LENGTH,
) -> jax.Array:
    """Point-spread function of a camera that moves evenly along an arc during the exposure.

    Points spaced evenly along the arc, each spread over its four neighbours by bilinear weights.

    Args:
      length: of the arc in pixels, `[...]`, at most `max_length`.
      angle: of its tangent at the middle, in degrees, counter-clockwise from the rows' direction.
      curvature: inverse of the arc's radius in 1 / pixels; 0 is a straight line.
      max_length: static; sets the kernel's size.

    Returns:
      `[..., n, n]` with n = 2 ceil(max_length / 2) + 3, sum 1.
    """
    reach = int(np.ceil(max_length / 2)) + 1
    points = 4 * int(np.ceil(max_length))
    along = (np.arange(points) + 0.5) / points - 0.5
    length, angle, curvature = (jnp.asarray(v)[..., None] for v in (length, angle, curvature))
    s = length * along
    # sin(ks)/k and (1 - cos(ks))/k without the division by a curvature of 0
    forward = s * jnp.sinc(curvature * s / np.pi)
    side = 0.5 * curvature * (s * jnp.sinc(0.5 * curvature * s / np.pi)) ** 2
    side = side - jnp.mean(side, axis=-1, keepdims=True)
    cosine, sine = jnp.cos(jnp.deg2rad(angle)), jnp.sin(jnp.deg2rad(angle))
    x, y = forward * cosine - side * sine, -(forward * sine + side * cosine)
    grid = jnp.arange(-reach, reach + 1, dtype=x.dtype)
    on_x, on_y = (jnp.clip(1 - jnp.abs(v[..., None] - grid), 0) for v in (x, y))
    kernel = jnp.einsum("...si,...sj->...ij", on_y, on_x, precision="highest")
    return kernel / jnp.sum(kernel, axis=(-2, -1), keepdims=True)


def motion_blur(
    image: jax.Array,
    *,
    length: jax.Array | float,
    angle: jax.Array | float,
    curvature: jax.Array | float = 0.0,
    max_length: float = MAX_LENGTH,
) -> jax.Array:
    """Convolves with the path of a moving camera; see `motion_kernel`.

    Args:
      image: `[..., H, W, C]` in [0, 1].
      length: of the path in pixels, one number or one per image, in [0, max_length]; a traced
        value above is taken as `max_length`.
      angle: direction in degrees, likewise.
      curvature: in 1 / pixels, likewise, in [-1, 1].
      max_length: static bound.

    Returns:
      The blurred image; at length 0 the image bit for bit.

    Raises:
      ValueError: for a malformed image, or a concrete value outside its range.
    """
    checks.number("length", length, 0, max_length)
    checks.number("angle", angle)
    checks.number("curvature", curvature, -1, 1)
    image = checks.image(image)
    x = image.astype(checks.compute_dtype(image))
    named = {"length": length, "angle": angle, "curvature": curvature}
    shaped = [checks.per_image(name, value, x) for name, value in named.items()]
    active = shaped[0] > 0
    flat = [v[..., 0, 0, 0] if v.ndim else v for v in shaped]
    flat[0] = jnp.minimum(flat[0], max_length)
    blurred = _convolve(x, motion_kernel(*jnp.broadcast_arrays(*flat), max_length=max_length))
    return jnp.where(active, blurred.astype(image.dtype), image)


def _convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution with one odd-sized kernel per image, by the Fourier transform."""
    reach = kernel.shape[-1] // 2
    height, width = x.shape[-3:-1]
    padding = [(0, 0)] * (x.ndim - 3) + [(reach, reach), (reach, reach), (0, 0)]
    extended = jnp.pad(x, padding, mode="symmetric")
    # Sides of small prime factors are several times as fast as, for example, 278 = 2 * 139.
    shape = tuple(scipy.fft.next_fast_len(side) for side in extended.shape[-3:-1])
    # The kernel's own transform is taken on the image's grid; its shift is undone by the crop, and
    # what wraps around falls outside it.
    spectrum = jnp.fft.rfft2(extended, s=shape, axes=(-3, -2))
    spectrum *= jnp.fft.rfft2(kernel, s=shape, axes=(-2, -1))[..., None]
    y = jnp.fft.irfft2(spectrum, s=shape, axes=(-3, -2))
    y = y[..., 2 * reach : 2 * reach + height, 2 * reach : 2 * reach + width, :]
    return jnp.clip(y, 0, 1).astype(x.dtype)
