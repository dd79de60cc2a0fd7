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
from bench_tests.verdict.confidence import design_effect

__all__ = ["METRICS", "Metric", "PointRuns", "RunSample", "log_figure", "sample_of_records", "sample_of_summary"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """A figure that is compared."""

    name: str
    quantity: str  # "ttft" or "tpot": a quantile of that; "output_throughput": the run's rate
    q: float | None
    higher_is_better: bool = False
    weight: float = 1.0  # of a point's question in the error budget: a p99 is too noisy to use a whole part of it


METRICS = {
    metric.name: metric
    for metric in (
        Metric("p99_ttft", "ttft", 0.99, weight=0.25),
        Metric("median_ttft", "ttft", 0.5),
        Metric("p99_tpot", "tpot", 0.99, weight=0.25),
        Metric("median_tpot", "tpot", 0.5),
        Metric("output_throughput", "output_throughput", None, higher_is_better=True),
    )
}


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

    @property
    def summary_only(self) -> bool:
        """Whether the requests themselves are unknown."""
        return self.ttft_s is None and self.tpot_s is None


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
        return RunSample(np.empty(0), np.empty(0), block=block)
    start, end = float(records.send_s[done].min()), float(records.last_s[done].max())
    tokens, events = float(records.output_tokens[done].sum()), float(records.events[done].sum())
    rate = tokens / (end - start) if end > start and tokens > 0 else None
    batches = None
    if rate and events:
        counts = np.histogram(records.event_s[np.repeat(done, records.events)], slices, (start, end))[0]
        batches = (counts * (tokens / events) / ((end - start) / slices))[1:-1]
    return RunSample(records.ttft_s()[done], records.tpot_s()[done], rate, batches, block)


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


def _of_quantile(values: Floats, q: float, block: int) -> tuple[float, float]:
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
    return math.log(figure), var * (design_effect(values, block) if block > 1 else 1.0)


def _of_summary(run: RunSample, metric: Metric) -> tuple[float, float]:
    """A summary figure; its sampling variance as if the requests were lognormal with this median and p99."""
    figure = run.summary.get(metric.name)
    if figure is None or not figure > 0:
        return math.nan, math.nan
    if metric.q is None:
        return math.log(figure), 0.0
    p99, median = run.summary.get(f"p99_{metric.quantity}"), run.summary.get(f"median_{metric.quantity}")
    if not run.n or p99 is None or median is None or not p99 > median > 0:
        return math.log(figure), math.nan
    sigma_squared = (math.log(p99 / median) / 2.3263) ** 2
    # q(1 − q) / φ(z_q)² of a normal logarithm: 1.571 at the median, 13.94 at p99
    return math.log(figure), {0.5: 1.571, 0.99: 13.94}[metric.q] * sigma_squared / run.n


def log_figure(run: RunSample, metric: Metric) -> tuple[float, float]:
    """(ln of the figure, variance of it that the finite number of requests explains); NaN where it isn't known.

    Formula: quantiles: Maritz–Jarrett on the logarithms, times the design effect of `block`. Throughput: variance of
    the slices' mean / mean². Summary-only: 1.571 (median) or 13.94 (p99) · (ln(p99 / median) / 2.326)² / n.
    """
    if run.summary_only:
        return _of_summary(run, metric)
    if metric.q is not None:
        values = run.ttft_s if metric.quantity == "ttft" else run.tpot_s
        return (math.nan, math.nan) if values is None else _of_quantile(values, metric.q, run.block)
    if run.output_throughput is None or not run.output_throughput > 0:
        return math.nan, math.nan
    slices = run.slices_tok_per_s
    var = 0.0
    if slices is not None and len(slices) > 1 and slices.mean() > 0:
        var = float(slices.var(ddof=1) / len(slices) / slices.mean() ** 2)
    return math.log(run.output_throughput), var
