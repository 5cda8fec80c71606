"""Applies gamma, histogram equalisation or CLAHE, alone or followed by non-local means.

They run on NumPy arrays `[H, W, C]`, float32 in [0, 1], one image at a time, and return the same.
OpenCV's histogram methods and its denoiser work on 8 bits, so their output is in steps of 1/255.
"""

from collections.abc import Callable

import cv2
import numpy as np

from lle_jax.colour import BT601


def _levels(image: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _on_lightness(image: np.ndarray, equalise: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Applies an 8-bit grey operation to a grey image, or to L* of CIE Lab, leaving the colour."""
    levels = _levels(image)
    if image.shape[-1] == 1:
        result = equalise(levels[..., 0])[..., None]
    else:
        lab = cv2.cvtColor(levels, cv2.COLOR_RGB2LAB)
        lab[..., 0] = equalise(lab[..., 0])
        result = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return result.astype(np.float32) / 255


def gamma_from_mean(image: np.ndarray) -> np.ndarray:
    """Computes image ** g with g set so that the image's mean luma is mapped to 0.5.

    g = log 0.5 / log mean; g > 1 (darkening) for an image whose mean luma is above 0.5.
    """
    grey = image[..., 0] if image.shape[-1] == 1 else image @ np.asarray(BT601, np.float32)
    mean = float(np.clip(grey.mean(), 1 / 255, 254 / 255))
    return np.clip(image, 0, 1) ** np.float32(np.log(0.5) / np.log(mean))


def histogram_equalisation(image: np.ndarray) -> np.ndarray:
    """Equalises the histogram of the lightness (OpenCV's equalizeHist on L*)."""
    return _on_lightness(image, cv2.equalizeHist)


def clahe(image: np.ndarray, *, clip_limit: float = 2.0, tiles: int = 8) -> np.ndarray:
    """Equalises the lightness by CLAHE (contrast-limited adaptive histogram equalisation).

    Zuiderveld, "Contrast limited adaptive histogram equalization", Graphics Gems IV, 1994;
    OpenCV's implementation with its usual limit of 2 and 8x8 tiles.
    """
    return _on_lightness(image, cv2.createCLAHE(clip_limit, (tiles, tiles)).apply)


def nlm(image: np.ndarray, *, strength: float = 10.0) -> np.ndarray:
    """Denoises by non-local means (Buades, Coll, Morel, CVPR 2005, doi:10.1109/CVPR.2005.38).

    OpenCV's implementation with 7x7 patches in a 21x21 window; `strength` (h, in 8-bit levels) is
    for luma and for chroma alike.
    """
    levels = _levels(image)
    if image.shape[-1] == 1:
        result = cv2.fastNlMeansDenoising(levels, None, strength, 7, 21)[..., None]
    else:
        bgr = np.ascontiguousarray(levels[..., ::-1])
        result = cv2.fastNlMeansDenoisingColored(bgr, None, strength, strength, 7, 21)[..., ::-1]
    return result.astype(np.float32) / 255


METHODS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gamma": gamma_from_mean,
    "he": histogram_equalisation,
    "clahe": clahe,
    "gamma+nlm": lambda image: nlm(gamma_from_mean(image)),
    "he+nlm": lambda image: nlm(histogram_equalisation(image)),
    "clahe+nlm": lambda image: nlm(clahe(image)),
}
