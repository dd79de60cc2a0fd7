"""A verdict that may be asked for after every request: load until it is clear, with the error rate of a single look.

The share of requests over the limit is bet against: a test martingale grows when the share is not what the opposite
verdict needs, and by Ville's inequality (1939) the chance that it ever reaches 1/α while that verdict is wrong is at
most α, however often one looks and whenever one stops. Its bets are a mixture over the share (Robbins 1970; as
confidence sequences: Howard, Ramdas, McAuliffe and Sekhon, Ann. Statist. 49, 2021; by betting: Waudby-Smith and Ramdas,
J. R. Stat. Soc. B 86, 2024): a Beta distribution around the allowed share, cut at it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench_tests.compare.run_noise import RunNoise
from bench_tests.verdict.confidence import Verdict, clearly_over, clearly_under, design_effect

__all__ = ["SequentialJudge", "log_evidence_over", "log_evidence_under"]

Floats = NDArray[np.float64]
LAST_LOOK = 0.3  # of each error: kept for a plain binomial test when the budget is spent


def _log_evidence(over: Floats, n: Floats, share: float, upper: bool) -> Floats:
    from scipy.special import betainc, betaincc, betaln

    a, b = 0.5, 0.5 * (1 - share) / share  # Jeffreys-like, with its mean at the allowed share
    tail = betaincc if upper else betainc
    with np.errstate(divide="ignore"):  # a tail of 0 is no evidence: ln 0 = −∞
        gained = betaln(a + over, b + n - over) + np.log(tail(a + over, b + n - over, share))
        before = betaln(a, b) + np.log(tail(a, b, share))
    return np.asarray(gained - before - over * math.log(share) - (n - over) * math.log1p(-share))


def log_evidence_over(over: ArrayLike, n: ArrayLike, share: float) -> Floats:
    """ln of the martingale against "at most `share` of the requests are over"; arrays broadcast, fractions allowed.

    Formula: ln ∫_{θ > share} [θ/share]^over · [(1−θ)/(1−share)]^(n−over) dπ(θ), π = Beta(½, (1−share) / (2·share))
    cut to θ > share. A supermartingale under every share below too, for each factor's ratio only falls there.
    """
    return _log_evidence(np.asarray(over, np.float64), np.asarray(n, np.float64), share, upper=True)


def log_evidence_under(over: ArrayLike, n: ArrayLike, share: float) -> Floats:
    """The mirror image: ln of the martingale against "at least `share` of the requests are over"."""
    return _log_evidence(np.asarray(over, np.float64), np.asarray(n, np.float64), share, upper=False)


class SequentialJudge:
    """Holds the q-quantile against its limit (an upper one, in the unit of the values) while the requests come in.

    Feed only requests of the steady state, in the order of sending and up to the first one that is still in flight:
    in the order of finishing the fast ones come first. `update` answers PASS or FAIL once that is clear and keeps to
    it; None until then. With `max_requests` a part of the error rate is kept for that last look, where the plain
    binomial test sees more than the martingale, and a budget that ends without a verdict is INSUFFICIENT: judge nothing
    else on the same requests, or the error rate is spent twice.

    Error rates: each wrong verdict has a chance of at most (1 − level)/2 over all looks together, the same as either
    error of `confidence.judge`, if a request's chance to be over does not depend on those before it. Requests of one
    batch share their fate. `block` (the concurrency) estimates by how much from the requests themselves and counts n
    and those over in proportion (`confidence.design_effect`): an approximation, measured and not proven. What a whole
    run shares no length of the run can show: `noise` and `runs` as for `confidence.judge`, PASS then needs the limit /
    exp(margin), FAIL the limit · exp(margin).
    """

    def __init__(
        self,
        q: float,
        limit: float,
        level: float = 0.95,
        *,
        max_requests: int | None = None,
        block: int = 1,
        noise: RunNoise | None = None,
        runs: int = 1,
    ) -> None:
        if not 0.0 < q < 1.0:
            raise ValueError(f"q={q}: a share between 0 and 1 was expected (p99 is 0.99)")
        self.q, self.limit, self.level, self.max_requests, self.block = q, limit, level, max_requests, block
        margin = noise.margin(runs, level) if noise else 0.0
        self._beyond, self._within = limit * math.exp(margin), limit * math.exp(-margin)
        self._values = np.empty(0)
        self._tail = (1 - level) / 2
        self._threshold = -math.log(self._tail * (1 - LAST_LOOK if max_requests else 1))
        self.verdict: Verdict | None = None
        self.decided_at: int | None = None  # requests that the verdict took

    @property
    def n(self) -> int:
        """Requests so far."""
        return len(self._values)

    def update(self, values: ArrayLike) -> Verdict | None:
        """Take in further requests (shape (m,)), look after each of them, and say PASS, FAIL or None.

        At `max_requests` it is PASS, FAIL or INSUFFICIENT; requests beyond are not looked at.
        Raises ValueError for values that aren't finite: a failed request is no latency.
        """
        new = np.asarray(values, np.float64).ravel()
        if not np.isfinite(new).all():
            raise ValueError("values that are not finite: leave failed requests out, they are counted elsewhere")
        first = self.n
        if self.max_requests is not None:
            new = new[: max(0, self.max_requests - first)]
        self._values = np.concatenate([self._values, new])
        if self.verdict or not len(new):
            return self.verdict
        n = np.arange(first + 1, self.n + 1, dtype=np.float64)
        design = design_effect(self._values, self.block)
        evidence = [
            log_evidence((self._values > limit).cumsum()[first:] / design, n / design, 1 - self.q)
            for log_evidence, limit in ((log_evidence_under, self._within), (log_evidence_over, self._beyond))
        ]
        passed, failed = (line >= self._threshold for line in evidence)
        clear = np.flatnonzero(passed | failed)
        if len(clear):
            self.decided_at = first + int(clear[0]) + 1
            self.verdict = "PASS" if passed[clear[0]] else "FAIL"
        elif self.n == self.max_requests:
            self._last_look(design)
        return self.verdict

    def _last_look(self, design: float) -> None:
        n, tail = self.n / design, LAST_LOOK * self._tail
        self.decided_at = self.n
        if clearly_under(float((self._values > self._within).sum()) / design, n, 1 - self.q, tail):
            self.verdict = "PASS"
        elif clearly_over(float((self._values > self._beyond).sum()) / design, n, 1 - self.q, tail):
            self.verdict = "FAIL"
        else:
            self.verdict, self.decided_at = "INSUFFICIENT", None

    def share_bounds(self) -> tuple[float, float]:
        """(low, high) of the share of requests over the limit, valid at every look together at `level`."""
        if not self.n:
            return 0.0, 1.0
        design = design_effect(self._values, self.block)
        over, n = float((self._values > self.limit).sum()) / design, self.n / design

        def refuted(share: float) -> tuple[bool, bool]:
            return (float(log_evidence_over(over, n, share)) >= self._threshold,
                    float(log_evidence_under(over, n, share)) >= self._threshold)  # fmt: skip

        ends = []
        for side, (inside, outside) in enumerate(((over / n, 0.0), (over / n, 1.0))):
            for _ in range(50):
                middle = (inside + outside) / 2
                if 0 < middle < 1 and refuted(middle)[side]:
                    outside = middle
                else:
                    inside = middle
            ends.append(outside)
        return ends[0], ends[1]
