"""Grain: noise coarser than a pixel, which a network leaves as spots that look like lesions.

What a camera's denoiser and JPEG leave of noise are grains as large as a microaneurysm, and by its
looks one cannot be told from the other. A second opinion tells more: non-local means of the output
average what is alike all around, so that a grain, which nothing is like, goes, and what is repeated
or stands out from the grain stays. Where an image has grain, small spots that this second opinion
does not support are replaced by it; all else stays as the network made it.

Real spots as faint as the grain go, too: fewer than by non-local means alone, which also smooth
what is no spot.
"""

import cv2
import jax
import numpy as np

from lle_jax import artifacts, classical, colour
from lle_jax.metrics import spots

# Slope of the noise's spectrum, on logarithmic axes, and its standard deviation once brightened,
# between which grain comes to be taken for that. Of 86 well-lit validation images one has texture
# like grain of 0.036, the next 0.031; correlated noise that leaves spots begins at 0.04.
SLOPE, DEVIATION = (-2.4, -2.9), (0.034, 0.042)
# Standard deviations of the noise at the highest frequencies, at least, that the flattest blocks
# have: one of white noise, three of texture under such noise, thirty of grain.
COARSE = 5.0
NLM = 0.8  # strength of non-local means, in standard deviations of the grain
# Contrast of a spot, and how much of it the second opinion must have; all of it where the noise is
# certain.
LEAST, SUPPORT = 0.03, 0.7
ROUND = 0.3  # least ratio of its curvatures
PASSES = 2  # where a spot was replaced, a weaker one beside it may stand out
_DISC = 1.4  # standard deviation of what is replaced, in that of the spot
_BLOCK, _SHARE, _LEAST_SIDE = 16, 0.08, 64
# Pixels along a side that are looked at together, for want of memory, and how far off others are
# of which it depends what is replaced, in both passes.
_SIDE, _HALO = 1024, 160


def measure(part: np.ndarray, noise: float) -> float:
    """Measures the grain of a low-light image, its standard deviation, 0 where there is none.

    Args:
      part: its centre, of `measures.centre_crop`, `[H, W, C]` float32 in [0, 1].
      noise: standard deviation of its white noise (`artifacts.noise_sigma`).
    """
    luma = _luma(part)
    # noise_correlation takes a second to compile, which most images can do without
    if min(luma.shape) < _LEAST_SIDE or not _flattest(luma) > COARSE * noise:
        return 0.0
    found = correlation(luma[..., None]).luma
    sigma, slope = float(found.sigma), float(found.slope)
    return 0.0 if np.isnan(slope) else sigma * smoothstep(slope, *SLOPE)


# It runs for hundredths of a second; without optimisation it compiles in half the time.
correlation = jax.jit(
    artifacts.noise_correlation, compiler_options={"xla_backend_optimization_level": 0}
)


def _flattest(luma: np.ndarray) -> float:
    """Standard deviation in the flattest blocks."""
    rows, columns = (side // _BLOCK for side in luma.shape)
    blocks = luma[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
    deviation = blocks.std(axis=(1, 3)).ravel()
    return float(np.quantile(deviation[deviation > 0], _SHARE)) if deviation.any() else 0.0


def remove(
    image: np.ndarray, grain: float, gain: float, share: float = 1.0, certain: float = 0.0
) -> None:
    """Replaces spots that may be grain, in place.

    Args:
      image: `[H, W, C]` float32 in [0, 1], enhanced.
      grain: of `measure`, in the image before.
      gain: how many times as bright that has become.
      share: of the replacement that is made, 0 to 1.
      certain: how surely it is noise, whatever its deviation, 0 to 1.
    """
    grain *= gain
    share *= max(smoothstep(grain, *DEVIATION), certain)
    if not share:
        return
    least = SUPPORT + certain * (1 - SUPPORT)
    height, width = image.shape[:2]
    above = np.empty((0, width), np.float32)  # the luma of rows that are replaced already
    for top in range(0, height, _SIDE):
        luma = np.concatenate([above, _luma(image[top : top + _SIDE + _HALO])])
        first, last = len(above), len(above) + min(_SIDE, height - top)
        above = luma[max(0, last - _HALO) : last].copy()
        for left in range(0, width, _SIDE):
            start = max(0, left - _HALO)
            part = np.ascontiguousarray(luma[:, start : left + _SIDE + _HALO])
            factor = _factor(part, grain, share, least)[first:last, left - start :]
            image[top : top + _SIDE, left : left + _SIDE] *= factor[:, :_SIDE, None]
    np.clip(image, 0, 1, out=image)


def _factor(luma: np.ndarray, grain: float, share: float, least: float) -> np.ndarray:
    """By what the pixels of an image of this luma `[H, W]` are multiplied; grey stays grey."""
    levels = np.rint(np.clip(luma, 0, 1) * 255).astype(np.float32) / 255
    smooth = classical.nlm(luma[..., None], strength=255 * NLM * grain)[..., 0]
    smooth = np.maximum(luma + smooth - levels, 0)  # without the rounding to 8 bits
    contrasts, is_round = _contrasts(smooth)
    support = [each * isolated for each, isolated in zip(contrasts, is_round, strict=True)]
    made = luma
    for _ in range(PASSES):
        made = made + _unsupported(made, support, least) * (smooth - made)
    return 1 + np.float32(share) * (made / np.maximum(luma, 1e-6) - 1)


def _unsupported(luma: np.ndarray, support: list[np.ndarray], least: float) -> np.ndarray:
    """Where spots are that have no support: 1 at their centres, 0 far from them, `[H, W]`.

    Args:
      luma: `[H, W]`.
      support: contrast of round structure in the second opinion, at each scale.
      least: how much of a spot's contrast its support must have.
    """
    contrasts, is_round = _contrasts(luma)
    discs = np.zeros_like(luma)
    for sign in (1, -1):
        signed = [sign * each for each in contrasts]
        best = np.maximum.reduce(signed)
        around = np.maximum.reduce([_greatest(sign * each, spots.TOLERANCE) for each in support])
        alone = (best >= LEAST) & (around < least * best)
        for sigma, each, isolated in zip(spots.SIGMAS, signed, is_round, strict=True):
            peak = alone & isolated & (each == best) & (each == _greatest(each, 1))
            width = _DISC * sigma
            disc = _blurred(peak.astype(np.float32), width) * np.float32(2 * np.pi * width**2)
            discs = np.maximum(discs, np.minimum(1.6 * disc, 1))  # 1 out to its deviation
    return discs


def _contrasts(luma: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Contrast to the surroundings, and roundness, at each scale.

    As `metrics.spots` has them, by OpenCV, which need not be compiled for each size of an image.
    """
    contrasts, is_round = [], []
    limit = (ROUND + 1) ** 2 / ROUND
    for sigma in spots.SIGMAS:
        centre, around = _blurred(luma, sigma), _blurred(luma, spots.SURROUNDINGS * sigma)
        contrasts.append((centre - around) / (around + np.float32(spots.OFFSET)))
        down, across, mixed = (
            cv2.Sobel(centre, cv2.CV_32F, *order, ksize=3, borderType=cv2.BORDER_REFLECT)
            for order in ((0, 2), (2, 0), (1, 1))
        )
        down, across, mixed = down / 4, across / 4, mixed / 4
        determinant = down * across - mixed**2
        is_round.append((determinant > 0) & ((down + across) ** 2 <= limit * determinant))
    return contrasts, is_round


def _blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)


def _greatest(image: np.ndarray, radius: int) -> np.ndarray:
    return cv2.dilate(image, np.ones((2 * radius + 1, 2 * radius + 1), np.uint8))


def _luma(image: np.ndarray) -> np.ndarray:
    if image.shape[-1] == 1:
        return np.ascontiguousarray(image[..., 0])
    return np.ascontiguousarray(image @ np.asarray(colour.BT601, np.float32))


def smoothstep(value: float, start: float, end: float) -> float:
    """Rises from 0 at `start` to 1 at `end`, without an edge at either."""
    share = min(max((value - start) / (end - start), 0.0), 1.0)
    return share * share * (3 - 2 * share)
