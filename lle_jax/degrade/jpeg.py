"""JPEG compression: what a baseline encoder followed by a decoder does to the pixels.

Entropy coding loses nothing, so it is omitted. The rest is integer arithmetic and is reproduced
exactly as libjpeg-turbo does it by default (accurate integer DCT, triangle upsampling), which is
what OpenCV and Pillow ship: 0 levels apart.

Sources: ITU-T T.81 (tables of Annex K, DCT), ITU-T T.871 (colour), Loeffler, Ligtenberg and
Moschytz, "Practical fast 1-D DCT algorithms with 11 multiplications", ICASSP 1989 (the
factorisation whose rounded constants define the integer DCT).
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from lle_jax import checks, colour

_SUBSAMPLINGS = ("4:2:0", "4:4:4")

# T.81 tables K.1 (luma) and K.2 (chroma).
_LUMA_STEPS = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_CHROMA_STEPS = np.full((8, 8), 99)
_CHROMA_STEPS[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]


def _quantisers() -> np.ndarray:
    """Steps and their reciprocals for each quality: float32 `[100, plane, 2, 8, 8]`.

    The steps are scaled by the rule of the Independent JPEG Group. The forward DCT is 8 times too
    large, so the reciprocal is 1/(8 step). It is a little more than that: quantisation rounds
    halves away from zero, and the excess carries them over before rounding to the nearest. It
    moves no other value across, since a value is a multiple of 1/(8 step) below 2^15/(8 step), and
    it exceeds the rounding errors of float32.
    """
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)[:, None, None, None]
    steps = np.clip((np.stack([_LUMA_STEPS, _CHROMA_STEPS]) * scale + 50) // 100, 1, 255)
    return np.stack([steps, (1 + 2**-18) / (8 * steps)], axis=2).astype(np.float32)


def _integer_dct() -> np.ndarray:
    """The one-dimensional DCT times 2^13 sqrt(8): int32 `[frequency, sample]`.

    Each entry is the sum of the rounded 13-bit constants of the factorisation, hence pairs such as
    10703 and 10704. The inverse uses the transpose.
    """
    half = np.array(
        [
            [8192, 8192, 8192, 8192],
            [11363, 9633, 6437, 2260],
            [10703, 4433, -4433, -10703],
            [9633, -2259, -11362, -6436],
            [8192, -8192, -8192, 8192],
            [6437, -11362, 2261, 9633],
            [4433, -10704, 10704, -4433],
            [2260, -6436, 9633, -11363],
        ],
        np.int32,
    )
    parity = np.array([1, -1] * 4, np.int32)[:, None]
    return np.concatenate([half, parity * half[:, ::-1]], axis=1)


_QUANTISERS = _quantisers()
_DCT = _integer_dct()
# T.871 in 16-bit fixed point: rows Y, Cb, Cr from R, G, B, and rows R, G, B from Cb, Cr.
_TO_YCBCR = np.array(
    [[19595, 38470, 7471], [-11059, -21709, 32768], [32768, -27439, -5329]], np.int32
)
_FROM_CBCR = np.array([[0, 91881], [-22554, -46802], [116130, 0]], np.int32)


def jpeg(image: jax.Array, quality, subsampling: str = "4:2:0") -> jax.Array:
    """The image after baseline JPEG compression, as libjpeg-turbo decodes it.

    Pixels are clipped to [0, 1] and rounded to 8-bit levels; the result is a level divided by 255.

    Gradient: straight-through. Rounding and clipping count as the identity, so that the DCT and
    its inverse cancel; what is left is the linear map `jpeg_surrogate`, and the derivative of
    `jpeg` with respect to the image is the derivative of that map: the identity for grey images
    and for "4:4:4", the smoothing of chroma for "4:2:0". The steps cancel as well, so the
    derivative with respect to quality is zero: fit a quality by search, not by gradient.

    Args:
      image: `[..., H, W, C]`, C = 1 (grey) or 3 (sRGB), any height and width.
      quality: 1 (worst) to 100 (best), one number or one per image; may be traced. Fractions are
        rounded to the nearest integer, traced values are clipped to the range.
      subsampling: "4:2:0" halves chroma in both directions, "4:4:4" keeps it. No effect on grey.

    Returns:
      `[..., H, W, C]` in [0, 1], of the image's dtype.

    Raises:
      ValueError: if the image is not a float image, `quality` is outside [1, 100], NaN or of
        another shape than the batch, or `subsampling` is not one of the two.
    """
    image = checks.image(image)
    _check_options(quality, subsampling)
    return _straight_through(image, _flat_quality(quality, image), subsampling)


def jpeg_uint8(image: jax.Array, quality, subsampling: str = "4:2:0") -> jax.Array:
    """`jpeg` on 8-bit levels: uint8 `[..., H, W, C]` in and out, without a gradient.

    Raises:
      ValueError: as `jpeg`, and if the image is not uint8.
    """
    image = jnp.asarray(image)
    if image.dtype != jnp.uint8:
        raise ValueError(f"image has dtype {image.dtype}; expected uint8 (jpeg takes floats)")
    checks.image_shape(image.shape)
    _check_options(quality, subsampling)
    return _round_trip(image, _flat_quality(quality, image), subsampling)


def jpeg_surrogate(image: jax.Array, subsampling: str = "4:2:0") -> jax.Array:
    """The linear map whose derivative `jpeg` reports: the codec without rounding and clipping.

    Luma passes; with "4:2:0" chroma is averaged over 2 x 2 pixels and interpolated back. The
    quality has no influence. Agrees with `jpeg` at quality 100 within a few levels.

    Args:
      image: `[..., H, W, C]`, C = 1 or 3.
      subsampling: "4:2:0" or "4:4:4".

    Returns:
      `[..., H, W, C]`, of the image's dtype, not clipped.

    Raises:
      ValueError: if the image is not a float image or `subsampling` is unknown.
    """
    image = checks.image(image)
    _check_options(100, subsampling)
    if image.shape[-1] == 1 or subsampling == "4:4:4":
        return image
    height, width = image.shape[-3:-1]
    pixels = image.astype(checks.compute_dtype(image))
    luma = colour.luma(pixels)
    # R-Y, G-Y and B-Y are combinations of Cb and Cr alone, and smoothing commutes with those.
    chroma = jnp.moveaxis(pixels - luma, -1, -3)
    planes = chroma.reshape(-1, height, width)
    smooth = _triangle(_sum_2x2(planes) / 64, lambda even, odd: jnp.stack([even, odd], axis=-1))
    smooth = smooth.reshape(len(planes), height + height % 2, -1)
    smooth = smooth[:, :height, :width].reshape(chroma.shape)
    return (luma + jnp.moveaxis(smooth, -3, -1)).astype(image.dtype)


def _check_options(quality, subsampling) -> None:
    checks.number("quality", quality, 1, 100)
    if subsampling not in _SUBSAMPLINGS:
        raise ValueError(
            f"subsampling is {subsampling!r}; expected one of {', '.join(_SUBSAMPLINGS)}"
        )


def _flat_quality(quality, image: jax.Array) -> jax.Array:
    """The quality as an array `[]` or `[...]`, the image's batch shape."""
    quality = checks.per_image("quality", quality, image)
    return quality.reshape(quality.shape[:-3])


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _straight_through(image, quality, subsampling):
    return _float_round_trip(image, quality, subsampling)


@_straight_through.defjvp
def _straight_through_jvp(subsampling, primals, tangents):
    return (
        _straight_through(*primals, subsampling),
        jpeg_surrogate(tangents[0], subsampling),
    )


@functools.partial(jax.jit, static_argnums=2)
def _float_round_trip(image, quality, subsampling):
    dtype = checks.compute_dtype(image)
    levels = jnp.round(jnp.clip(image.astype(dtype), 0, 1) * 255).astype(jnp.uint8)
    return (_round_trip(levels, quality, subsampling).astype(dtype) / 255).astype(image.dtype)


@functools.partial(jax.jit, static_argnums=2)
def _round_trip(image, quality, subsampling):
    """uint8 `[..., H, W, C]` -> uint8, quality `[]` or `[...]`."""
    height, width, channels = image.shape[-3:]
    levels = image.reshape(math.prod(image.shape[:-3]), height, width, channels)
    luma_steps, chroma_steps = _steps(quality)
    if channels == 1:
        grey = _code(levels[..., 0].astype(jnp.int32) - 128, luma_steps)
        return grey.reshape(image.shape).astype(jnp.uint8)

    blue, red = (_fixed(levels, row, 2**15 - 1) for row in _TO_YCBCR[1:])
    if subsampling == "4:2:0":
        blue, red = (_halve(plane) for plane in (blue, red))
    if chroma_steps.ndim > 3:
        chroma_steps = jnp.concatenate([chroma_steps.reshape(-1, 2, 8, 8)] * 2)
    chroma = _code(jnp.concatenate([blue, red]), chroma_steps)
    luma = _code(_fixed(levels, _TO_YCBCR[0], 2**15) - 128, luma_steps)

    def pixels(luma, chroma):
        if subsampling == "4:2:0":
            chroma = _upsample(chroma[:, :, : (width + 1) // 2])[:, :height, :width]
        blue, red = jnp.split(chroma - 128, 2)
        colours = blue[..., None] * _FROM_CBCR[:, 0] + red[..., None] * _FROM_CBCR[:, 1]
        colours = ((luma << 16)[..., None] + colours + 2**15) >> 16
        return jnp.clip(colours, 0, 255).reshape(image.shape).astype(jnp.uint8)

    # A branch that is always taken, because XLA does not fuse across its border: it would work out
    # every decoded sample again for each of the pixels that the sample is interpolated to.
    nothing = jnp.zeros(image.shape, jnp.uint8)
    always = jnp.all(chroma_steps[..., 0, 0, 0] > 0)
    return jax.lax.cond(always, pixels, lambda *_: nothing, luma, chroma)


def _fixed(levels, weights, rounding):
    """Weighted sum of the channels in 16-bit fixed point."""
    red, green, blue = (levels[..., channel].astype(jnp.int32) for channel in range(3))
    return (weights[0] * red + weights[1] * green + weights[2] * blue + rounding) >> 16


def _steps(quality):
    """Quantisers of luma and chroma: two arrays `[..., 2, 8, 8]`, steps and reciprocals."""
    quality = jnp.clip(jnp.round(quality), 1, 100)
    chosen = (quality[..., None] == np.arange(1, 101)).astype(jnp.float32)
    # A product rather than a look-up: XLA would fuse a look-up into the loop over the pixels.
    steps = _dot(chosen, _QUANTISERS.reshape(100, -1)).reshape(*quality.shape, 2, 2, 8, 8)
    return steps[..., 0, :, :, :], steps[..., 1, :, :, :]


def _dot(a, b):
    # The highest precision, as devices with fast low-precision products would use those instead.
    return jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST)


def _descale(x, bits):
    return (x + (1 << (bits - 1))) >> bits


def _as_int32(x):
    """Float integers below 2^22 in size to int32, by their bits.

    A plain conversion takes care of overflow and NaN, several times the work.
    """
    offset = np.float32(1.5 * 2**23)  # at this size neighbouring floats are 1 apart
    bits = jax.lax.bitcast_convert_type(x + offset, jnp.int32)
    return bits - offset.view(np.int32)


def _code(plane, steps):
    """DCT, quantisation and back: int32 `[N, H, W]` around 0 -> levels 0..255.

    The sizes of the intermediate scaling (2 bits kept after the first of two passes, 3 more
    dropped at the end) and the order of the passes are those of the integer DCT of libjpeg.
    On a CPU XLA fuses a sum with the arithmetic around it, but not a product of matrices. The sums
    below save passes over memory; the products stand where fusion would repeat the arithmetic
    before them for each of eight terms.
    """
    height, width = plane.shape[1:]
    plane = jnp.pad(plane, ((0, 0), (0, -height % 8), (0, -width % 8)), mode="edge")
    count, rows, columns = plane.shape
    matrix = _DCT[:, :, None, None, None]
    by_row = (8, count, rows // 8, columns)  # row within the block, image, block row, column
    steps = _dot(steps, np.tile(np.eye(8, dtype=np.float32), (1, columns // 8)))
    steps = jnp.moveaxis(steps, (-3, -2), (0, 1)).reshape(2, 8, -1, 1, columns)

    x = plane.reshape(count, rows // 8, 8, columns).transpose(2, 0, 1, 3).astype(jnp.float32)
    # Exact in float32, as the sums stay below 2^24 of their last place; later ones would not.
    x = _dot(x.reshape(-1, 8), _DCT.T.astype(np.float32) / 2**11)
    x = _as_int32(jnp.floor(x + 0.5)).reshape(by_row)
    x = jnp.sum(matrix * x, axis=1, dtype=jnp.int32)
    x = _descale(x, 15).astype(jnp.float32)
    x = _as_int32(jnp.round(x * steps[1]) * steps[0])
    x = jnp.sum(matrix.swapaxes(0, 1) * x, axis=1, dtype=jnp.int32)
    x = _descale(x, 11).transpose(1, 2, 0, 3)
    x = jnp.dot(x.reshape(-1, 8), _DCT)
    x = jnp.clip(_descale(x, 18) + 128, 0, 255)
    return x.reshape(plane.shape)[:, :height, :width]


def _halve(plane):
    """Means of 2 x 2 samples, halves rounded down and up in turn along a row.

    The right edge is grown to whole blocks here, before the rounding, and the bottom edge after
    it, by `_code`.
    """
    plane = jnp.pad(plane, ((0, 0), (0, 0), (0, -plane.shape[2] % 16)), mode="edge")
    bias = 1 + (jnp.arange(plane.shape[2] // 2, dtype=jnp.int32) & 1)
    return (_sum_2x2(plane) + bias) >> 2


def _sum_2x2(plane):
    """Sums of 2 x 2 samples, `[N, H, W]` -> `[N, ceil(H/2), ceil(W/2)]`, edges repeated."""
    height, width = plane.shape[1:]
    plane = jnp.pad(plane, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    rows = plane[:, ::2] + plane[:, 1::2]
    return rows[:, :, ::2] + rows[:, :, 1::2]


def _upsample(plane):
    """Triangle interpolation as the decoder rounds it: levels `[N, H, W]` -> `[N, 2H, 2W]`."""

    # Both columns of a sample as the halves of one word: interleaved without moving anything.
    def pack(even, odd):
        return ((even + 8) >> 4) | ((odd + 7) >> 4 << 16)

    levels = jax.lax.bitcast_convert_type(_triangle(plane, pack), jnp.int16).astype(jnp.int32)
    return levels.reshape(len(plane), 2 * plane.shape[1], -1)


def _triangle(plane, join):
    """Sixteen times the triangle interpolation: `[N, H, W]` -> `[N, H, 2, W, ...]`.

    Each new sample is 3/4 its own and 1/4 the next nearest old sample, in both directions. The even
    and the odd columns go through `join` for each of the two rows that a row becomes; stacking
    the rows last spares XLA a choice for every sample that is read. Planes at most two samples wide
    are repeated instead.
    """
    if plane.shape[2] <= 2:
        repeated = join(16 * plane, 16 * plane)
        return jnp.stack([repeated, repeated], axis=2)
    edged = jnp.pad(plane, ((0, 0), (1, 1), (1, 1)), mode="edge")
    joined = []
    for neighbour in (edged[:, :-2], edged[:, 2:]):
        row = 3 * edged[:, 1:-1] + neighbour
        own = 3 * row[..., 1:-1]
        joined.append(join(own + row[..., :-2], own + row[..., 2:]))
    return jnp.stack(joined, axis=2)
