"""What a camera does: mosaic, noise at the sensor, demosaicing, denoising, sharpening.

Noise that is independent from sample to sample at the sensor is not so in the file: interpolating
the missing colours spreads it over neighbouring pixels, the colour matrix over channels, and
denoising takes the fine of it and leaves the coarse. A network that never saw such noise takes its
grains for structure.
"""

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from lle_jax import checks, colour
from lle_jax.degrade import bits as random_bits
from lle_jax.degrade.blur import gaussian_blur, separable
from lle_jax.degrade.noise import poisson_gaussian_noise

BLACK_LEVEL = 1 / 16  # of the largest number, as 64 of 1023
# Shapes of the Tukey lambda distribution at `tail` 0, nearly normal, and 1, about the heaviest tail
# that has a kurtosis.
LAMBDAS = (0.14, -0.24)

# From CIE XYZ to the colours of four cameras, the ones that Brooks et al. mix.
_XYZ_TO_CAMERA = np.array(
    [
        [[1.0234, -0.2969, -0.2266], [-0.5625, 1.6328, -0.0469], [-0.0703, 0.2188, 0.6406]],
        [[0.4913, -0.0541, -0.0202], [-0.6130, 1.3513, 0.2906], [-0.1564, 0.2151, 0.7183]],
        [[0.8380, -0.2630, -0.0639], [-0.2887, 1.0725, 0.2496], [-0.0627, 0.1427, 0.5438]],
        [[0.6596, -0.2079, -0.0562], [-0.4782, 1.3016, 0.1933], [-0.0970, 0.1581, 0.5181]],
    ]
)
_SRGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
     [0.0193339, 0.1191920, 0.9503041]]
)  # fmt: skip


def _white_preserving() -> np.ndarray:
    """From linear sRGB to each camera's colours, with white at (1, 1, 1): `[4, 3, 3]`."""
    matrices = _XYZ_TO_CAMERA @ _SRGB_TO_XYZ
    return (matrices / matrices.sum(axis=-1, keepdims=True)).astype(np.float32)


CAMERAS = _white_preserving()


def mosaic(image: jax.Array) -> jax.Array:
    """Keeps of each pixel the colour that a Bayer sensor has there: rows R G R G, G B G B.

    Bayer, US patent 3,971,065, 1976.

    Args:
      image: `[..., H, W, 3]`.

    Returns:
      `[..., H, W, 1]`.
    """
    red, green, blue = (image[..., channel : channel + 1] for channel in range(3))
    is_red, is_blue, _ = _sites(*image.shape[-3:-1])
    return jnp.where(is_red, red, jnp.where(is_blue, blue, green))


def _sites(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where a pixel is red, blue, and, if it is green, whether red is beside it, `[H, W, 1]`."""
    odd_row = np.arange(height)[:, None, None] % 2 == 1
    odd_column = np.arange(width)[:, None] % 2 == 1
    return ~odd_row & ~odd_column, odd_row & odd_column, ~odd_row & odd_column


def demosaic(raw: jax.Array, *, correction: jax.Array | float = 1.0) -> jax.Array:
    """Interpolates the missing colours of a Bayer mosaic (`mosaic`), linearly.

    Malvar, He and Cutler, "High-quality linear interpolation for demosaicing of Bayer-patterned
    color images", ICASSP 2004, figure 2: bilinear interpolation, corrected by the second
    derivative of the colour that is there. Sides continue by reflection.

    Args:
      raw: `[..., H, W, 1]` in [0, 1].
      correction: how much of the correction is added, one number or one per image, in [0, 1]: 0
        is bilinear interpolation, 1 the paper's.

    Returns:
      `[..., H, W, 3]`, not clipped.

    Raises:
      ValueError: for a malformed image, or a concrete correction outside [0, 1].
    """
    raw = checks.image(raw)
    checks.number("correction", correction, 0, 1)
    x = raw.astype(checks.compute_dtype(raw))
    weight = checks.per_image("correction", correction, x)
    height, width = x.shape[-3:-1]
    padded = jnp.pad(x, [*[(0, 0)] * (x.ndim - 3), (2, 2), (2, 2), (0, 0)], mode="reflect")

    def at(row: int, column: int) -> jax.Array:
        rows = jax.lax.slice_in_dim(padded, 2 + row, 2 + row + height, axis=-3)
        return jax.lax.slice_in_dim(rows, 2 + column, 2 + column + width, axis=-2)

    beside, above = at(0, -1) + at(0, 1), at(-1, 0) + at(1, 0)
    corners = at(-1, -1) + at(-1, 1) + at(1, -1) + at(1, 1)
    far_beside, far_above = at(0, -2) + at(0, 2), at(-2, 0) + at(2, 0)
    far = far_beside + far_above
    # each: bilinear, and the correction in eighths
    cross = (beside + above) / 4 + weight * (4 * x - far) / 8
    along_rows = beside / 2 + weight * (5 * x - corners - far_beside + far_above / 2) / 8
    along_columns = above / 2 + weight * (5 * x - corners - far_above + far_beside / 2) / 8
    diagonal = corners / 4 + weight * (6 * x - 1.5 * far) / 8
    is_red, is_blue, red_beside = _sites(height, width)
    red_or_blue = is_red | is_blue
    green = jnp.where(red_or_blue, cross, x)
    # a green pixel has one colour beside it and the other above
    red = jnp.where(red_beside, along_rows, along_columns)
    red = jnp.where(is_red, x, jnp.where(is_blue, diagonal, red))
    blue = jnp.where(red_beside, along_columns, along_rows)
    blue = jnp.where(is_blue, x, jnp.where(is_red, diagonal, blue))
    return jnp.concatenate([red, green, blue], axis=-1).astype(raw.dtype)


def tukey_lambda(key: jax.Array, shape: tuple[int, ...], tail: jax.Array) -> jax.Array:
    """Draws deviates of mean 0 and variance 1 whose tails are those of read noise in the dark.

    Tukey's lambda distribution, which Wei et al., "A physics-based noise formation model for
    extreme low-light raw denoising", CVPR 2020, arXiv:2003.12751, fit to the read noise of cameras.

    Args:
      key: random key.
      shape: of the deviates.
      tail: broadcastable to it, in [0, 1]: lambda goes from `LAMBDAS[0]` to `LAMBDAS[1]`.
    """
    u = jnp.clip(random_bits.uniform(key, shape, jnp.float32), 2**-23, 1 - 2**-23)
    lam = LAMBDAS[0] + (LAMBDAS[1] - LAMBDAS[0]) * tail
    lam = jnp.where(jnp.abs(lam) < 1e-3, 1e-3, lam)  # the limit is a logarithm
    deviate = (jnp.expm1(lam * jnp.log(u)) - jnp.expm1(lam * jnp.log1p(-u))) / lam
    return deviate / jnp.interp(lam, *_tukey_std())


def _tukey_std() -> tuple[np.ndarray, np.ndarray]:
    """The standard deviation at some lambdas, in which single precision has too few digits."""
    lam = np.linspace(LAMBDAS[1], LAMBDAS[0], 78)  # none is 0
    gamma = scipy.special.gamma
    variance = 2 / lam**2 * (1 / (1 + 2 * lam) - gamma(lam + 1) ** 2 / gamma(2 * lam + 2))
    return lam.astype(np.float32), np.sqrt(variance).astype(np.float32)


def bayer_sensor(
    key: jax.Array,
    image: jax.Array,
    *,
    gain: jax.Array | float,
    read_noise: jax.Array | float,
    tail: jax.Array | float = 0.0,
    row_noise: jax.Array | float = 0.0,
    bits: jax.Array | float = 12.0,
    red: jax.Array | float = 2.0,
    blue: jax.Array | float = 1.7,
    camera: jax.Array | float = 0.0,
    correction: jax.Array | float = 1.0,
) -> jax.Array:
    """Takes linear light with a Bayer sensor and develops it to linear light again.

    Colour matrix and white balance of a camera, undone (Brooks et al., "Unprocessing images for
    learned raw denoising", CVPR 2019, arXiv:1811.11127) -> mosaic -> photon,
    read and row noise (Wei et al., arXiv:2003.12751) -> black level and quantisation
    -> demosaicing -> white balance -> colour matrix.

    A grey image is that of a detector without colour: no mosaic, no white balance.

    Args:
      key: random key.
      image: `[..., H, W, C]` in linear light, [0, 1], C = 1 or 3.
      gain, read_noise: of `poisson_gaussian_noise`, at the sensor. White balance multiplies the
        noise of red and blue.
      tail: of `tukey_lambda`, for the read noise.
      row_noise: standard deviation of the offset of each row.
      bits: of the converter.
      red, blue: white balance, what red and blue are multiplied by, >= 1.
      camera: in [0, 3]: the colour matrix, between those of four cameras.
      correction: of `demosaic`.

    Each parameter is one number or one per image.

    Returns:
      The developed image clipped to [0, 1]. Its gradient is that with photon counts and rounding
      held fixed.

    Raises:
      ValueError: for a malformed image or a concrete parameter outside its range.
    """
    image = checks.image(image)
    x = image.astype(checks.compute_dtype(image))
    given = {
        "gain": (gain, 0, jnp.inf), "read_noise": (read_noise, 0, jnp.inf), "tail": (tail, 0, 1),
        "row_noise": (row_noise, 0, jnp.inf), "bits": (bits, 1, 24), "red": (red, 1, 10),
        "blue": (blue, 1, 10), "camera": (camera, 0, 3), "correction": (correction, 0, 1),
    }  # fmt: skip
    for name, (number, low, high) in given.items():
        checks.number(name, number, low, high)
    shape = (*x.shape[:-3], 1, 1, 1)
    value = {
        name: jnp.broadcast_to(checks.per_image(name, each[0], x), shape)
        for name, each in given.items()
    }
    taken = _exposed(key, x, value) if x.shape[-1] == 1 else _developed(key, x, value)
    return jnp.clip(taken, 0, 1).astype(image.dtype)


def _developed(key: jax.Array, x: jax.Array, value: dict[str, jax.Array]) -> jax.Array:
    """What the sensor makes of linear light `[..., H, W, 3]`, as linear light."""
    grey = colour.is_grey(x)
    red_gain, blue_gain = value["red"], value["blue"]
    balance = jnp.concatenate([red_gain, jnp.ones_like(red_gain), blue_gain], axis=-1)
    balance = jnp.where(grey, 1, balance)
    matrix = _between_cameras(value["camera"])
    sensor = _times(matrix, x) / balance
    raw = _exposed(key, jnp.where(grey, sensor[..., :1], mosaic(sensor)), value)
    developed = demosaic(raw, correction=value["correction"][..., 0, 0, 0]) * balance
    developed = _times(jnp.linalg.inv(matrix), jnp.clip(developed, 0, 1))
    return jnp.where(grey, raw, developed)


def _exposed(key: jax.Array, light: jax.Array, value: dict[str, jax.Array]) -> jax.Array:
    """The numbers that a sensor gives for light `[..., H, W, 1]`, black subtracted."""
    photon_key, read_key, row_key = jax.random.split(key, 3)

    gain = value["gain"][..., 0, 0, 0]
    light = poisson_gaussian_noise(photon_key, light, gain=gain, read_noise=0.0)
    noisy = light + value["read_noise"] * tukey_lambda(read_key, light.shape, value["tail"])
    *batch, height, _, _ = light.shape
    noisy += value["row_noise"] * random_bits.normal(row_key, (*batch, height, 1, 1), light.dtype)
    largest = jnp.exp2(jnp.round(value["bits"])) - 1
    stored = jnp.clip(noisy * (1 - BLACK_LEVEL) + BLACK_LEVEL, 0, 1)
    stored += jax.lax.stop_gradient(jnp.round(stored * largest) / largest - stored)
    return (stored - BLACK_LEVEL) / (1 - BLACK_LEVEL)


def _between_cameras(position: jax.Array) -> jax.Array:
    """`[..., 3, 3]`: between the matrices of the cameras on both sides of a position."""
    weights = jnp.maximum(0, 1 - jnp.abs(position[..., None] - np.arange(len(CAMERAS))))
    weights = weights[..., 0, 0, 0, :]
    return jnp.einsum("...n,nij->...ij", weights, CAMERAS)


def _times(matrix: jax.Array, image: jax.Array) -> jax.Array:
    matrix = matrix[..., None, None, :, :]
    # written out: XLA on CPU is slow at a product with so short an axis
    rows = []
    for i in range(3):
        parts = [matrix[..., i, j, None] * image[..., j : j + 1] for j in range(3)]
        rows.append(parts[0] + parts[1] + parts[2])
    return jnp.concatenate(rows, axis=-1)


def denoise(image: jax.Array, *, luma: jax.Array | float, chroma: jax.Array | float) -> jax.Array:
    """Denoises as cameras do, colour more than brightness: a local Wiener filter of 5 x 5 pixels.

    Lee, "Digital image enhancement and noise filtering by use of local statistics", IEEE PAMI
    2(2), 1980, doi:10.1109/TPAMI.1980.4766994, equations 5 and 6, on luma (BT.601) and on what the
    channels differ from it. Where the local variance is below that of the noise, the local mean is
    left: coarse grains.

    Args:
      image: `[..., H, W, C]` in [0, 1], display-referred.
      luma: standard deviation of the noise that is taken from luma, one number or one per image,
        >= 0; 0 leaves luma.
      chroma: of the noise that is taken from the differences.

    Returns:
      The denoised image, clipped to [0, 1]; at 0 and 0 the image bit for bit.

    Raises:
      ValueError: for a malformed image, or a concrete number that is negative or NaN.
    """
    image = checks.image(image)
    x = image.astype(checks.compute_dtype(image))
    given = {"luma": luma, "chroma": chroma}
    for name, number in given.items():
        checks.number(name, number, 0)
    sigmas = [checks.per_image(name, number, x) for name, number in given.items()]
    brightness = colour.luma(x)
    filtered = _local_wiener(brightness, sigmas[0])
    if x.shape[-1] == 3:
        filtered = filtered + _local_wiener(x - brightness, sigmas[1])
    changed = (sigmas[0] > 0) | (sigmas[1] > 0)
    return jnp.where(changed, jnp.clip(filtered, 0, 1).astype(image.dtype), image)


def _local_wiener(x: jax.Array, sigma: jax.Array) -> jax.Array:
    window = jnp.full(5, 1 / 5, x.dtype)
    mean = separable(x, window)
    variance = jnp.maximum(separable(x**2, window) - mean**2, 0)
    noise = sigma**2
    # 1e-12 keeps the quotient and its gradient finite where nothing varies
    kept = jnp.maximum(variance - noise, 0) / jnp.maximum(jnp.maximum(variance, noise), 1e-12)
    return jnp.where(sigma > 0, mean + kept * (x - mean), x)


def sharpen(
    image: jax.Array, *, amount: jax.Array | float, sigma: jax.Array | float = 1.0
) -> jax.Array:
    """Sharpens by unsharp masking: image + amount (image - blurred image).

    Args:
      image: `[..., H, W, C]` in [0, 1], display-referred.
      amount: one number or one per image, >= 0.
      sigma: of the Gaussian blur in pixels, likewise.

    Returns:
      The sharpened image clipped to [0, 1]; at amount 0 the image bit for bit.

    Raises:
      ValueError: for a malformed image, or a concrete number that is negative or NaN.
    """
    image = checks.image(image)
    x = image.astype(checks.compute_dtype(image))
    checks.number("amount", amount, 0)
    weight = checks.per_image("amount", amount, x)
    sharpened = jnp.clip(x + weight * (x - gaussian_blur(x, sigma=sigma)), 0, 1)
    return jnp.where(weight > 0, sharpened.astype(image.dtype), image)
