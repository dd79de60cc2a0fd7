"""Whether the first requests of a run settle what the verdict of all of them would be."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["CHANCE", "foreseen"]

CHANCE = 0.01  # that the requests which were not sent would have turned a verdict that counts as settled
TAIL = 4  # the largest 1/TAIL of the values are the tail
FEWEST = 5  # values of a tail, at least
CALMEST = 0.01  # the least that a tail is taken to spread, as a share of the latency: no server repeats to less


def foreseen(values: ArrayLike, q: float, limit: float, total: int, burst: int = 0) -> Literal["PASS", "FAIL", ""]:
    """What the q-quantile of `total` values against `limit` comes to, after the first of them; "" while that is open.

    FAIL is certain, whatever the others are. PASS: the chance that the others bring more beyond the limit than the
    quantile allows is at most CHANCE, if they come from the tail of those behind the first `burst`: a start burst is over,
    and counts by what it was. Spikes so rare that none came yet are not foreseen, nor are waves that share their luck.
    Formula: values beyond a high threshold u follow P(X > x | X > u) = (u/x)^(1/β), β by Hill's estimator (the mean of
    ln(X/u)), enlarged by two of its standard errors β/√k; what is still to come beyond the limit is Poisson.
    """
    sent = np.asarray(values, np.float64).ravel()
    found = np.sort(sent[burst:] if len(sent) > burst else sent)
    place = (total - 1) * q  # numpy's quantile lies between the values at its floor and its ceiling
    beyond = int((sent > limit).sum())
    if beyond >= total - math.floor(place):
        return "FAIL"
    k = max(FEWEST, len(found) // TAIL)
    if len(found) <= k:
        return ""
    threshold = float(found[-k - 1])
    if not 0 < threshold < limit:
        return ""
    hill = float(np.mean(np.log(found[-k:] / threshold)))
    spread = max(CALMEST, hill * (1 + 2 / math.sqrt(k)))
    expected = max(0, total - len(sent)) * k / len(found) * (threshold / limit) ** (1 / spread)
    allowed = total - 1 - math.ceil(place) - beyond
    return "PASS" if allowed >= 0 and _more_than(allowed, expected) <= CHANCE else ""


def _more_than(count: int, mean: float) -> float:
    """P(N > count) of a Poisson number with this mean."""
    from scipy.special import gammainc

    return float(gammainc(count + 1, mean)) if mean > 0 else 0.0
