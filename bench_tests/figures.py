"""The one table of figures: what a result can say in numbers. A new figure is a row here.

Summary, objectives, checks, comparison, tables, pictures and docs follow it. Imports nothing of this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["ECONOMY", "FIGURES", "LATENCIES", "Figure", "Latency", "figures_where", "key_of", "label_of"]


@dataclass(frozen=True)
class Latency:
    """A time that each request has (ITL: each gap between events), seconds; fewer are better.

    `needs_usage`: it is counted in tokens, which the server's `usage` says. `chat`: only a chat's events tell it.
    """

    name: str
    label: str
    needs_usage: bool = False
    chat: bool = False


LATENCIES: Mapping[str, Latency] = {
    latency.name: latency
    for latency in (
        Latency("ttft", "TTFT"),
        Latency("tpot", "TPOT", needs_usage=True),
        Latency("itl", "ITL"),
        Latency("e2el", "E2EL"),
        Latency("ttfat", "TTFAT", chat=True),
        Latency("thinking", "thinking time", chat=True),
    )
}


@dataclass(frozen=True)
class Figure:
    """One figure of a result.

    `name`: its key in a result file. `unit`: `s`, `tok/s`, `req/s`, `tokens`, `requests`. `of`: a statistic over requests, or
    a figure of the whole run. `better`: which way is better, `""` where neither is. `latency`, `statistic`: of which time,
    which statistic (`mean`, `median`, `std`, `pNN`). `interval`: it has a 95 % interval in `ci95`. `column`: its heading in
    the terminal's table. `compared`: it is drawn where runs are compared. `headline`: what a reader relies on where nothing is
    asserted.
    """

    name: str
    label: str
    unit: str
    of: Literal["request", "run"]
    better: Literal["up", "down", ""] = ""
    latency: str = ""
    statistic: str = ""
    needs_usage: bool = False
    interval: bool = False
    column: str = ""
    compared: bool = False
    headline: bool = False

    @property
    def quantile(self) -> float | None:
        """The quantile in 0 to 1; None for a mean, a deviation, and a figure of the run."""
        if self.statistic == "median":
            return 0.5
        return float(self.statistic[1:]) / 100 if self.statistic.startswith("p") else None


def _time(statistic: str, latency: str, *, interval: bool = False, column: str = "", headline: bool = False) -> Figure:
    """A statistic of a latency."""
    of = LATENCIES[latency]
    better: Literal["down", ""] = "" if statistic == "std" else "down"
    return Figure(
        f"{statistic}_{latency}",
        f"{statistic} {of.label}",
        "s",
        "request",
        better,
        latency,
        statistic,
        of.needs_usage,
        interval,
        column,
        compared=headline,
        headline=headline,
    )


def _run(name: str, label: str, unit: str, better: Literal["up", "down", ""] = "", *, needs_usage: bool = False,
         column: str = "", compared: bool = False) -> Figure:  # fmt: skip
    """A figure of the whole run."""
    return Figure(name, label, unit, "run", better, needs_usage=needs_usage, column=column, compared=compared)


_STATISTICS = ("mean", "median", "std", "p90", "p95", "p99")

FIGURES: Mapping[str, Figure] = {
    row.name: row
    for row in (
        _time("mean", "ttft"),
        _time("median", "ttft", interval=True, column="TTFT p50"),
        _time("std", "ttft"),
        _time("p90", "ttft"),
        _time("p95", "ttft"),
        _time("p99", "ttft", interval=True, column="TTFT p99", headline=True),
        _time("mean", "tpot"),
        _time("median", "tpot", interval=True, column="TPOT p50"),
        _time("std", "tpot"),
        _time("p90", "tpot"),
        _time("p95", "tpot"),
        _time("p99", "tpot", interval=True, column="TPOT p99", headline=True),
        _time("mean", "itl"),
        _time("median", "itl"),
        _time("std", "itl"),
        _time("p90", "itl"),
        _time("p95", "itl"),
        _time("p99", "itl"),
        _time("mean", "e2el"),
        _time("median", "e2el", interval=True),
        _time("std", "e2el"),
        _time("p90", "e2el"),
        _time("p95", "e2el"),
        _time("p99", "e2el", interval=True),
        *(
            _time(
                statistic, "ttfat", interval=statistic in ("median", "p99"), column="TTFAT p99" * (statistic == "p99")
            )
            for statistic in _STATISTICS
        ),
        *(_time(statistic, "thinking") for statistic in _STATISTICS),
        _run("input_throughput", "input throughput", "tok/s", "up", column="in"),
        _run("output_throughput", "output throughput", "tok/s", "up", needs_usage=True, column="out", compared=True),
        _run("total_token_throughput", "total throughput", "tok/s", "up", needs_usage=True),
        _run("request_throughput", "request throughput", "req/s", "up"),
        _run("request_goodput", "goodput", "req/s", "up"),
        _run("duration", "duration", "s"),
        _run("completed", "completed", "requests"),
        _run("failed", "failed", "requests", "down"),
        _run("good_completed", "within all limits", "requests", "up"),
        _run("total_input", "input tokens", "tokens"),
        _run("total_input_tokens", "input tokens", "tokens"),
        _run("total_output", "output tokens", "tokens", needs_usage=True),
        _run("total_output_tokens", "output tokens", "tokens", needs_usage=True),
        _run("total_reasoning_tokens", "reasoning tokens", "tokens", needs_usage=True),
        _run("p99_queue_time", "p99 time in line", "s", "down"),
        _run("p99_connect_time", "p99 connect time", "s", "down"),
        _run("p99_ttft_from_schedule", "p99 TTFT from schedule", "s", "down"),
        _run("p99_e2el_from_schedule", "p99 E2EL from schedule", "s", "down"),
        # the mean TTFT in its parts, by the server's own counters
        _run("mean_ttft_server", "mean TTFT by the server", "s", "down"),
        _run("mean_ttft_client_and_network", "mean TTFT, client − server", "s", "down"),
        _run("mean_ttft_front", "mean TTFT in the server's front", "s", "down"),
        _run("mean_ttft_queue", "mean TTFT in the server's queue", "s", "down"),
        _run("mean_ttft_prefill", "mean TTFT in prefill", "s", "down"),
        _run("acceptance_length", "tokens a step (speculative)", "tokens", "up"),
        _run("acceptance_rate", "drafted tokens accepted", "", "up"),
        _run("mean_itl_per_token", "mean ITL a token", "s", "down", needs_usage=True),
        # what it took ([power], [cost])
        _run("energy_j", "GPU energy", "J", "down"),
        _run("avg_power_w", "average GPU power", "W", "down"),
        _run("j_per_output_token", "energy an output token", "J", "down", needs_usage=True, column="J/out tok"),
        _run("j_per_input_token", "energy an input token", "J", "down"),
        _run("j_per_total_token", "energy a token", "J", "down", needs_usage=True),
        _run("cost_per_million_output", "cost of a million output tokens", "", "down", needs_usage=True),
        _run("cost_per_million_input", "cost of a million input tokens", "", "down"),
        _run("cost_per_million_total", "cost of a million tokens", "", "down", needs_usage=True, column="cost/Mtok"),
    )
}


#: figures of a run that an objective may be about, and that a run without [power] and [cost] does not have
ECONOMY = tuple(name for name in FIGURES if name.startswith(("energy_", "avg_power_", "j_per_", "cost_per_")))


def figures_where(
    *,
    of: str | None = None,
    interval: bool | None = None,
    column: bool | None = None,
    compared: bool | None = None,
    headline: bool | None = None,
) -> tuple[Figure, ...]:
    """The rows for which all that is asked holds, in the table's order."""
    asked = (("of", of), ("interval", interval), ("compared", compared), ("headline", headline))
    return tuple(
        row
        for row in FIGURES.values()
        if all(value is None or getattr(row, name) == value for name, value in asked)
        and (column is None or bool(row.column) == column)
    )


def key_of(metric: str) -> str:
    """The key that results have for a metric: `p50_ttft` is `median_ttft` there."""
    return metric.replace("p50_", "median_", 1) if metric.startswith("p50_") else metric


def label_of(metric: str) -> str:
    """`p99 TTFT` for `p99_ttft`, also for a percentile that has no row: `p97 TTFT` for `p97_ttft`."""
    row = FIGURES.get(metric)
    if row is not None:
        return row.label
    statistic, _, latency = metric.rpartition("_")
    return f"{statistic} {LATENCIES[latency].label}" if latency in LATENCIES else metric.replace("_", " ")
