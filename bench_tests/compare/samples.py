"""One run of a sweep point as a comparison sees it: a figure on the log scale, and how well n requests know it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench_tests.load.records import Records

__all__ = [
    "METRICS",
    "Metric",
    "Origin",
    "PointRuns",
    "RunSample",
    "log_figure",
    "sample_of_records",
    "sample_of_summary",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """A figure that is compared."""

    name: str
    quantity: str  # "ttft", "tpot", "e2el": a statistic of that; "output_throughput": the run's rate
    q: float | None  # which quantile; None: the mean
    higher_is_better: bool = False
    weight: float = 1.0  # of a point's question in the error budget: a p99 is too noisy to use a whole part of it

    @property
    def tail(self) -> bool:
        """Whether a few requests make it: skewed, and little known of one point."""
        return self.q is not None and self.q > 0.5


METRICS = {
    metric.name: metric
    for metric in (
        Metric("p99_ttft", "ttft", 0.99, weight=0.05),
        Metric("p90_ttft", "ttft", 0.9, weight=0.05),
        Metric("median_ttft", "ttft", 0.5),
        Metric("mean_ttft", "ttft", None),
        Metric("p99_tpot", "tpot", 0.99, weight=0.05),
        Metric("median_tpot", "tpot", 0.5),
        Metric("mean_tpot", "tpot", None),
        Metric("p99_e2el", "e2el", 0.99, weight=0.05),
        Metric("mean_e2el", "e2el", None),
        Metric("output_throughput", "output_throughput", None, higher_is_better=True, weight=0.25),
    )
}


@dataclass(frozen=True)
class Origin:
    """Where a run comes from: what it shares with other runs, and what explains a difference that is nobody's fault."""

    session: str = ""  # one start of pytest
    start: str = ""  # one start of the server; "": not known
    day: float | None = None  # days since 1970 of its beginning
    node: str = ""
    version: str = ""
    in_step: float | None = None  # order parameter of the streams in flight, 0 to 1
    tokens_per_event: float | None = None


@dataclass(frozen=True)
class RunSample:
    """What one run of a point gives: its completed requests, or only the summary figures of an older file.

    With arrays, `summary` is not looked at. Without, it holds METRICS' names in seconds and tok/s, and `n` says of how
    many completed requests.
    """

    ttft_s: Floats | None = None  # completed requests in the order of sending, shape (n,)
    tpot_s: Floats | None = None  # likewise; NaN (one token) is left out
    output_throughput: float | None = None  # tok/s
    slices_tok_per_s: Floats | None = None  # throughput of equal slices of the run: its batch means
    block: int = 1  # requests that go through the engine together: the concurrency
    summary: Mapping[str, float] = field(default_factory=dict)
    n: int = 0
    e2el_s: Floats | None = None  # likewise
    origin: Origin = Origin()

    @property
    def summary_only(self) -> bool:
        """Whether the requests themselves are unknown."""
        return self.ttft_s is None and self.tpot_s is None and self.e2el_s is None

    def values(self, quantity: str) -> Floats | None:
        """The requests' latencies of a quantity, seconds; None where they are not known."""
        return {"ttft": self.ttft_s, "tpot": self.tpot_s, "e2el": self.e2el_s}.get(quantity)


@dataclass(frozen=True)
class PointRuns:
    """All runs of one point, in the order of the rounds: run k of every point belongs to round k of the sweep."""

    key: Hashable
    runs: Sequence[RunSample]


def sample_of_records(records: Records, block: int = 1, slices: int = 10) -> RunSample:
    """The completed requests of a run, in the order of sending, as a comparison reads them.

    `block`: the concurrency of a closed loop, 1 otherwise. Formula: output throughput = output tokens / (last arrival −
    first send); its batch means: events in equal slices of that time, in tokens, without the first and the last slice,
    where the run fills and drains.
    """
    done = records.completed
    if not done.any():
        return RunSample(np.empty(0), np.empty(0), block=block, e2el_s=np.empty(0))
    start, end = float(records.send_s[done].min()), float(records.last_s[done].max())
    tokens, events = float(records.output_tokens[done].sum()), float(records.events[done].sum())
    rate = tokens / (end - start) if end > start and tokens > 0 else None
    batches = None
    if rate and events:
        counts = np.histogram(records.event_s[np.repeat(done, records.events)], slices, (start, end))[0]
        batches = (counts * (tokens / events) / ((end - start) / slices))[1:-1]
    return RunSample(
        records.ttft_s()[done], records.tpot_s()[done], rate, batches, block, e2el_s=records.e2el_s()[done]
    )


def sample_of_summary(result: Mapping[str, Any]) -> RunSample:
    """What a result file without records gives: its summary keys (seconds, tok/s) and the number of completed requests.

    Keys that are missing, null or not positive are left out; `num_prompts` stands in for a missing `completed`.
    """
    summary = {name: float(result[name]) for name in METRICS
               if isinstance(result.get(name), (int, float)) and result[name] > 0}  # fmt: skip
    return RunSample(summary=summary, n=int(result.get("completed") or result.get("num_prompts") or 0))


@lru_cache(maxsize=512)
def _weights(n: int, q: float) -> Floats:
    """Share of bootstrap samples whose q-quantile is the i-th order statistic, shape (n,) (Maritz & Jarrett 1978)."""
    from scipy.special import betainc

    k = min(max(q * (n - 1) + 1, 1.0), float(n))  # numpy's linear percentile is the k-th of n
    return np.diff(betainc(k, n + 1 - k, np.arange(n + 1) / n))


def _of_quantile(values: Floats, q: float) -> tuple[float, float]:
    values = values[~np.isnan(values)]
    n = len(values)
    if not n:
        return math.nan, math.nan
    ordered = np.sort(values)
    if ordered[0] <= 0:
        return math.nan, math.nan
    place = q * (n - 1)
    below = int(place)
    figure = ordered[below] + (place - below) * (ordered[min(below + 1, n - 1)] - ordered[below])
    if n < 2:
        return math.log(figure), math.nan
    logs, weights = np.log(ordered), _weights(n, q)
    centre = float(weights @ logs)
    var = max(0.0, float(weights @ (logs - centre) ** 2))
    return math.log(figure), var


def _of_mean(values: Floats, block: int) -> tuple[float, float]:
    values = values[~np.isnan(values)]
    n = len(values)
    mean = float(values.mean()) if n else math.nan
    if not mean > 0:
        return math.nan, math.nan
    waves = values[: n // block * block].reshape(-1, block).mean(axis=1) if 1 < block <= n // 4 else values
    var = float(waves.var(ddof=1)) / len(waves) / mean**2 if n > 1 else math.nan
    return math.log(mean), var


def _of_summary(run: RunSample, metric: Metric) -> tuple[float, float]:
    """A summary figure; its sampling variance as if the requests were lognormal with this median and p99."""
    figure = run.summary.get(metric.name)
    if figure is None or not figure > 0:
        return math.nan, math.nan
    if metric.quantity == "output_throughput":
        return math.log(figure), 0.0
    p99, median = run.summary.get(f"p99_{metric.quantity}"), run.summary.get(f"median_{metric.quantity}")
    if not run.n or p99 is None or median is None or not p99 > median > 0:
        return math.log(figure), math.nan
    sigma_squared = (math.log(p99 / median) / 2.3263) ** 2
    # q(1 − q) / φ(z_q)² of a normal logarithm: 1.571 at the median, 2.922 at p90, 13.94 at p99; 1 of the mean
    factor = {None: 1.0, 0.5: 1.571, 0.9: 2.922, 0.99: 13.94}[metric.q]
    return math.log(figure), factor * sigma_squared / run.n


def log_figure(run: RunSample, metric: Metric) -> tuple[float, float]:
    """(ln of the figure, variance of it that the finite number of requests explains); NaN where it isn't known.

    Formula: quantiles: Maritz–Jarrett on the logarithms; means: the variance of the means of
    `block` requests, which go through the engine together, / their number / mean². Throughput: variance of the slices' mean / mean². Summary-only: 1 (mean), 1.571 (median), 2.922 (p90) or
    13.94 (p99) · (ln(p99 / median) / 2.326)² / n.
    """
    if run.summary_only:
        return _of_summary(run, metric)
    if metric.quantity != "output_throughput":
        values = run.values(metric.quantity)
        if values is None:
            return math.nan, math.nan
        return _of_mean(values, run.block) if metric.q is None else _of_quantile(values, metric.q)
    if run.output_throughput is None or not run.output_throughput > 0:
        return math.nan, math.nan
    slices = run.slices_tok_per_s
    var = 0.0
    if slices is not None and len(slices) > 1 and slices.mean() > 0:
        var = float(slices.var(ddof=1) / len(slices) / slices.mean() ** 2)
    return math.log(run.output_throughput), var
