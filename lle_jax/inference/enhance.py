"""`lle_jax.enhance`: brightens and cleans one image, an array or a file, of any size and depth.

    brighter = lle_jax.enhance(image)  # uint8, uint16 or float; the same comes back
    brighter = lle_jax.enhance("retina.png", strength=0.7)

What came in decides what goes out: the same shape and type, 16 bits from 16 bits, exactly grey from
grey, opacity untouched.
"""

import functools
import os

import jax
import numpy as np

from lle_jax import artifacts, checks, images
from lle_jax.artifacts import measures, severity
from lle_jax.checkpoints import release
from lle_jax.inference import tiles

LEFT_ALONE = 20.0  # dB: PSNR of what the network makes of an image it has nothing to do with


def enhance(
    image: np.ndarray | str | os.PathLike,
    model: str | os.PathLike | tiles.Network | None = None,
    strength: float = 1.0,
    gate: bool = False,
) -> np.ndarray:
    """Enhances one image, or each frame of several.

    Args:
      image: `[H, W]`, `[H, W, C]` or `[N, H, W, C]`, C 1 (grey), 2 (grey, alpha), 3 (RGB) or 4
        (RGB, alpha); uint8, uint16, or floating point in [0, 1]. Or the path of a file, read as by
        `images.read`, without its opacity.
      model: the folder of a release, or what `load` gave for one; None takes the one that comes
        with lle_jax.
      strength: 0 (unchanged) to 1: how much of the change is made.
      gate: give back unchanged what `well_exposed` says needs nothing.

    Returns:
      the enhanced image in the shape and type of `image`; float32 for floating point and files.

    Raises:
      ValueError: for another shape or type, or values outside [0, 1].
      ImageError, ReleaseError: (ValueErrors) if the file, or the model, cannot be read.
    """
    checks.number("strength", strength, 0, 1)
    net = model if isinstance(model, tiles.Network) else load(model)
    if isinstance(image, str | os.PathLike):
        return enhance_pixels(net, images.read(image).pixels, strength, gate)[0]
    pixels, alpha, shape = _split(np.asarray(image))
    largest = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else None
    if largest is None:
        unit = pixels.astype(np.float32)
        if not (unit.min() >= 0 and unit.max() <= 1):  # false for NaN as well
            raise ValueError("image has values outside [0, 1], or NaN; divide by its largest value")
    else:
        unit = pixels / np.float32(largest)
    unit = enhance_pixels(net, unit, strength, gate)[0]
    out = unit if largest is None else np.rint(unit * np.float32(largest)).astype(pixels.dtype)
    if alpha is not None:
        out = np.concatenate([out, alpha.astype(out.dtype)], axis=-1)
    return out.reshape(shape)


def _split(image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, tuple[int, ...]]:
    """Colour `[..., H, W, 1 or 3]`, opacity `[..., H, W, 1]` or None, and the image's own shape."""
    if image.dtype not in (np.uint8, np.uint16) and image.dtype.kind != "f":
        raise ValueError(
            f"image has dtype {image.dtype}; expected uint8, uint16 or floating point in [0, 1]"
        )
    shape = image.shape
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim not in (3, 4) or image.shape[-1] not in (1, 2, 3, 4) or 0 in shape:
        raise ValueError(
            f"image has shape {shape}; expected [H, W], [H, W, C] or [N, H, W, C] with 1 to 4 "
            "channels"
        )
    if image.shape[-1] in (2, 4):
        return image[..., :-1], image[..., -1:], shape
    return image, None, shape


def load(model: str | os.PathLike | None = None) -> tiles.Network:
    """Reads a release once for many images; the few used last are kept.

    Raises:
      ReleaseError: if there is none, or something about it is wrong.
    """
    # by its content too, as a release may be replaced while a program runs
    return _load(model, release.digest(model))


@functools.lru_cache(maxsize=2)
def _load(model: str | os.PathLike | None, _digest: str) -> tiles.Network:
    return tiles.network(*release.load(model))


def enhance_pixels(
    net: tiles.Network,
    pixels: np.ndarray,
    strength: float = 1.0,
    gate: bool = False,
    *,
    inplace: bool = False,
    largest: int | None = None,
) -> tuple[np.ndarray, bool]:
    """Enhances a picture's pixels.

    Args:
      net: from `load`.
      pixels: float32 `[H, W, C]`, or `[N, H, W, C]`, each frame by itself; in [0, 1], C 1 or 3.
      strength, gate: see `enhance`; the gate is for all frames, by the middle one.
      inplace: overwrite `pixels`, where memory is short.
      largest: side of the largest tile; None goes by the memory there is.

    Returns:
      the enhanced pixels, and whether they are unchanged since they were well exposed.
    """
    frames = pixels if pixels.ndim == 4 else pixels[None]
    if gate and passes(net, pixels):
        return pixels, True
    if strength == 0:
        return pixels, False
    out = frames if inplace else np.empty_like(frames)
    for frame, target in zip(frames, out, strict=True):
        tiles.restore(net, frame, target, strength=strength, largest=largest)
    return out.reshape(pixels.shape), False


def passes(net: tiles.Network, pixels: np.ndarray) -> bool:
    """What the gate says of a picture's pixels: of several frames, by the middle one."""
    return well_exposed(net, pixels[len(pixels) // 2] if pixels.ndim == 4 else pixels)


def well_exposed(net: tiles.Network, image: np.ndarray) -> bool:
    """Whether `[H, W, C]` needs nothing: it is not noisy, and bright, or the network leaves it.

    Bright, and noise beside brightness, are told as `lle quantify` tells them, up to "weak"; the
    noise of an image under 16 pixels a side is not asked for. A bright thing on black, a retina or
    a bone, is dark on average; it passes where the network, which saw such images in training,
    changes its middle by less than `LEFT_ALONE`.
    """
    part = measures.centre_crop(image)
    found = {"luminance": float(_luminance(measures.subsample(image)))}
    if min(part.shape[:2]) >= 16:
        found["noise_sigma"] = float(_noise(part))
        if not _weak("noise", found):
            return False
    if _weak("low_light", found):
        return True
    out = np.empty_like(part)
    tiles.restore(net, part, out)
    return bool(np.mean((out - part) ** 2) < 10 ** (-LEFT_ALONE / 10))


def _weak(artifact: str, found: dict[str, float]) -> bool:
    points = np.transpose(severity.curves()[artifact]["points"])
    value = float(np.interp(severity.argument(artifact, found), *points))
    return severity.label(value) in ("none", "weak")


_luminance = jax.jit(lambda image: artifacts.exposure(image).luminance)
_noise = jax.jit(artifacts.noise_sigma)
