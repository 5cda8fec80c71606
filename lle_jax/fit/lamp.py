"""The colour by which all real images differ from the synthetic ones: of a lamp, a filter, a film.

Subjects differ in colour by more than lamps do, so that measures which are compared image by image
hide what all images have in common. Here the whole distribution of colours is moved, by one factor
for red and one for blue, to where it is nearest to that of the real images.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from lle_jax import colour
from lle_jax.degrade.presets import Distribution, StageDistribution
from lle_jax.degrade.stages import STAGES

STAGE = "illuminant"
# A colour is taken for the lamp's if by chance the distance would be as large less than once in
# PERMUTATIONS, if the two factors leave at most a third of it, since other subjects than the clean
# ones differ in more than two factors, and if it can be seen.
PERMUTATIONS, LEFT, SMALLEST = 1000, 1 / 3, 0.1
RESAMPLED = 50  # samples by which the error is estimated
STRONGER = 3.5  # times the logarithms: the hardest tone curve of the prior `clinic`
SPREAD = 0.1  # of the logarithm: no two images have quite the same light


class Lamp(NamedTuple):
    """What the linear light of all images is multiplied by; green stays.

    Attributes:
      gain: of red and of blue.
      error: standard errors of their logarithms.
      before: energy distance of the real and the synthetic colours, in logarithms.
      after: what of it the gains leave.
    """

    gain: tuple[float, float]
    error: tuple[float, float]
    before: float
    after: float

    def stage(self) -> StageDistribution:
        """The stage of a preset that gives images the colour of the lamp."""
        ranges = []
        for name, gain, error in zip(("red", "blue"), self.gain, self.error, strict=True):
            width = float(np.hypot(error, SPREAD))
            bounds = (gain * np.exp(-2 * width), gain * np.exp(2 * width))
            median, deviation, *ends = (float(f"{v:.4g}") for v in (gain, width, *bounds))
            spec = STAGES[STAGE].parameters[name]  # outside its range a preset is not read
            low, high = (min(max(end, spec.low), spec.high) for end in ends)
            ranges.append((name, Distribution("lognormal", (median, deviation, low, high))))
        return StageDistribution(STAGE, 1.0, tuple(ranges))


def added(stages: tuple[StageDistribution, ...], lamp: Lamp) -> tuple[StageDistribution, ...]:
    """Adds the lamp's stage at its place in the chain."""
    order = list(STAGES)
    return tuple(sorted((*stages, lamp.stage()), key=lambda stage: order.index(stage.name)))


def described(lamp: Lamp | None) -> str:
    """Says in a line what was found."""
    if lamp is None:
        return "Colour of the light: nothing that all real images have in common."
    gains = ", ".join(
        f"{name} {gain:.2f} (standard error {100 * error:.0f} %)"
        for name, gain, error in zip(("red", "blue"), lamp.gain, lamp.error, strict=True)
    )
    return (
        f"Colour of the light: {gains} times that of the clean images; energy distance "
        f"{lamp.before:.2f}, with it {lamp.after:.2f}. Wrong if the clean images show other "
        "subjects."
    )


@jax.jit
def colours(images: jax.Array) -> jax.Array:
    """Logarithms of red and blue over green in the mean light of `[b, H, W, 3]`, `[b, 2]`."""
    light = jnp.mean(colour.srgb_to_linear(images), axis=(-3, -2)) + 1e-6
    return jnp.log(light[:, ::2] / light[:, 1:2])


def is_searched(stage: StageDistribution) -> bool:
    """Whether a prior's stage is the light of all images, whose colour is to be found."""
    kinds = {distribution.kind for _, distribution in stage.parameters}
    return stage.name == STAGE and stage.probability == 1 and kinds <= {"uniform", "loguniform"}


def find(
    real: np.ndarray,
    synthesise: Callable[[Lamp | None], np.ndarray],
    within: StageDistribution,
    seed: int = 0,
) -> Lamp | None:
    """Finds what the synthetic images lack of the real ones' colour; None if it may be nothing.

    The lamp comes before the device, whose tone curve makes its colour stronger: a lamp of the
    colour that is lacking is tried, and then one of as much less as it moved the images too far.

    Args:
      real: of `colours`, `[n, 2]`.
      synthesise: gives those of clean images under a lamp, degraded with all else that was fitted,
        each once, `[m, 2]`.
      within: the prior's stage, whose ranges bound the gains.
      seed: of the permutations and the bootstrap.
    """
    ranges = dict(within.parameters)
    bounds = np.log([ranges["red"].values, ranges["blue"].values])
    low, high = bounds.T
    seen = STRONGER * np.abs(bounds).max() * np.array([[-1.0, 1.0], [-1.0, 1.0]])
    rng = np.random.default_rng(seed)
    synthetic = synthesise(None)
    before = energy_distance(real, synthetic)
    shift, after = _nearest(real, synthetic, seen)
    if after > LEFT * before or np.abs(shift).max() < SMALLEST:
        return None
    both = np.concatenate([real, synthetic])
    for _ in range(PERMUTATIONS):
        mixed = rng.permutation(both)
        if energy_distance(mixed[: len(real)], mixed[len(real) :]) >= before:
            return None
    shifts = [
        _nearest(rng.choice(real, len(real)), rng.choice(synthetic, len(synthetic)), seen)[0]
        for _ in range(RESAMPLED)
    ]
    error = np.std(shifts, axis=0)

    def lamp(factor: float) -> Lamp:
        red, blue = np.exp(np.clip(factor * shift, low, high)).tolist()
        error_red, error_blue = (factor * error).tolist()
        return Lamp((red, blue), (error_red, error_blue), before, after)

    tried = lamp(1.0)
    left, _ = _nearest(real, synthesise(tried), seen)
    moved = shift - left
    slope = float(moved @ shift / (np.log(tried.gain) @ shift))
    found = lamp(1 / min(max(slope, 1.0), STRONGER))
    return found._replace(after=energy_distance(real, synthesise(found)))


def energy_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared energy distance of two samples `[n, d]`, `[m, d]`, at least 0.

    Szekely and Rizzo, "Energy statistics: a class of statistics based on distances", Journal of
    Statistical Planning and Inference 143(8), 2013: twice the mean distance of a point of one to
    one of the other, less those within each.
    """
    across, among, within = (
        scipy.spatial.distance.cdist(*pair).mean() for pair in ((a, b), (a, a), (b, b))
    )
    return float(2 * across - among - within)


def _nearest(
    real: np.ndarray, synthetic: np.ndarray, bounds: np.ndarray
) -> tuple[np.ndarray, float]:
    """The shift that brings the synthetic colours nearest to the real ones, and what is left."""
    among = sum(scipy.spatial.distance.cdist(each, each).mean() for each in (real, synthetic))

    def distance(shift: np.ndarray) -> float:
        return 2 * scipy.spatial.distance.cdist(real, synthetic + shift).mean() - among

    results = [
        scipy.optimize.minimize(distance, start, method="Nelder-Mead", bounds=bounds)
        for start in np.clip([[0, 0], real.mean(axis=0) - synthetic.mean(axis=0)], *bounds.T)
    ]
    best = min(results, key=lambda result: result.fun)
    return best.x, float(best.fun)
