"""Whether waves can take requests across a limit at all.

What requests share matters to a verdict where it could carry them over the limit. How slow the slowest request of a
wave is varies from wave to wave by so much; a limit that lies many times that beyond all of them is not reached by
waves being what they are, and requests over it then are events of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["Reach", "reach"]

Floats = NDArray[np.float64]
FEWEST = 22  # waves: a kind of wave that is one in ten is missing in one run of ten
MOST = 40  # stretches: of many waves they are longer than one, so that neither a short drift nor a rare wave is lost


@dataclass(frozen=True)
class Reach:
    """How far a limit lies beyond the slowest requests of stretches of a run. `size`: requests of one stretch, in
    waves of `block`; `distance`: from the mean of the logarithm of those slowest, in their standard deviations; `reached`: whether one reached it.
    """

    block: int
    distance: float
    reached: bool = False

    def stretches(self, n: int) -> int:
        """Into how many whole stretches n requests fall."""
        return n // _size(n, self.block)

    def clear(self, n: int, share: float, tail: float) -> bool:
        """Whether fewer than `share` of stretches, and so of requests, reach the limit; wrong with the chance `tail`.

        Formula: distance ≥ T⁻¹(1 − tail; m − 1, z·√m) / √m, T the noncentral t distribution, z the normal quantile of
        1 − share: the one-sided tolerance limit of m normal values (Natrella 1963).
        """
        if self.reached or n // self.block < FEWEST:
            return False
        return self.distance >= _tolerance(self.stretches(n), share, tail)


@lru_cache(maxsize=1024)
def _tolerance(m: int, share: float, tail: float) -> float:
    from scipy.special import nctdtrit, ndtri

    return float(nctdtrit(m - 1, float(ndtri(1 - share)) * math.sqrt(m), 1 - tail)) / math.sqrt(m)


def _size(n: int, block: int) -> int:
    return block * max(1, math.ceil(n / block / MOST))


def reach(values: Floats, block: int, limit: float) -> Reach | None:
    """How far `limit` lies from what waves reach; None where that can't be said (too few waves, values of zero).

    `values`: in the order of sending, shape (n,), the unit of `limit`; `block`: how many go through the server together.
    """
    size = _size(len(values), block)
    count = len(values) // size
    if count < 2 or limit <= 0 or values.min() <= 0:
        return None
    slowest = np.log(values[: count * size].reshape(count, size).max(axis=1))
    gap, spread = math.log(limit) - float(slowest.mean()), float(slowest.std(ddof=1))
    distance = gap / spread if spread > 0 else math.copysign(math.inf, gap)
    return Reach(block, distance, bool(values.max() >= limit))
