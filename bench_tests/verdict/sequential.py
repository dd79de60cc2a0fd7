"""A verdict that is asked for while the load goes on: load until it is clear, with the error rate of a single look.

Every look is the exact test of `confidence.judge`; what makes many of them as safe as one is that each has a part of
the error of its own (alpha spending: Bonferroni's inequality over the looks, whatever they share). The looks are
planned before the first request: after five waves, then whenever a quarter more is there, and when the budget is exhausted.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from bench_tests.verdict.counts import Verdict, shared, verdict_of_counts
from bench_tests.verdict.noise import RunNoise

__all__ = ["SequentialJudge", "planned_looks"]

FEWEST_WAVES = 5  # what waves share is seen from so many on
GROWTH = 1.25  # requests from one look to the next
LAST_LOOK = 0.8  # of each error: kept for the look at the whole budget, which sees most


def planned_looks(max_requests: int, block: int = 1, first: int = 1) -> list[int]:
    """The numbers of requests at which a run is looked at: whole waves of `block`, and the budget itself, the last.

    None before `first` requests.
    """
    looks, wanted = [], float(max(FEWEST_WAVES * block, first))
    while (at := math.ceil(wanted / block) * block) < max_requests:
        looks.append(at)
        wanted = max(at * GROWTH, at + 1)
    return [*looks, max_requests]


class SequentialJudge:
    """Holds the q-quantile against its limit (an upper one, in the unit of the values) while the requests come in.

    Feed only requests of the steady state, in the order of sending and up to the first one that is still in flight:
    in the order of finishing the fast ones come first. `update` answers PASS or FAIL once that is clear and keeps to
    it; None until then. A budget that ends without a verdict is INSUFFICIENT: judge nothing else on the same requests,
    or the error rate is spent twice.

    Error rates: over all looks together each wrong verdict has a chance of at most (1 − level)/2, the same as either
    error of `confidence.judge`, as far as what requests share is what `dependence` finds of them: an approximation,
    measured and not proven. Four fifths of it belong to the last look, the others share the rest equally. `block` is
    the concurrency. `noise` and `runs` as for `confidence.judge`; `first`: no look before so many requests.
    """

    def __init__(
        self,
        q: float,
        limit: float,
        level: float = 0.95,
        *,
        max_requests: int,
        block: int | None = None,
        noise: RunNoise | None = None,
        runs: int = 1,
        first: int = 1,
    ) -> None:
        self.q, self.limit, self.max_requests, self.block = q, limit, max_requests, block
        margin = noise.margin(runs, level) if noise else 0.0
        self._beyond, self._within = limit * math.exp(margin), limit * math.exp(-margin)
        self._values = np.empty(0)
        self._looks = planned_looks(max_requests, block or 1, first)
        early = len(self._looks) - 1
        self._tail = (1 - level) / 2 * ((1 - LAST_LOOK) / early if early else 1.0)
        self._last_tail = (1 - level) / 2 * (LAST_LOOK if early else 1.0)
        self.verdict: Verdict | None = None
        self.decided_at: int | None = None  # requests that the verdict took

    @property
    def n(self) -> int:
        """Requests so far."""
        return len(self._values)

    def update(self, values: ArrayLike) -> Verdict | None:
        """Take in further requests (shape (m,)) and say PASS, FAIL or None, as of the planned looks that they reach.

        At `max_requests` it is PASS, FAIL or INSUFFICIENT; requests beyond are not looked at.
        Raises ValueError for values that aren't finite: a failed request is no latency.
        """
        new = np.asarray(values, np.float64).ravel()
        if not np.isfinite(new).all():
            raise ValueError("values that are not finite: leave failed requests out, they are counted elsewhere")
        self._values = np.concatenate([self._values, new[: max(0, self.max_requests - self.n)]])
        while self.verdict is None and self._looks and self._looks[0] <= self.n:
            self._look(self._looks.pop(0))
        return self.verdict

    def _look(self, at: int) -> None:
        last = not self._looks
        values = self._values[:at]
        within, beyond = float((values > self._within).sum()), float((values > self._beyond).sum())
        tail = self._last_tail if last else self._tail
        found = verdict_of_counts(within, beyond, at, 1 - self.q, tail)
        if found != "INSUFFICIENT":  # what independent requests leave open, those that share their waves do not decide
            what = shared(values, self.q, self.limit, self.block, self._within)
            found = verdict_of_counts(within, beyond, at, 1 - self.q, tail, what)
        if found != "INSUFFICIENT":
            self.verdict, self.decided_at = found, at
        elif last:
            self.verdict = found
