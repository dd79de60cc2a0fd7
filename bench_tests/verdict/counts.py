"""The verdict that a number of requests over a limit is worth, by what those requests share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench_tests.verdict.dependence import (
    INDEPENDENT,
    Dependence,
    chance_of_at_least,
    chance_of_at_most,
    dependence,
)
from bench_tests.verdict.reach import Reach, reach

__all__ = ["NOTHING", "Shared", "Verdict", "shared", "verdict_of_counts"]

Verdict = Literal["PASS", "FAIL", "INSUFFICIENT"]


@dataclass(frozen=True)
class Shared:
    """What requests share, as far as one limit is concerned."""

    of: Dependence = INDEPENDENT  # as found
    careful: Dependence = INDEPENDENT  # on the side on which few over the limit are no surprise: for a PASS
    to_limit: Reach | None = None  # from what waves reach to the limit of a PASS; None: not known, or nothing shared


NOTHING = Shared()


def shared(
    values: NDArray[np.float64], q: float, limit: float, block: int | None, within: float | None = None
) -> Shared:
    """What `values` (shape (n,), in the order of sending) share that go through the server `block` at a time.

    `within`: the limit that a PASS needs, where it is less than `limit` (by the margin from run to run).
    """
    if not block:
        return NOTHING
    of, careful = dependence(values, q, block, limit), dependence(values, q, block, limit, careful=True)
    return Shared(of, careful, reach(values, block, limit if within is None else within))


def verdict_of_counts(
    within: float, beyond: float, n: int, share: float, tail: float, what: Shared = NOTHING
) -> Verdict:
    """PASS when so few of n over the limit are improbable (≤ `tail`) if `share` of them are in truth, FAIL when so many.

    `within`, `beyond`: how many lie over the limit less its margin, and over the limit and its margin. Where waves are
    clearly out of reach of the limit, what they share brings none over it: so few then only need to be improbable for
    independent requests, which slow ones on their own would be.
    """
    if all(chance_of_at_least(beyond, n, share, of) <= tail for of in (INDEPENDENT, what.of)):
        return "FAIL"
    out_of_reach = what.to_limit is not None and what.to_limit.clear(n, share, tail)
    of = INDEPENDENT if out_of_reach else what.careful
    return "PASS" if chance_of_at_most(within, n, share, of) <= tail else "INSUFFICIENT"
