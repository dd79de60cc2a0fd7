"""What a percentile of n requests is worth: its interval, and whether it decides an objective.

Order statistics need no model of the latencies: how many of n requests lie beyond the true p99 is binomial, whatever
the distribution. That holds for requests that are independent of each other. Requests of one wave aren't: pass the `block`
that goes through the server together, and what they share is taken from them (`dependence`), at the quantile judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench_tests.errors import NotMeasured
from bench_tests.verdict.counts import Verdict, shared, verdict_of_counts
from bench_tests.verdict.dependence import INDEPENDENT, count_at, dependence
from bench_tests.verdict.noise import RunNoise

__all__ = ["Interval", "Judgement", "Verdict", "design_effect", "fewest_requests", "judge", "mean_interval",
           "quantile_interval"]  # fmt: skip

Floats = NDArray[np.float64]
MOST_REQUESTS = 100_000  # "how many more would decide" beyond this is no advice


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


def quantile_interval(values: ArrayLike, q: float, level: float = 0.95, *, block: int | None = None) -> Interval:
    """Distribution-free interval of the q-quantile of `values` (shape (n,)), from order statistics.

    Formula: [X_(k), X_(m)] with I_q(k, n+1−k) = 1 − (1−level)/2 and I_q(m, n+1−m) = (1−level)/2, fractional k and m
    interpolated (Hutson, Ann. Inst. Statist. Math. 51, 1999), which keeps the coverage near the level where whole
    order statistics would overshoot. With fewer than `fewest_requests(q)` values one end does not exist: it is
    infinite, and the other end alone has the whole level.
    `block`: the values are in the order of sending and so many of them go through the server together: I is then the
    distribution of how many of n lie beyond the quantile when they share what `dependence` finds. None: independent, in
    any order.
    Raises NotMeasured without values, ValueError for values that aren't finite.
    """
    array = _checked(values)
    ordered, n, tail = np.sort(array), len(array), (1 - level) / 2
    share = 1 - _share(q)
    of = dependence(array, q, block) if block else INDEPENDENT

    def lower(beta: float) -> float | None:
        if of.icc <= 0:
            return _position(n, q, 1 - beta)
        count = count_at(n, share, of, beta, upper=True)
        return None if count is None or count > n else n + 1 - count

    def upper(beta: float) -> float | None:
        if of.icc <= 0:
            return _position(n, q, beta)
        count = count_at(n, share, of, beta, upper=False)
        return None if count is None or count >= n else n - count

    method = "order statistics" if of.icc <= 0 else f"order statistics, {n} requests worth {n / of.design:.0f}"
    low, high = lower(tail), upper(tail)
    if low is None or high is None:
        low, high = (lower(1 - level), None) if high is None else (None, upper(1 - level))
        method += f"; one-sided: n={n} is too few for both bounds"
        if of.icc <= 0:
            method += f", from n={fewest_requests(q, level)} on there are two"
    return Interval(
        _at(ordered, low, n) if low is not None else -math.inf,
        _at(ordered, high, n) if high is not None else math.inf,
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


def _first(decides: Callable[[int], bool], start: int) -> int | None:
    """The smallest n > start at which `decides(n)`, by doubling and halving; None when MOST_REQUESTS do not."""
    low, high = start, max(start + 1, 2)
    while not decides(high):
        low, high = high, high * 2
        if high > MOST_REQUESTS:
            return None
    while high - low > max(1, start // 50):
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
    block: int | None = None,
    noise: RunNoise | None = None,
    runs: int = 1,
) -> Judgement:
    """Hold the q-quantile of `values` (shape (n,), the unit of `limit`) against its limit (an upper one).

    "point": numpy's linear percentile ≤ limit is PASS, else FAIL. "confident": the exact test of the number of requests
    over the limit against the share 1 − q, each error at (1 − level)/2: PASS when so few are clearly fewer, FAIL when
    so many are clearly more, else INSUFFICIENT.
    `block`: the values are in the order of sending, and so many go through the server together: the count's
    distribution is that of requests which share what `counts.shared` finds. None: they are independent.
    `noise` with `runs`: how the quantity was measured to move from run to run, for the values of `runs` runs together;
    PASS then needs the limit / exp(margin), FAIL the limit · exp(margin). Without it the verdict is about this load of
    this start of the server and says nothing about the next.
    Raises NotMeasured without values, ValueError for values that aren't finite.
    """
    array = _checked(values)
    n, tail, share = len(array), (1 - level) / 2, 1 - _share(q)
    figure = float(np.quantile(array, q))
    interval = quantile_interval(array, q, level, block=block)
    over = int((array > limit).sum())
    told = f"{over} of {n} requests beyond the limit"
    if mode == "point":
        verdict: Verdict = "PASS" if figure <= limit else "FAIL"
        return Judgement(verdict, figure, limit, n, over, interval, None, told)
    if mode != "confident":
        raise ValueError(f"mode={mode!r}: point or confident was expected")
    margin = noise.margin(runs, level) if noise else 0.0
    what = shared(array, q, limit, block, limit * math.exp(-margin))
    beyond = float((array > limit * math.exp(margin)).sum())
    within = float((array > limit * math.exp(-margin)).sum())
    told += f", {share:.3g} of them allowed"
    if (design := (what.of if beyond > n * share else what.careful).design) > 1:
        told += f"; {n} requests that share their waves are worth {n / design:.0f}"
    if noise:
        told += f"; from run to run {noise.sd:.1%} ({noise.source}): margin {math.expm1(margin):.1%}, runs: {runs}"

    def decided(total: int) -> Verdict:
        return verdict_of_counts(within * total / n, beyond * total / n, total, share, tail, what)

    verdict = decided(n)
    if verdict != "INSUFFICIENT":
        return Judgement(verdict, figure, limit, n, over, interval, None, told)
    enough = None
    if beyond / n > share or within / n < share:
        enough = _first(lambda total: decided(total) != "INSUFFICIENT", n)
    more = None if enough is None else enough - n
    advice = f"about {more} more would decide" if more else f"not even {MOST_REQUESTS:,} would decide"
    return Judgement("INSUFFICIENT", figure, limit, n, over, interval, more, f"{told}: too close to call; {advice}")
