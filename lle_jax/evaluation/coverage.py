"""Whether what a network says of its own error is true: how many errors its intervals hold."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from lle_jax.evaluation.suite import Case
from lle_jax.inference import tiles


class Judged(NamedTuple):
    """One case: absolute errors `[H, W, C]` and half intervals `[H, W, 1]`."""

    case: Case
    error: np.ndarray
    spread: np.ndarray

    @property
    def covered(self) -> float:
        """The share of the values that lie in their interval."""
        return float(np.mean(self.error <= self.spread))


def judged(net: tiles.Network, cases: Iterable[Case]) -> Iterator[Judged]:
    """Restores every case, and asks the network how far off it may be.

    Raises:
      ValueError: if the network cannot tell.
    """
    if net.spread is None:
        raise ValueError("this network cannot tell how far off it is; train it with model.spread")
    for case in cases:
        out = np.empty_like(case.low)
        tiles.restore(net, case.low, out)
        yield Judged(case, np.abs(out - case.clean), tiles.spread(net, case.low))
