"""Empirical coverage of prediction intervals."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from lle_jax.evaluation.suite import Case
from lle_jax.inference import defects, exposure, tiles


class CaseCoverage(NamedTuple):
    """One case: absolute errors `[H, W, C]`, half-widths of the intervals `[H, W, 1]`.

    `grey` tells whether the network took the image for a grey one.
    """

    case: Case
    error: np.ndarray
    half_width: np.ndarray
    grey: bool

    @property
    def coverage(self) -> float:
        """Computes the share of values that lie in their interval."""
        return float(np.mean(self.error <= self.half_width))


def measure(net: tiles.Network, cases: Iterable[Case]) -> Iterator[CaseCoverage]:
    """Restores every case at the truth's brightness, and predicts its uncertainty.

    The interval is that of the image at the chosen exposure: how bright the scene was is chosen,
    not known, so an error of it is not one of the interval.

    Raises:
      ValueError: if the network does not predict it.
    """
    if net.uncertainty is None:
        raise ValueError(
            "this network does not predict its uncertainty; train it with model.uncertainty"
        )
    for case in cases:
        low = defects.mended(case.low)
        out = np.empty_like(low)
        wish = exposure.Correction(exposure.Aim(mean=exposure.mean_luma(case.clean)))
        cells, grey = tiles.cell_means(low), tiles.is_grey(low)
        context = exposure.context(net, cells, grey, wish)
        tiles.restore(net, low, out, context=context)
        half_width = tiles.half_width(net, low, context=context)
        was_grey = bool(context is not None and context.grey.item())
        yield CaseCoverage(case, np.abs(out - case.clean), half_width, was_grey)
