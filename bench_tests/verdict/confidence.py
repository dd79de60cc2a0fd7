"""What a percentile of n requests is worth: its interval, and whether it decides an objective.

Order statistics need no model of the latencies: how many of n requests lie beyond the true p99 is binomial, whatever
the distribution. That holds for requests that are independent of each other. Requests of one batch aren't: pass their
`design_effect`, and n counts for that much less.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench_tests.compare.run_noise import RunNoise
from bench_tests.errors import NotMeasured

__all__ = ["Interval", "Judgement", "Verdict", "clearly_over", "clearly_under", "design_effect", "fewest_requests",
           "judge", "mean_interval", "quantile_interval"]  # fmt: skip

Verdict = Literal["PASS", "FAIL", "INSUFFICIENT"]
Floats = NDArray[np.float64]
MOST_REQUESTS = 1_000_000  # "how many more would decide" beyond this is no advice


@dataclass(frozen=True)
class Interval:
    """A confidence interval, in the unit of the values. An end that n cannot give is ∓infinity."""

    low: float
    high: float
    n: int  # values that it rests on
    method: str  # in words; says what is missing and from which n it would be there
    level: float = 0.95

    @property
    def two_sided(self) -> bool:
        """Whether both ends exist."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def as_pair(self) -> list[float | None]:
        """[low, high] for a JSON file, None where there is no bound."""
        return [end if math.isfinite(end) else None for end in (self.low, self.high)]


@dataclass(frozen=True)
class Judgement:
    """A quantile held against its limit. Times in the unit of the values."""

    verdict: Verdict
    figure: float  # numpy's linear percentile
    limit: float
    n: int
    over: int  # requests beyond the limit
    interval: Interval
    more_requests: int | None  # INSUFFICIENT: how many more of this kind would decide; None: no number would
    text: str  # the reason in words


def _checked(values: ArrayLike) -> Floats:
    array = np.asarray(values, np.float64).ravel()
    if not len(array):
        raise NotMeasured("no request completed: there is no figure to judge; see the kinds of failures")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise ValueError(f"{bad} of {len(array)} values are not finite: leave them out first")
    return array


def _share(q: float) -> float:
    if not 0.0 < q < 1.0:
        raise ValueError(f"q={q}: a share between 0 and 1 was expected (p99 is 0.99)")
    return q


def fewest_requests(q: float, level: float = 0.95) -> int:
    """The fewest values from which a two-sided interval of the quantile exists (p99 at 95 %: 368; p50: 6).

    Formula: the smallest n with max(q, 1 − q)^n ≤ (1 − level) / 2.
    """
    return math.ceil(math.log((1 - level) / 2) / math.log(max(_share(q), 1 - q)) - 1e-12)


@lru_cache(maxsize=4096)
def _position(n: float, q: float, beta: float) -> float | None:
    """The fractional order statistic k in [1, n] that lies below the true quantile with probability `beta`, or None.

    X_(k) ≤ quantile has probability I_q(k, n + 1 − k): the Beta distribution of a uniform order statistic, which holds
    for whole k exactly and is Hutson's (1999) definition between them.
    """
    from scipy.special import betainc

    low, high = 1.0, float(n)
    if not betainc(high, 1.0, q) <= beta <= betainc(1.0, high, q):
        return None
    for _ in range(60):  # the probability falls as k grows
        middle = (low + high) / 2
        low, high = (middle, high) if betainc(middle, n + 1 - middle, q) > beta else (low, middle)
    return low


def _at(ordered: Floats, k: float, n: float) -> float:
    """The k-th of n order statistics (counted from 1, fractional) of `ordered`; between two of them on a log scale."""
    place = (k - 1) * (len(ordered) - 1) / max(n - 1, 1e-12)
    below = min(int(place), len(ordered) - 1)
    part = place - below
    a, b = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    if a > 0:
        return float(a ** (1 - part) * b**part)
    return float(a * (1 - part) + b * part)


def quantile_interval(values: ArrayLike, q: float, level: float = 0.95, *, design: float = 1.0) -> Interval:
    """Distribution-free interval of the q-quantile of `values` (shape (n,), any order), from order statistics.

    Formula: [X_(k), X_(m)] with I_q(k, n+1−k) = 1 − (1−level)/2 and I_q(m, n+1−m) = (1−level)/2, fractional k and m
    interpolated (Hutson, Ann. Inst. Statist. Math. 51, 1999), which keeps the coverage near the level where whole
    order statistics would overshoot. With fewer than `fewest_requests(q)` values one end does not exist: it is
    infinite, and the other end alone has the whole level. `design`: see `design_effect`; n counts as n / design.
    Raises NotMeasured without values, ValueError for values that aren't finite.
    """
    ordered = np.sort(_checked(values))
    n, n_eff = len(ordered), max(1.0, len(ordered) / max(design, 1.0))
    tail = (1 - level) / 2
    low, high = _position(n_eff, _share(q), 1 - tail), _position(n_eff, q, tail)
    method = "order statistics" if design <= 1 else f"order statistics, {n} requests worth {n_eff:.0f}"
    if low is None or high is None:
        need = math.ceil(fewest_requests(q, level) * max(design, 1.0))
        if high is None:
            low = _position(n_eff, q, level)
        else:
            high = _position(n_eff, q, 1 - level)
        method += f"; one-sided: n={n} is too few for both bounds, from n={need} on there are two"
    return Interval(
        _at(ordered, low, n_eff) if low is not None else -math.inf,
        _at(ordered, high, n_eff) if high is not None else math.inf,
        n,
        method,
        level,
    )


def mean_interval(
    values: ArrayLike, level: float = 0.95, *, block: int = 1, draws: int = 2000, seed: int = 0
) -> Interval:
    """Interval of the mean: Student's t on the means of consecutive blocks; a bootstrap-t for blocks of one value.

    `values`: in the order of sending, shape (n,); for a throughput, the tok/s of equal slices of the run. `block`:
    values that belong together (the concurrency, for requests of a closed loop); blocks that are left over short are
    dropped. Raises NotMeasured with fewer than two blocks.
    """
    array = _checked(values)
    n = len(array)
    means = array[: n // block * block].reshape(-1, block).mean(axis=1)
    b = len(means)
    if b < 2:
        raise NotMeasured(f"{n} values in blocks of {block}: two blocks are needed for an interval of the mean")
    centre, error = float(means.mean()), float(means.std(ddof=1) / math.sqrt(b))
    tail = (1 - level) / 2
    if block > 1 or error == 0:
        from scipy.special import stdtrit

        t = float(stdtrit(b - 1, 1 - tail))
        return Interval(centre - t * error, centre + t * error, n, f"{b} blocks of {block}, Student's t", level)
    # Skewed latencies: Student's t misses on the long side; the bootstrap-t (Efron 1979) learns the skew.
    rng = np.random.default_rng(seed)
    drawn = means[rng.integers(0, b, (draws, b))]
    spread = drawn.std(axis=1, ddof=1) / math.sqrt(b)
    ratio = (drawn.mean(axis=1) - centre) / np.where(spread > 0, spread, np.inf)
    lower_t, upper_t = np.quantile(ratio, [tail, 1 - tail])
    return Interval(centre - float(upper_t) * error, centre - float(lower_t) * error, n, "bootstrap-t", level)


def design_effect(values: ArrayLike, block: int) -> float:
    """By what factor the correlation of requests that were sent together makes n worth less; 1 when there is none.

    `values` in the order of sending, shape (n,), `block` = the concurrency: the requests of a closed loop that go
    through the engine together. Formula: max(1, 1 + (block − 1)·ρ), ρ the intraclass correlation (one-way analysis of
    variance) of the values' ranks (Kish 1965). Fewer than three whole blocks say nothing: 1.
    """
    array = _checked(values)
    count = len(array) // block if block > 1 else 0
    if count < 3:
        return 1.0
    ranks = np.argsort(np.argsort(array[: count * block], kind="stable"), kind="stable").reshape(count, block)
    between = block * float(ranks.mean(axis=1).var(ddof=1))
    within = float(ranks.var(axis=1, ddof=1).mean())
    rho = (between - within) / (between + (block - 1) * within)
    return max(1.0, 1 + (block - 1) * rho)


def clearly_over(over: float, n: float, share: float, tail: float) -> bool:
    """P(so many or more over the limit | exactly `share` are in truth) ≤ tail; binomial, fractional counts allowed."""
    from scipy.special import betainc

    return over > 0 and bool(betainc(over, n - over + 1, share) <= tail)


def clearly_under(over: float, n: float, share: float, tail: float) -> bool:
    """P(so few or fewer over the limit | exactly `share` are in truth) ≤ tail."""
    from scipy.special import betaincc

    return over < n and bool(betaincc(over + 1, n - over, share) <= tail)


def _first(decides: Callable[[float], bool], start: int) -> int | None:
    """The smallest n > start at which `decides(n)`, by doubling and halving; None when MOST_REQUESTS do not."""
    low, high = start, max(start + 1, 2)
    while not decides(high):
        low, high = high, high * 2
        if high > MOST_REQUESTS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high


def judge(
    values: ArrayLike,
    q: float,
    limit: float,
    mode: Literal["point", "confident"] = "point",
    level: float = 0.95,
    *,
    design: float = 1.0,
    noise: RunNoise | None = None,
    runs: int = 1,
) -> Judgement:
    """Hold the q-quantile of `values` (shape (n,), the unit of `limit`) against its limit (an upper one).

    "point": numpy's linear percentile ≤ limit is PASS, else FAIL. "confident": the exact binomial test of the share of
    requests over the limit against 1 − q, each error at (1 − level)/2: PASS when that share is clearly smaller, FAIL
    when it is clearly larger, else INSUFFICIENT. It is the question of whether the quantile's interval lies on one side
    of the limit, without the interval's interpolation. `noise` with `runs`: how the quantity moves from run to run, for
    the values of `runs` runs together; PASS then needs the limit / exp(margin), FAIL the limit · exp(margin). Without
    `noise` the verdict is about this run and says nothing about the next. `design`: see `design_effect`.
    Raises NotMeasured without values, ValueError for values that aren't finite.
    """
    array = _checked(values)
    n, tail = len(array), (1 - level) / 2
    figure = float(np.quantile(array, _share(q)))
    interval = quantile_interval(array, q, level, design=design)
    over = int((array > limit).sum())
    told = f"{over} of {n} requests beyond the limit"
    if mode == "point":
        verdict: Verdict = "PASS" if figure <= limit else "FAIL"
        return Judgement(verdict, figure, limit, n, over, interval, None, told)
    if mode != "confident":
        raise ValueError(f"mode={mode!r}: point or confident was expected")
    margin = noise.margin(runs, level) if noise else 0.0
    beyond, within = array > limit * math.exp(margin), array > limit * math.exp(-margin)
    share_beyond, share_within = float(beyond.mean()), float(within.mean())
    design = max(design, 1.0)

    def fails(total: float) -> bool:
        return clearly_over(share_beyond * total / design, total / design, 1 - q, tail)

    def passes(total: float) -> bool:
        return clearly_under(share_within * total / design, total / design, 1 - q, tail)

    told += f", {1 - q:.3g} of them allowed"
    if noise:
        told += f"; run-to-run noise {noise.sd:.1%} ({noise.source}): margin {math.expm1(margin):.1%}, runs: {runs}"
    if fails(n):
        return Judgement("FAIL", figure, limit, n, over, interval, None, told)
    if passes(n):
        return Judgement("PASS", figure, limit, n, over, interval, None, told)
    enough = None
    if share_beyond > 1 - q or share_within < 1 - q:
        enough = _first(lambda total: fails(total) or passes(total), n)
    more = None if enough is None else enough - n
    advice = f"about {more} more would decide" if more else "no number of requests would decide at this margin"
    return Judgement("INSUFFICIENT", figure, limit, n, over, interval, more, f"{told}: too close to call; {advice}")
