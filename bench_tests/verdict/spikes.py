"""Stretches in which TTFT was high, and what the server's counters say of them: preemption, a full cache, a queue, prefill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench_tests.load.records import Records
from bench_tests.sweep.units import format_s

__all__ = ["Spike", "spike_words", "spikes"]

TIMES = 2.0  # the median TTFT; a request above it, ...
ABOVE_S = 0.05  # ... and by so much, belongs to a spike
FULL = 0.9  # KV cache usage from which a queue is for want of space in it
MOST = 20

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Spike:
    """Requests that waited at one time. Seconds since the run's zero; `cause` is "" where no counter tells one."""

    start_s: float  # the first one's send
    end_s: float  # the last one's first token
    requests: int
    worst_ttft_s: float
    cause: str = ""


def spikes(records: Records, series: Mapping[str, ArrayLike]) -> list[Spike]:
    """The spikes of the measured part, the worst first, at most 20. `series` as a result's `server_side.series` has them."""
    of = records.measured & ~np.isnan(records.first_s)
    if not of.any():
        return []
    send, first = records.send_s[of], records.first_s[of]
    ttft = first - send
    usual = float(np.median(ttft))
    slow = np.flatnonzero(ttft > max(TIMES * usual, usual + ABOVE_S))
    slow = slow[np.argsort(send[slow], kind="stable")]
    groups: list[list[int]] = []
    end = -np.inf
    for row in slow.tolist():
        if send[row] <= end:
            groups[-1].append(row)
        else:
            groups.append([row])
        end = max(end, float(first[row])) if send[row] <= end else float(first[row])
    own = float(np.median(records.asked_input[of]))
    columns = {name: np.asarray(values, float) for name, values in series.items()}
    found = []
    for rows in groups:
        start, stop = float(send[rows[0]]), float(first[rows].max())
        found.append(Spike(start, stop, len(rows), float(ttft[rows].max()), _cause(columns, start, stop, own)))
    return sorted(found, key=lambda spike: -spike.worst_ttft_s)[:MOST]


def _cause(series: Mapping[str, Floats], start_s: float, end_s: float, own_tokens: float) -> str:
    """What the readings around a stretch say; the rarer cause comes first, since it explains the commoner."""
    t = series.get("t_s", np.empty(0))
    if len(t) < 2 or t[-1] < start_s:
        return ""
    low = max(0, int(np.searchsorted(t, start_s, "right")) - 1)
    high = min(len(t) - 1, int(np.searchsorted(t, end_s, "left")))
    inside = slice(low, high + 1)

    def most(name: str) -> float:
        return float(series[name][inside].max()) if name in series else 0.0

    def counted(name: str) -> float:
        return float(series[name][high] - series[name][low]) if name in series else 0.0

    cache, waiting, preempted = most("kv_cache"), most("waiting"), counted("preemptions")
    if preempted > 0:
        usage = f", KV cache {cache:.0%} full" if cache else ""
        return f"{preempted:,.0f} preempted{usage}, up to {waiting:,.0f} waiting"
    if waiting > 0 and cache >= FULL:
        return f"KV cache {cache:.0%} full, up to {waiting:,.0f} waiting"
    if waiting > 0:
        return f"up to {waiting:,.0f} waiting while {most('running'):,.0f} ran"
    others = (counted("prompt_tokens") or counted("computed_tokens")) - own_tokens
    if others > own_tokens:
        return f"prefill of others: {others:,.0f} prompt tokens meanwhile"
    return ""


def spike_words(found: list[Spike]) -> str:
    """`TTFT spikes: 3, the worst 4.964 s (7 requests, from 14.2 s on): 13 preempted, ...`; "" without any."""
    if not found:
        return ""
    worst = found[0]
    cause = worst.cause or "no counter of the server tells why"
    many = f"{worst.requests:,d} request{'s' * (worst.requests != 1)}"
    return f"TTFT spikes: {len(found)}, the worst {format_s(worst.worst_ttft_s)} ({many}, from {worst.start_s:.1f} s on): {cause}"
