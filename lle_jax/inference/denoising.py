"""How much of the network's change takes the noise out of an image whose brightness is to stay.

Where nothing but noise is to go, the network's change may be too much: it was trained to brighten
what is dark. Of y + a (f(y) - y), with f the network at the image's own brightness, the share a of
the least squared error follows from the noise alone.

White noise is found by `artifacts.noise_sigma`. What a camera's denoiser and JPEG leave of noise is
coarser, and in brightness no one tells it from texture; but texture is of one colour, and noise of
all: it is found by its colour. A grey image has none.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from lle_jax.inference import grain, tiles
from lle_jax.models import dual_path

NO_NOISE = 0.0015  # standard deviation that images without noise are measured to have
PROBE, PROBED = 0.01, 256  # by how much pixels are moved to see what follows; side of that tile
# Standard deviation of the colour of noise, less what white noise explains, between which it comes
# to be taken for noise. Of 256 well-lit medical images, none for testing, the most is 0.0063.
COLOURED, WHITE = (0.007, 0.009), 1.5
# Colour that deviates less than this in a quarter of the blocks is not measured, which takes long.
_FLAT, _SHARE, _BLOCK, _LEAST_SIDE = 0.005, 0.25, 8, 64
_COARSEST, _STEEPEST = 1 / 16, -4.0  # cycles per pixel, and slope of a spectrum
_COLOURS = np.array([[1, -1, 0], [1, 1, -2]], np.float32) / np.sqrt([[2], [6]], dtype=np.float32)


class Noise(NamedTuple):
    """Noise of an image whose brightness is to stay.

    Attributes:
      share: of the network's change, by which the squared error becomes least.
      grain: standard deviation of the luma of noise that is not white.
      certain: how surely there is any, 0 to 1.
    """

    share: float = 0.0
    grain: float = 0.0
    certain: float = 0.0


def find(
    net: tiles.Network,
    image: np.ndarray,
    noise: float,
    grey: bool,
    context: Callable[[], dual_path.Context | None],
) -> Noise:
    """Finds noise, and estimates how much of the network's change is to be made of it.

    Args:
      net: from `tiles.network`, of a network that works in tiles.
      image: `[H, W, C]` float32 in [0, 1].
      noise: standard deviation of its white noise (`artifacts.noise_sigma`).
      grey: whether all its channels are equal.
      context: computes that of its own brightness, which most images can do without.
    """
    white = max(noise - NO_NOISE, 0.0)
    coarse = None if grey or image.shape[-1] == 1 else _coloured(image, noise)
    if not (white or coarse):
        return Noise()
    pixels, restored = tiles.central_tile(net, image, context(), PROBED)
    before, best = restored(pixels), 0.0
    if white:
        channels = 1 if grey else pixels.shape[-1]
        signs = np.random.default_rng(0).choice([-1, 1], (*pixels.shape[:2], channels))
        best = _least(pixels, before, restored, white * signs.astype(np.float32))
    if coarse is None:
        return Noise(best)
    least = _least(pixels, before, restored, coarse.draw(pixels.shape[:2]))
    return Noise(max(best, coarse.certain * least), coarse.grain, coarse.certain)


def _least(
    pixels: np.ndarray,
    before: np.ndarray,
    restored: Callable[[np.ndarray], np.ndarray],
    noise: np.ndarray,
) -> float:
    """Stein's unbiased risk estimate for noise like the one given, solved for the share.

    Annals of Statistics 9(6), 1981, doi:10.1214/aos/1176345632: under noise of covariance S the
    risk is least at a = (tr S - tr SJ) / ||f(y) - y||^2, with J the derivative of f. The traces
    are those of Ramani, Blu and Unser, "Monte-Carlo SURE", IEEE TIP 17(9), 2008,
    doi:10.1109/TIP.2008.2001404, section III: what a move of the pixels like the noise moves in the
    output.
    """
    variance = float(np.mean(noise**2))
    moved = np.clip(pixels + np.float32(PROBE / np.sqrt(variance)) * noise, 0, 1)
    after, move = restored(moved), moved - pixels
    divergence = float(np.mean(move * (after - before)) / max(np.mean(move**2), 1e-12))
    change = max(float(np.mean((before - pixels) ** 2)), 1e-12)
    return min(max(variance * (1 - divergence) / change, 0.0), 1.0)


class _Coarse(NamedTuple):
    """Noise that is not white; `grain` and `certain` as of `Noise`, and what draws the like."""

    grain: float
    certain: float
    draw: Callable[[tuple[int, int]], np.ndarray]


def _coloured(image: np.ndarray, white: float) -> _Coarse | None:
    """Finds noise that is not white by its colour; None where there is none."""
    part = _middle(image)
    if min(part.shape[:2]) < _LEAST_SIDE or _deviation(part @ _COLOURS.T) < _FLAT:
        return None
    found = jax.device_get(grain.correlation(part))
    certain = grain.smoothstep(float(found.chroma.sigma) - WHITE * white, *COLOURED)
    planes = (found.luma, found.chroma, found.chroma)
    sigmas = np.array([plane.sigma for plane in planes], np.float32)
    slopes = [min(max(float(plane.slope), _STEEPEST), 0.0) for plane in planes]
    if not certain or not np.isfinite([*sigmas, *slopes]).all():
        return None
    directions = np.concatenate([np.ones((1, 3), np.float32), _COLOURS])

    def draw(shape: tuple[int, int]) -> np.ndarray:
        rng = np.random.default_rng(0)
        drawn = np.stack([_power_law(rng, shape, slope) for slope in slopes], axis=-1)
        return (drawn * sigmas) @ directions

    return _Coarse(float(sigmas[0]), certain, draw)


def _middle(image: np.ndarray) -> np.ndarray:
    top, left = (max(0, (side - PROBED) // 2) for side in image.shape[:2])
    return np.ascontiguousarray(image[top : top + PROBED, left : left + PROBED])


def _deviation(planes: np.ndarray) -> float:
    """The standard deviation that a quarter of the blocks of `[H, W, n]` do not reach."""
    rows, columns = (side // _BLOCK for side in planes.shape[:2])
    blocks = planes[: rows * _BLOCK, : columns * _BLOCK]
    blocks = blocks.reshape(rows, _BLOCK, columns, _BLOCK, -1)
    return float(np.quantile(np.sqrt(blocks.var(axis=(1, 3)).mean(axis=-1)), _SHARE))


def _power_law(rng: np.random.Generator, shape: tuple[int, int], slope: float) -> np.ndarray:
    """Noise `[H, W]` of variance 1 whose power goes by the frequency to the power of `slope`."""
    down, across = (np.fft.fftfreq(side) for side in shape)
    frequency = np.maximum(np.hypot(down[:, None], across), _COARSEST)
    spectrum = np.fft.fft2(rng.standard_normal(shape)) * frequency ** (slope / 2)
    drawn = np.fft.ifft2(spectrum).real
    return (drawn / drawn.std()).astype(np.float32)
