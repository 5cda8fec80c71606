"""Empirical coverage of prediction intervals."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from lle_jax.evaluation.suite import Case
from lle_jax.inference import tiles


class CaseCoverage(NamedTuple):
    """One case: absolute errors `[H, W, C]` and half-widths of the intervals `[H, W, 1]`."""

    case: Case
    error: np.ndarray
    half_width: np.ndarray

    @property
    def coverage(self) -> float:
        """Computes the share of values that lie in their interval."""
        return float(np.mean(self.error <= self.half_width))


def measure(net: tiles.Network, cases: Iterable[Case]) -> Iterator[CaseCoverage]:
    """Restores every case and predicts its uncertainty.

    Raises:
      ValueError: if the network does not predict it.
    """
    if net.uncertainty is None:
        raise ValueError(
            "this network does not predict its uncertainty; train it with model.uncertainty"
        )
    for case in cases:
        out = np.empty_like(case.low)
        tiles.restore(net, case.low, out)
        yield CaseCoverage(case, np.abs(out - case.clean), tiles.half_width(net, case.low))
