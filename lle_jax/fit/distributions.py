"""Fits a preset to real images: clean images degraded with it measure like the real ones.

Real low-light images have no clean twin, so that nothing can be compared pixel by pixel; what can
be compared is the joint distribution of measured artifacts. Each range of a prior preset is
narrowed to a truncated normal distribution (of the logarithm, where the prior is loguniform), and
each probability is fitted, such that the maximum mean discrepancy (Gretton et al., "A kernel
two-sample test", JMLR 13, 2012, eq. 3) between the measures of real and of synthetic images is
least. Synthetic images are drawn from a wide proposal, degraded and measured once; how a change of
the distribution changes the discrepancy then follows from importance weights, smoothly and without
a derivative of the measures. The best fit so far proposes the images of the next round, and all
rounds count together (the balance heuristic of Veach and Guibas, SIGGRAPH 1995).
"""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jax.scipy.special import ndtr, ndtri

from lle_jax.degrade import chain
from lle_jax.degrade.presets import Distribution, Preset, StageDistribution

ROUNDS = 4
SIMULATIONS = 768  # per round
BATCH = 32  # synthetic images that are measured together
MAX_WIDTH = 3.0  # a truncated normal this many times the range wide is nearly uniform
MIN_WIDTH = 0.02
RIVAL = "gamma"  # the stage that is nearly always there or nearly never
CERTAIN = 4.0  # logit of that
_BANDWIDTHS = (0.5, 1.0, 2.0)
_MAX_DEVIATION = 6.0  # measures further than this from the real ones are all the same


@dataclasses.dataclass(frozen=True)
class Space:
    """The space of the distributions fitted to a prior preset.

    Its parameters are a vector: means and log widths of the coordinates in [0, 1] of the ranges,
    and logits of the occurrence probabilities.
    """

    prior: Preset
    ranges: tuple[tuple[str, str, Distribution], ...]
    occurring: tuple[str, ...]

    @classmethod
    def of(cls, prior: Preset) -> "Space":
        """Finds the ranges and probabilities to fit; raises ValueError if there is no range."""
        ranges = [
            (stage.name, name, distribution)
            for stage in prior.stages
            for name, distribution in stage.parameters
            if distribution.kind in ("uniform", "loguniform")
            and distribution.values[0] < distribution.values[1]
        ]
        if not ranges:
            raise ValueError(f"the prior {prior.name} has no uniform or loguniform range to narrow")
        occurring = [stage.name for stage in prior.stages if 0 < stage.probability < 1]
        return cls(prior, tuple(ranges), tuple(occurring))

    @property
    def start(self) -> np.ndarray:
        """Nearly the prior: means, log widths of the ranges, logits of the probabilities."""
        count = len(self.ranges)
        probabilities = [s.probability for s in self.prior.stages if s.name in self.occurring]
        logits = [math.log(p / (1 - p)) for p in probabilities]
        return np.array([0.5] * count + [math.log(MAX_WIDTH)] * count + logits)

    @property
    def bounds(self) -> list[tuple[float, float]]:
        count = len(self.ranges)
        widths = (math.log(MIN_WIDTH), math.log(MAX_WIDTH))
        return [(0.0, 1.0)] * count + [widths] * count + [(-5.0, 5.0)] * len(self.occurring)

    @property
    def rivals(self) -> list[list[tuple[float, float]]]:
        """Bounds within which the fit is sought, each for itself.

        A tone curve and less light explain the same darkness: what has come to leave the one out
        hardly draws images by which it could be found again. A device has a curve or has none.
        """
        if RIVAL not in self.occurring:
            return [self.bounds]
        column = 2 * len(self.ranges) + self.occurring.index(RIVAL)
        rivals = []
        low, high = self.bounds[column]
        for logits in ((low, -CERTAIN), (CERTAIN, high)):
            bounds = self.bounds
            bounds[column] = logits
            rivals.append(bounds)
        return rivals

    def split(self, parameters) -> tuple:
        count = len(self.ranges)
        return (
            parameters[:count],
            jnp.exp(parameters[count : 2 * count]),
            jax.nn.sigmoid(parameters[2 * count :]),
        )

    def draw(self, key: jax.Array, parameters, count: int) -> tuple[jax.Array, jax.Array]:
        """Draws coordinates `[count, ranges]` in [0, 1], activities `[count, occurring]` 0 or 1."""
        mean, width, occurrence = self.split(jnp.asarray(parameters))
        first, second = jax.random.split(key)
        u = jax.random.uniform(first, (count, len(self.ranges)), minval=1e-6, maxval=1 - 1e-6)
        below, above = ndtr(-mean / width), ndtr((1 - mean) / width)
        t = jnp.clip(mean + width * ndtri(below + u * (above - below)), 0, 1)
        return t, (jax.random.uniform(second, (count, len(self.occurring))) < occurrence) * 1.0

    def log_density(self, parameters, t: jax.Array, active: jax.Array) -> jax.Array:
        """Computes the log density of coordinates and activities, `[count]`."""
        mean, width, occurrence = self.split(parameters)
        inside = jnp.log(ndtr((1 - mean) / width) - ndtr(-mean / width))
        log_p = -0.5 * ((t - mean) / width) ** 2 - jnp.log(width) - inside
        log_c = active * jnp.log(occurrence) + (1 - active) * jnp.log1p(-occurrence)
        return jnp.sum(log_p, axis=1) + jnp.sum(log_c, axis=1)

    def degradation(self, key: jax.Array, t: jax.Array, active: jax.Array) -> chain.Parameters:
        """The chain's parameters; what is not searched is drawn as the prior has it.

        The key may be that of `draw`: of its numbers other ones are used.
        """
        result = {}
        ranges = {(stage, name): column for column, (stage, name, _) in enumerate(self.ranges)}
        for stage in self.prior.stages:
            shape = t.shape[:1]
            if stage.name in self.occurring:
                result[f"{stage.name}.active"] = active[:, self.occurring.index(stage.name)]
            else:
                result[f"{stage.name}.active"] = jnp.full(shape, float(stage.probability > 0))
            for name, distribution in stage.parameters:
                column = ranges.get((stage.name, name))
                if column is not None:
                    value = _value(distribution, t[:, column])
                elif distribution.kind in ("choice", "normal", "lognormal"):
                    own = jax.random.fold_in(key, 2 + len(result))  # 0 and 1 are of `draw`
                    value = chain.quantile(distribution, jax.random.uniform(own, shape))
                else:
                    value = jnp.full(shape, distribution.values[0])
                result[f"{stage.name}.{name}"] = value
        return result

    def preset(self, parameters, name: str, description: str) -> Preset:
        """The fitted preset."""
        mean, width, occurrence = (
            np.asarray(v, np.float64) for v in self.split(jnp.asarray(parameters))
        )
        stages = []
        for stage in self.prior.stages:
            distributions = []
            for parameter, distribution in stage.parameters:
                for column, (of, called, _) in enumerate(self.ranges):
                    if (of, called) == (stage.name, parameter):
                        distribution = _truncated(
                            distribution, float(mean[column]), float(width[column])
                        )
                distributions.append((parameter, distribution))
            probability = stage.probability
            if stage.name in self.occurring:
                probability = float(occurrence[self.occurring.index(stage.name)])
                # nearly never and nearly always cannot be told from never and always
                probability = round(float(np.clip((probability - 0.02) / 0.96, 0, 1)), 3)
            stages.append(StageDistribution(stage.name, probability, tuple(distributions)))
        return Preset(name, description, tuple(stages))


def _value(distribution: Distribution, t: jax.Array) -> jax.Array:
    low, high = distribution.values
    if distribution.kind == "uniform":
        return low + t * (high - low)
    return jnp.exp(math.log(low) + t * math.log(high / low))


def _truncated(distribution: Distribution, mean: float, width: float) -> Distribution:
    low, high = distribution.values
    if distribution.kind == "uniform":
        values = (low + mean * (high - low), width * (high - low), low, high)
        return Distribution("normal", tuple(float(f"{v:.4g}") for v in values))
    span = math.log(high / low)
    values = (low * math.exp(mean * span), width * span, low, high)
    return Distribution("lognormal", tuple(float(f"{v:.4g}") for v in values))


@dataclasses.dataclass(frozen=True)
class Fit:
    """The fitted parameters of the space, and the maximum mean discrepancy that they leave."""

    space: Space
    parameters: np.ndarray
    discrepancy: float


def fit(
    key: jax.Array,
    prior: Preset,
    real: np.ndarray,
    clean: np.ndarray,
    measure: Callable[[jax.Array], jax.Array],
    *,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
    simulations: int | None = None,
    out_of_time: Callable[[], bool] = lambda: False,
) -> Fit:
    """Fits the ranges and probabilities of a prior preset.

    Args:
      key: random key.
      prior: its uniform and loguniform ranges are searched and narrowed, its probabilities
        strictly between 0 and 1 fitted; other parameters stay.
      real: measures of the real images, `[n, measures]`; NaN where one could not be taken.
      clean: well-lit images of the same kind and size, `[m, H, W, C]` in [0, 1].
      measure: images `[b, H, W, C]` -> `[b, measures]`, as the real ones were measured.
      progress: wraps the list of batches, as tqdm does.
      simulations: synthetic images a round, a multiple of `BATCH`; None takes `SIMULATIONS`.
      out_of_time: asked after each round but the first; True makes it the last.
    """
    space, count = Space.of(prior), simulations or SIMULATIONS
    simulate = functools.partial(_simulate, space, clean, measure)
    # each needs images to be found by
    rivals = space.rivals if count >= 2 * BATCH else [space.bounds]
    starts, proposals, points, measured = [space.start], [], [], []
    steps = iter(progress(range(ROUNDS * (count // BATCH))))
    for number in range(ROUNDS):
        round_key = jax.random.fold_in(key, number)
        for branch, size in enumerate(_shares(count, len(starts))):
            proposals.append((_widened(space, starts[branch]), size))
            # the first three that fold_in gives are what the first branch's key is split into
            own = jax.random.fold_in(round_key, 3 + branch) if branch else round_key
            draw, values = simulate(size, own, proposals[-1][0], steps)
            points.append(draw)
            measured.append(values)
        found = _solve(
            space, [*starts, space.start], rivals, proposals, points, np.concatenate(measured), real
        )
        starts = [parameters for parameters, _ in found]
        if number and out_of_time():
            break
    parameters, discrepancy = min(found, key=lambda each: each[1])
    return Fit(space, parameters, discrepancy)


def _widened(space: Space, parameters: np.ndarray) -> np.ndarray:
    """A proposal a little wider than a fit, so that what that has missed can be found."""
    wide, ranges = parameters.copy(), len(space.ranges)
    widths = wide[ranges : 2 * ranges]
    wide[ranges : 2 * ranges] = np.minimum(widths + 0.4, math.log(MAX_WIDTH))
    wide[2 * ranges :] *= 0.7
    return wide


def _shares(count: int, parts: int) -> list[int]:
    """Divides the images of a round into whole batches, one more in the first parts."""
    return [BATCH * len(range(part, count // BATCH, parts)) for part in range(parts)]


def synthesise(
    key: jax.Array,
    preset: Preset,
    clean: np.ndarray,
    measure: Callable[[jax.Array], jax.Array],
    count: int,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> tuple[np.ndarray, np.ndarray]:
    """Degrades clean images `[m, H, W, C]` with a preset and measures them.

    Every clean image is taken equally often; `count` is a multiple of `BATCH`.

    Returns:
      measures, `[count, measures]`, and the index of the clean image that each is of, `[count]`.
    """
    draw_key, image_key, noise_key = jax.random.split(key, 3)
    order = _order(image_key, count, len(clean))
    steps = iter(progress(range(count // BATCH)))
    parameters = chain.sample(draw_key, preset, (count,))
    return _measured(noise_key, parameters, clean, order, measure, steps), order


def _simulate(
    space: Space, clean, measure, count: int, key, parameters, steps
) -> tuple[tuple, np.ndarray]:
    draw_key, image_key, noise_key = jax.random.split(key, 3)
    t, active = space.draw(draw_key, parameters, count)
    order = _order(image_key, count, len(clean))
    degradation = space.degradation(draw_key, t, active)
    return (t, active), _measured(noise_key, degradation, clean, order, measure, steps)


def _order(key: jax.Array, count: int, images: int) -> np.ndarray:
    """Every image equally often."""
    return np.asarray(jax.random.permutation(key, np.arange(count) % images))


def _measured(key, degradation: chain.Parameters, clean, order, measure, steps) -> np.ndarray:
    measured = []
    for start in range(0, len(order), BATCH):
        next(steps)
        part = slice(start, start + BATCH)
        chosen = {name: value[part] for name, value in degradation.items()}
        low = chain.apply(jax.random.fold_in(key, start), chosen, clean[order[part]])
        # as files of 8 bits, which the real ones are
        measured.append(np.asarray(measure(jnp.round(low * 255) / 255)))
    return np.concatenate(measured)


def scale(real: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Standardises measures by median and robust deviation of the real ones, bounded.

    A measure that hardly varies among the real images is scaled by how it varies at all.
    """
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # all NaN
        middle = np.nan_to_num(np.nanmedian(real, axis=0))
        quartiles = (
            np.nanpercentile(real, 75, axis=0) - np.nanpercentile(real, 25, axis=0)
        ) / 1.349
        floor = 0.05 * np.nanstd(np.concatenate([real, values]), axis=0)
    unit = np.maximum(np.nan_to_num(np.maximum(quartiles, floor)), 1e-9)
    z = _MAX_DEVIATION * np.tanh((values - middle) / unit / _MAX_DEVIATION)
    return np.where(np.isnan(z), -_MAX_DEVIATION, z)  # "cannot be measured" is a result too


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum of Gaussian kernels on all measures together and on each alone, `[len(a), len(b)]`."""
    squares = (a[:, None] - b[None]) ** 2
    joint, alone = squares.mean(axis=2), squares
    total = np.zeros((len(a), len(b)), squares.dtype)
    for width in _BANDWIDTHS:
        total = total + np.exp(-joint / (2 * width**2))
        total = total + np.exp(-alone / (2 * width**2)).mean(axis=2)
    return total / (2 * len(_BANDWIDTHS))


def _solve(
    space: Space, starts, rivals, proposals, points, measured, real
) -> list[tuple[np.ndarray, float]]:
    """Within the bounds of each rival, the parameters of least discrepancy, and that."""
    z, z_real = scale(real, measured), scale(real, real)
    among, across = _kernel(z, z), _kernel(z, z_real).mean(axis=1)
    rest = _kernel(z_real, z_real).mean()
    t, active = (jnp.concatenate(parts) for parts in zip(*points, strict=True))
    proposed = jax.nn.logsumexp(  # as many images were drawn from each as its weight says
        jnp.stack([space.log_density(jnp.asarray(p), t, active) for p, _ in proposals]),
        axis=0,
        b=jnp.array([[float(size)] for _, size in proposals]),
    )

    @jax.jit
    @jax.value_and_grad
    def loss(parameters):
        weights = jax.nn.softmax(space.log_density(parameters, t, active) - proposed)
        return weights @ among @ weights - 2 * weights @ across + rest

    def objective(parameters):
        value, slope = loss(jnp.asarray(parameters, jnp.float32))
        return float(value), np.asarray(slope, np.float64)

    found = []
    for bounds in rivals:
        low, high = np.transpose(bounds)
        results = [
            scipy.optimize.minimize(
                objective, np.clip(start, low, high), jac=True, bounds=bounds, method="L-BFGS-B"
            )
            for start in starts
        ]
        best = min(results, key=lambda result: result.fun)
        found.append((best.x, float(best.fun)))
    return found
