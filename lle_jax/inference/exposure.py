"""How bright an enhanced image is to be, and how much of the correction it needs at all.

How bright a scene was cannot be known from a dark image of it. The network predicts it; a user may
say it instead, as a mean, as stops of light more or less, or by well-lit images of the same device.

An image that needs nothing is left alone, and there is no cliff between that and the whole
correction: brightness moves by as much of what the network predicts as that prediction is away from
the image, and noise is taken out as far as there is any.
"""

import functools
import math
from collections.abc import Iterable
from typing import NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from lle_jax import artifacts, checks, colour
from lle_jax.artifacts import measures
from lle_jax.inference import denoising, grain, tiles
from lle_jax.models import dual_path

STOPS = 6.0  # of light, more or less, at most
MEANS = 0.02, 0.98  # mean lumas that can be asked for
# Logarithm of the change of the mean luma from which on brightness moves, and by how much more it
# becomes what the network predicts. What is bright somewhere has not lost much light: the limit
# rises with the peak beyond PEAK up to CHANGE_MOST, for a highlight may be white in any light.
# Without noise, which little light has unless the camera took it out, it is CHANGE_MOST.
CHANGE, CHANGE_SLOPE, CHANGE_MOST, CHANGE_WIDTH = 0.08, 1.1, 0.31, 0.07
PEAK = 0.65
NOISY = 0.004  # standard deviation from which on there is noise
_PEAK_CELLS, _PEAK_SIDE = 128, 512  # along each side; pixels that are looked at
# Shares of the light in a veil between which an image that needs nothing else comes to get the
# whole correction. No validation thumbnail without a veil seems to have the first, of squares of a
# few parts in a hundred of an image, which need not have anything black, one in a hundred.
VEIL = 0.45, 0.6
GAIN = 0.25  # stops that are common to several images from which on they get the whole correction
NO_GAIN = 0.01  # stops that are none
# Times the network's share, how much of the spots of certain noise is replaced: all from a share of
# two thirds on, nothing of texture that is coloured as noise is, of which the share is 0.
AGREED = 1.5
LEAST = 1 / 512  # share of a change below which no level of 255 becomes another
_MEASURED = 16  # side of the smallest image whose noise is measured


class Aim(NamedTuple):
    """The wanted brightness.

    Attributes:
      mean: mean luma (ITU-R BT.601) of the display values, in (0, 1); None: as predicted.
      stops: of light more (or, below 0, less) than that.
    """

    mean: float | None = None
    stops: float = 0.0


class Correction(NamedTuple):
    """What is made of an image.

    Attributes:
      aim: the wanted brightness.
      amount: share of the predicted change of brightness, 0 to 1.
      strength: share of all changes, 0 (the image itself) to 1.
      gain: stops of light that several images get alike, instead of `aim` and `amount`.
      predicted: the image's context with the predicted brightness, where that is known already.
    """

    aim: Aim = Aim()
    amount: float = 1.0
    strength: float = 1.0
    gain: float | None = None
    predicted: dual_path.Context | None = None


WHOLE = Correction()


class Wish(NamedTuple):
    """What a user asks for.

    Attributes:
      aim: the wanted brightness; another than the predicted one makes the whole correction.
      always: make the whole correction, also of what needs little or nothing.
      gain: stops of light that several images get alike, instead of `aim`.
    """

    aim: Aim = Aim()
    always: bool = False
    gain: float | None = None


AUTO = Wish()


class Measured(NamedTuple):
    """What a correction is decided by.

    Attributes:
      cells: of `tiles.cell_means`, `[1, CELLS, CELLS, 6]`.
      grey: whether all channels are equal.
      noise: standard deviation, of 1.
      peak: display value of the brightest of 128 x 128 parts, in its brightest channel.
      grain: standard deviation of noise in grains, of 1; see `grain.measure`.
      denoising: share of all changes by which the noise of an image whose brightness is to stay
        becomes least; see `denoising`.
      certain: how surely what is measured as grain is noise, whatever its deviation, 0 to 1.
      predicted: the context with the predicted brightness, where that is known already.
    """

    cells: np.ndarray
    grey: bool
    noise: float
    peak: float
    grain: float = 0.0
    denoising: float = 0.0
    certain: float = 0.0
    predicted: dual_path.Context | None = None


def parse(text: str | float) -> Aim:
    """Reads "auto", a mean luma as "0.4", or stops as "+1EV" and "-0.5EV".

    Raises:
      ValueError: for anything else, or a number out of range.
    """
    name, value = "exposure", str(text).strip().lower()
    if value == "auto":
        return Aim()
    stops = value.endswith("ev")
    try:
        number = float(value.removesuffix("ev"))
    except ValueError:
        raise ValueError(
            f"{name} is {text!r}; expected auto, a mean brightness as 0.4, or stops as +1EV"
        ) from None
    if stops:
        checks.number(name, number, -STOPS, STOPS)
        return Aim(stops=number)
    checks.number(name, number, *MEANS)
    return Aim(mean=number)


def measure(image: np.ndarray) -> Measured:
    """Measures `[H, W, C]` in [0, 1].

    The noise is that of the centre square of `lle quantify`; where none can be measured, below 16
    pixels a side and where all is clipped, it is taken for 0.
    """
    part = measures.centre_crop(image)
    noise = float(_noise(part)) if min(part.shape[:2]) >= _MEASURED else 0.0
    noise = 0.0 if math.isnan(noise) else noise
    return Measured(tiles.cell_means(image), tiles.is_grey(image), noise, _peak(image))


def _peak(image: np.ndarray) -> float:
    rows, columns = (max(1, side // _PEAK_SIDE) for side in image.shape[:2])
    brightest = image[::rows, ::columns].max(axis=-1)
    size = [min(side, _PEAK_CELLS) for side in brightest.shape[::-1]]
    return float(cv2.resize(brightest, size, interpolation=cv2.INTER_AREA).max())


def examine(net: tiles.Network, image: np.ndarray, wish: Wish = AUTO) -> Measured:
    """Measures as `measure` does, and what else the pixels decide.

    Grain, and what the network makes of the noise, are looked at only where something depends on
    them.
    """
    measured = measure(image)
    correction = decide(net, measured, wish)
    measured = measured._replace(predicted=correction.predicted)
    if correction.strength < 1:
        within = functools.partial(context, net, measured.cells, measured.grey, correction)
        found = denoising.find(net, image, measured.noise, measured.grey, within)
        measured = measured._replace(
            grain=found.grain, denoising=found.share, certain=found.certain
        )
    if correction.strength or measured.denoising:
        grains = grain.measure(measures.centre_crop(image), measured.noise)
        measured = measured._replace(grain=max(measured.grain, grains))
    return measured


_noise = jax.jit(artifacts.noise_sigma)


def check(net: tiles.Network, wish: Wish) -> None:
    """Raises ValueError if a brightness is asked of a network that takes none."""
    if net.finish_context is None and (wish.aim != AUTO.aim or wish.gain is not None):
        raise ValueError("this model takes no exposure; leave it out, or give another model")


def decide(net: tiles.Network, measured: Measured, wish: Wish = AUTO) -> Correction:
    """Decides how much of the correction an image needs.

    A network that needs the image as a whole predicts no brightness; it makes the whole correction.
    What is all black is left so, whatever is wished.
    """
    if is_black(measured):  # of which nothing but the network's own pattern is made
        return Correction(wish.aim, 0.0, 0.0, wish.gain)
    if wish.always or wish.aim != AUTO.aim or net.finish_context is None:
        return Correction(wish.aim, gain=wish.gain)
    predicted = measured.predicted
    if predicted is None:
        predicted = tiles.finish_context(net, measured.cells, measured.grey)
    own = max(mean_luma(measured.cells[..., :3]), 1e-3)
    change = abs(math.log(_wanted(predicted) / own))
    veil = 0.0 if predicted.veil is None else float(np.mean(predicted.veil.share))
    noisy = grain.smoothstep(measured.noise, denoising.NO_NOISE, NOISY)
    by_peak = min(CHANGE + CHANGE_SLOPE * max(measured.peak - PEAK, 0.0), CHANGE_MOST)
    least = noisy * by_peak + (1 - noisy) * CHANGE_MOST
    enough = grain.smoothstep(change, least, least + CHANGE_WIDTH)
    amount = max(enough, grain.smoothstep(veil, *VEIL))
    if wish.gain is not None:
        amount = min(abs(wish.gain) / GAIN, 1.0)
    strength = max(amount, measured.denoising)
    if strength < LEAST:
        amount = strength = 0.0
    return Correction(wish.aim, amount, strength, wish.gain, predicted)


def is_black(measured: Measured) -> bool:
    """Tells whether all of an image is 0."""
    return not measured.cells[..., :3].any()


def _wanted(context: dual_path.Context) -> float:
    """The mean luma that a context aims at, never 0."""
    return max(float(np.mean(context.exposure)), 1e-3)


def context(
    net: tiles.Network, cells: np.ndarray, grey: bool, correction: Correction = WHOLE
) -> dual_path.Context | None:
    """Computes the context by which an image, or a tile of it, gets the wanted brightness.

    None for a network that needs the image as a whole.
    """
    if net.finish_context is None:
        return None
    aim, rgb = correction.aim, cells[..., :3]

    def predicted() -> dual_path.Context:
        return correction.predicted or tiles.finish_context(net, cells, grey)

    if correction.gain is not None:
        rgb = _seen(rgb, predicted())
        return tiles.finish_context(net, cells, grey, mean_luma(lit(rgb, correction.gain)))
    mean = math.nan if aim.mean is None else aim.mean
    if aim.stops:
        made = tiles.finish_context(net, cells, grey, mean)
        bright = lit(np.asarray(_thumbnail(made.curves, _seen(rgb, made))), aim.stops)
        mean = mean_luma(bright)
    elif correction.amount < 1:
        own = max(mean_luma(rgb), 1e-3)
        mean = own ** (1 - correction.amount) * _wanted(predicted()) ** correction.amount
    if math.isnan(mean):
        return predicted()
    return tiles.finish_context(net, cells, grey, mean)


def correct(
    net: tiles.Network,
    image: np.ndarray,
    measured: Measured,
    context: dual_path.Context | None,
    wish: Wish,
    needed: float,
    strength: float = 1.0,
    largest: int | None = None,
) -> None:
    """Restores an image by its context, and replaces what may be grain, in place.

    The network comes near a mean luma that was asked for, not to it: the result is scaled to that,
    clipped at white. A mean that it predicted itself is left.

    Args:
      net: from `tiles.network`.
      image: `[H, W, C]` in [0, 1].
      measured: of it.
      context: of `context`; None for a network that needs the image as a whole.
      wish: what was asked for.
      needed: how much of the whole change is needed, of `decide`, above 0.
      strength: how much of what is needed is made, above 0.
      largest: see `tiles.restore`.
    """
    share = strength * needed
    tiles.restore(net, image, image, share, largest, context)
    own = mean_luma(measured.cells[..., :3])
    if measured.grain:
        gain = mean_luma(image) / max(own, 1e-3)
        # of what is certainly noise, what the network's share leaves must not stay as spots
        replaced = needed + measured.certain * (min(AGREED * needed, 1.0) - needed)
        grain.remove(image, measured.grain, gain, strength * replaced, measured.certain)
    if context is None or (wish.aim == AUTO.aim and wish.gain is None):
        return
    if wish.gain is None and wish.aim.mean is not None:
        wanted = wish.aim.mean
    else:
        wanted = float(context.exposure[0, 0, 0, 0])
    wanted = share * wanted + (1 - share) * own
    image *= np.float32(wanted / max(mean_luma(image), 1e-3))
    np.clip(image, 0, 1, out=image)


def gain(net: tiles.Network, measured: Measured, correction: Correction) -> float:
    """Computes the stops of light between an image and what a correction makes of it.

    Raises:
      ValueError: if the network needs the image as a whole.
    """
    rgb = measured.cells[..., :3]
    made = context(net, measured.cells, measured.grey, correction)
    if made is None:
        raise ValueError("this model takes no exposure; give another model")
    rgb, wanted = _seen(rgb, made), _wanted(made)
    low, high = -STOPS, STOPS + 1
    for _ in range(20):  # the stops that `context` turns into that mean again
        middle = (low + high) / 2
        low, high = (middle, high) if mean_luma(lit(rgb, middle)) < wanted else (low, middle)
    return 0.0 if abs(low) < NO_GAIN else low


def mean_luma(image: np.ndarray) -> float:
    """Computes the mean luma (ITU-R BT.601) of `[..., H, W, C]`, as `metrics.gt_mean` does."""
    image = np.asarray(image)
    channels = image.reshape(-1, image.shape[-1]).mean(axis=0, dtype=np.float64)
    return float(channels @ colour.BT601 if len(channels) == 3 else channels[0])


def of_references(images: Iterable[np.ndarray]) -> Aim:
    """Aims at the median of the mean lumas of well-lit images.

    Raises:
      ValueError: if that is no brightness to aim at.
    """
    means = [mean_luma(tiles.cell_means(image)[..., :3]) for image in images]
    mean = float(np.median(means))
    if not MEANS[0] <= mean <= MEANS[1]:
        raise ValueError(f"the mean brightness of the references is {mean:.3f}; give well-lit ones")
    return Aim(mean=mean)


def lit(image: np.ndarray, stops: float) -> np.ndarray:
    """Gives display values `[..., C]` so many stops more light, clipped at white."""
    light = np.asarray(colour.srgb_to_linear(jnp.asarray(image))) * 2.0**stops
    return np.asarray(colour.linear_to_srgb(jnp.clip(light, 0, 1)))


@jax.jit
def _seen(rgb: jax.Array, context: dual_path.Context) -> jax.Array:
    """The colours of the cells without veil and tint, as the curves brighten them."""
    return dual_path.unveiled(rgb, context) * context.neutral


_thumbnail = jax.jit(dual_path.thumbnail)
