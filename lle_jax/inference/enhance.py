"""`lle_jax.enhance`: brightens and cleans one image, an array or a file, of any size and depth.

    brighter = lle_jax.enhance(image)  # uint8, uint16 or float; the same comes back
    brighter = lle_jax.enhance("retina.png", strength=0.7, exposure="+1EV")

What came in decides what goes out: the same shape and type, 16 bits from 16 bits, exactly grey from
grey, opacity untouched.
"""

import functools
import os
from pathlib import Path

import numpy as np

from lle_jax import checks, images
from lle_jax.checkpoints.load import digest, load_model
from lle_jax.inference import defects, frames, tiles
from lle_jax.inference import exposure as exposures

# Former names of arguments of `enhance`, and what is there instead.
_FORMER = {
    "gate": "it is the default now; always=True is the opposite",
    "skip_well_exposed": "it is the default now; always=True is the opposite",
}


def enhance(
    image_or_path: np.ndarray | str | os.PathLike,
    model: str | os.PathLike | tiles.Network | None = None,
    strength: float = 1.0,
    exposure: str | float = "auto",
    always: bool = False,
    frame_rate: float | None = None,
    **former: object,
) -> np.ndarray:
    """Enhances one image, or each of several.

    Args:
      image_or_path: `[H, W]`, `[H, W, C]` or `[N, H, W, C]`, C 1 (grey), 2 (grey, alpha), 3 (RGB)
        or 4 (RGB, alpha); uint8, uint16, or floating point in [0, 1]. Or the path of a file, read
        as by `images.read`, without its opacity; its frames get one exposure over time.
      model: the folder of a release, or what `load` gave for one; None takes the bundled one.
      strength: 0 (unchanged) to 1: how much of the change is made.
      exposure: the wanted mean luma, in (0, 1); or stops of light, as "+1EV", more than what the
        network predicts; "auto" is what it predicts, all others make the whole correction.
      always: make the whole correction, also of what needs little or nothing, which otherwise gets
        little or none (`inference.exposure.decide`).
      frame_rate: `[N, H, W, C]` are successive frames, as many a second, and get one exposure over
        time (`inference.frames`); None takes each of an array by itself, and the rate of a file.
      **former: none; a former name of an argument is refused with what is there now.

    Returns:
      the enhanced image in the shape and type of the input; float32 for floating point and files.

    Raises:
      TypeError: for an argument that does not exist.
      ValueError: for another shape or type, or values outside [0, 1].
      ImageError, ReleaseError: (ValueErrors) if the file, or the model, cannot be read.
    """
    for name in former:
        now = f"; {_FORMER[name]}" if name in _FORMER else ""
        raise TypeError(f"enhance() got an unexpected argument {name!r}{now}")
    checks.number("strength", strength, 0, 1)
    wish = exposures.Wish(exposures.parse(exposure), always)
    if frame_rate is not None:
        checks.number("frame_rate", frame_rate, *frames.RATES)
    net = model if isinstance(model, tiles.Network) else load(model)
    if isinstance(image_or_path, str | os.PathLike):
        picture = images.read(image_or_path)
        rate = frame_rate or picture.frame_rate or frames.DEFAULT_RATE
        return enhance_pixels(net, picture.pixels, strength, wish, frame_rate=rate)[0]
    pixels, alpha, shape = _split(np.asarray(image_or_path))
    largest = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else None
    unit: np.ndarray
    if largest is None:
        unit = pixels.astype(np.float32)
        if not (unit.min() >= 0 and unit.max() <= 1):  # false for NaN as well
            raise ValueError("image has values outside [0, 1], or NaN; divide by its largest value")
    else:
        unit = pixels / np.float32(largest)
    unit = enhance_pixels(net, unit, strength, wish, frame_rate=frame_rate)[0]
    out = unit if largest is None else np.rint(unit * np.float32(largest)).astype(pixels.dtype)
    if alpha is not None:
        out = np.concatenate([out, alpha.astype(out.dtype)], axis=-1)
    return out.reshape(shape)


def _split(image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, tuple[int, ...]]:
    """Splits into colour `[..., H, W, 1 or 3]`, opacity `[..., H, W, 1]` or None, and shape."""
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
    folder = None if model is None else Path(model)
    return _load(folder, digest(folder))


@functools.lru_cache(maxsize=2)
def _load(model: Path | None, _digest: str) -> tiles.Network:
    loaded = load_model(model)
    return tiles.network(loaded.config, loaded.params)


def enhance_pixels(
    net: tiles.Network,
    pixels: np.ndarray,
    strength: float = 1.0,
    wish: exposures.Wish = exposures.AUTO,
    *,
    inplace: bool = False,
    largest: int | None = None,
    frame_rate: float | None = None,
) -> tuple[np.ndarray, bool]:
    """Enhances a picture's pixels.

    Args:
      net: from `load`.
      pixels: float32 `[H, W, C]` or `[N, H, W, C]`, in [0, 1], C 1 or 3.
      strength: see `enhance`.
      wish: the wanted brightness, and whether to correct what needs nothing.
      inplace: overwrite `pixels`, where memory is short.
      largest: side of the largest tile; None goes by the memory there is.
      frame_rate: of successive frames, per second; None takes each frame by itself.

    Returns:
      the enhanced pixels, and whether they are unchanged: nothing was to be corrected, or changed.

    Raises:
      ValueError: for a brightness that is asked of a network that takes none.
    """
    stack = pixels if pixels.ndim == 4 else pixels[None]
    exposures.check(net, wish)
    if strength == 0:
        return pixels, True
    out = stack if inplace else np.empty_like(stack)
    changed = False
    if frame_rate is not None and len(stack) > 1:
        # in place too: a frame is overwritten after it and those around it have been read
        enhanced = frames.enhance_frames(net, stack, stack, frame_rate, strength, largest, wish)
        for frame, target, made in zip(stack, out, enhanced, strict=True):
            changed = changed or not np.array_equal(frame, made)
            target[...] = made
        return out.reshape(pixels.shape), not changed
    for frame, target in zip(stack, out, strict=True):
        target[...] = frame
        found = defects.mend(target)
        measured = exposures.examine(net, target, wish)
        correction = exposures.decide(net, measured, wish)
        if needed := correction.strength:
            context = exposures.context(net, measured.cells, measured.grey, correction)
            exposures.correct(net, target, measured, context, wish, needed, strength, largest)
        mended = strength * found.share(correction.strength)
        defects.put_back(target, found, mended)
        changed = changed or needed > 0 or mended > 0
    return out.reshape(pixels.shape), not changed
