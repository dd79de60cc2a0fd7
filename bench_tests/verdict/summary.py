"""The figures of a run: percentiles, throughput, goodput, steady state.

No figure is made of nothing: what has no values is None, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench_tests.figures import figures_where
from bench_tests.load.records import COMPLETED, KINDS, WITHDRAWN, Records
from bench_tests.verdict.confidence import quantile_interval
from bench_tests.verdict.in_step import in_step

__all__ = ["Window", "figure", "latencies_s", "mean_in_flight", "per_event", "steady_window", "summarize"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """A part of a run, in seconds since its zero."""

    start_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


def latencies_s(records: Records, of: NDArray[np.bool_], from_schedule: bool = False) -> dict[str, Floats]:
    """Each latency of the requests in the mask `of`, seconds; ITL pooled over events, the others a request each. TPOT
    leaves out answers of one token, which have none; TTFAT and thinking time those that never came to the answer. `from_schedule`: TTFT, TTFAT and E2EL are what a user has
    waited who came at the scheduled time, queueing in this client included; in an open loop these are judged.
    """
    tpot = records.tpot_s()[of]
    begin_s = records.scheduled_s if from_schedule else records.send_s
    answered = of & ~np.isnan(records.answer_s)
    return {
        "ttft": (records.first_s - begin_s)[of],
        "tpot": tpot[~np.isnan(tpot)],
        "itl": records.itl_s(of),
        "e2el": (records.last_s - begin_s)[of],
        "ttfat": (records.answer_s - begin_s)[answered],
        "thinking": records.thinking_s()[answered],
    }


def per_event(records: Records) -> dict[str, float | None]:
    """Output tokens per event, and distinct arrival moments per event, of the completed requests; None without events.

    Formula: output tokens / events that carry a token; arrival moments / such events.
    """
    known = records.completed & (records.output_tokens >= 0)
    events, tokens = int(records.events[known].sum()), int(records.output_tokens[known].sum())
    done = records.completed
    every, moments = int(records.events[done].sum()), int(records.moments[done].sum())
    return {
        "tokens_per_event": tokens / events if events else None,
        "arrival_moments_per_event": moments / every if every else None,
    }


def figure(values: Floats, stat: str) -> float | None:
    """`mean`, `median`, `std` or `pNN` (numpy's linear percentile) of the values; None of nothing."""
    if not len(values):
        return None
    if stat == "mean":
        return float(values.mean())
    if stat == "std":
        return float(values.std())
    return float(np.percentile(values, 50 if stat == "median" else float(stat[1:])))


def steady_window(records: Records, conc: int) -> Window | None:
    """The part of the measured run at full concurrency; None when it was never reached or has no length.

    Formula: from the first to the last moment at which `conc` requests are in flight (sent, not ended).
    A request that was refused or lost left at a moment that nobody knows, soon as a rule: it does not count.
    A staggered start is full all the while that measured requests run: from the first one's send to the last one's end.
    """
    if records.continuous:
        sent = records.measured & ~np.isnan(records.send_s)
        if np.isnan(records.end_s[sent]).all():
            return None
        return Window(float(records.send_s[sent].min()), float(np.nanmax(records.end_s[sent])))
    waits = np.isin(records.kind, [KINDS.index("stalled"), KINDS.index("cancelled"), WITHDRAWN])
    sent = records.measured & ~np.isnan(records.send_s) & (waits | ~np.isnan(records.last_s))
    send = records.send_s[sent]
    last = records.end_s[sent]
    last = np.where(np.isnan(last), np.inf, last)  # one that waited in vain stays in flight
    moments = np.concatenate([send, last[~np.isinf(last)]])
    steps = np.concatenate([np.ones(len(send)), -np.ones(int((~np.isinf(last)).sum()))])
    order = np.lexsort((-steps, moments))
    flight = np.cumsum(steps[order])
    full = np.flatnonzero(flight >= conc)
    if not len(full) or full[-1] + 1 >= len(order):
        return None
    window = Window(float(moments[order][full[0]]), float(moments[order][full[-1] + 1]))
    return window if window.duration_s > 0 else None


def mean_in_flight(records: Records, window: Window) -> float:
    """Mean number of requests in flight in a window. Formula: Σ overlap of [send, end] with it / its length."""
    sent = (records.measured | records.continuous) & ~np.isnan(records.send_s)
    end_s = records.end_s
    if records.continuous:  # what kept the loop full was given up when all that is measured had ended
        end_s = np.where(records.kind == KINDS.index("cancelled"), np.inf, end_s)
    sent &= ~np.isnan(end_s)
    overlap = np.minimum(end_s[sent], window.end_s) - np.maximum(records.send_s[sent], window.start_s)
    return float(np.clip(overlap, 0, None).sum() / window.duration_s)


def input_tokens(records: Records) -> NDArray[np.int64]:
    """The server's count of each prompt's tokens, shape (n,); what was sent where it gives none."""
    return np.where(records.input_tokens < 0, records.asked_input, records.input_tokens)


def uncounted(records: Records) -> bool:
    """Whether an answer's tokens are unknown: the server gave no usage, and no tokenizer could count them."""
    return bool((records.output_tokens[records.completed] < 0).any())


def _rates(records: Records, window: Window) -> dict[str, float | None]:
    """Output, input and request throughput in a window, per second: tokens by the moment they arrived, inputs by their
    first token, requests by their end. Each event stands for its share of its answer's tokens; one that was not finished
    has as many an event as the others. Those that kept a staggered loop full count like the measured ones: the server
    worked on them too. Without a count of all tokens there is no output throughput.
    """
    counted = records.completed
    if records.continuous:
        begin_s = np.nanmin(records.send_s[records.measured])
        counted = counted | (~records.measured & ((records.end_s > begin_s) | np.isnan(records.end_s)))
    known = counted & (records.output_tokens > 0) & (records.events > 0)
    usual = records.output_tokens[known].sum() / max(1, records.events[known].sum())
    share = np.where(known, records.output_tokens / np.maximum(records.events, 1), np.where(counted, usual, 0.0))
    in_window = (records.event_s >= window.start_s) & (records.event_s <= window.end_s)
    output = float(np.repeat(share, records.events)[in_window].sum())
    begun = counted & (records.first_s >= window.start_s) & (records.first_s <= window.end_s)
    ended = counted & (records.kind == COMPLETED) & (records.last_s >= window.start_s)
    ended &= records.last_s <= window.end_s
    return {
        "output_throughput": None if uncounted(records) else output / window.duration_s,
        "input_throughput": float(input_tokens(records)[begun].sum() / window.duration_s),
        "request_throughput": float(ended.sum() / window.duration_s),
    }


def _steady(records: Records, conc: int) -> dict[str, Any] | None:
    window = steady_window(records, conc)
    if window is None:
        return None
    inside = records.completed & (records.send_s >= window.start_s) & (records.last_s <= window.end_s)
    rates = _rates(records, window)
    values = latencies_s(records, inside)
    return {
        "start_s": window.start_s,
        "end_s": window.end_s,
        "duration": window.duration_s,
        "completed": int(inside.sum()),
        "mean_in_flight": mean_in_flight(records, window),
        **rates,
        **{f"{stat}_{name}": figure(values[name], stat) for name in ("ttft", "tpot") for stat in ("median", "p99")},
    }


def summarize(
    records: Records, conc: int, goodput_s: Mapping[str, float] | None = None, block: int = 1
) -> dict[str, Any]:
    """All figures of a run under the names that result files use: times in seconds, throughputs per second.

    Formula: duration = last arrival − first send; input/output throughput = tokens of completed requests / duration;
    request throughput = completed / duration; goodput = requests within all their limits / duration. `block`: how many
    requests went through the server together (a closed loop's concurrency), for `ci95`. Of a staggered start all figures are
    of its measured requests, which are the steady state's, and the throughputs those of the server while they ran.
    """
    done = records.completed
    sent = records.measured & ~np.isnan(records.send_s)
    duration = None
    if sent.any() and not np.all(np.isnan(records.last_s[sent])):
        duration = float(np.nanmax(records.last_s[sent]) - records.send_s[sent].min())
    completed, measured = int(done.sum()), int(records.measured.sum())
    total_input = int(input_tokens(records)[done].sum())
    total_output = None if uncounted(records) else int(records.output_tokens[done].sum())

    def per_second(amount: float | None) -> float | None:
        return amount / duration if amount is not None and duration and completed else None

    rates: dict[str, float | None] = {
        "request_throughput": per_second(completed),
        "input_throughput": per_second(total_input),
        "output_throughput": per_second(total_output),
    }
    window = steady_window(records, conc) if records.continuous and completed else None
    if window is not None:
        rates |= _rates(records, window)
    values = latencies_s(records, done)
    good = _good(records, goodput_s) if goodput_s else None
    queue, waited = records.queue_s()[done], latencies_s(records, done, from_schedule=True)
    connect = records.connect_s[done & (records.connect_s > 0)]
    withdrawn = int((records.measured & (records.kind == WITHDRAWN)).sum())
    failed = records.kind[records.measured & ~np.isin(records.kind, [COMPLETED, WITHDRAWN])]
    return {
        "duration": duration,
        "completed": completed,
        "failed": measured - completed - withdrawn,
        "cancelled_on_purpose": withdrawn,
        "good_completed": good,
        "total_input": total_input,
        "total_input_tokens": total_input,
        "total_output": total_output,
        "total_output_tokens": total_output,
        "total_reasoning_tokens": _reasoning_tokens(records),
        **rates,
        "request_goodput": _part(rates["request_throughput"], good, completed),
        "total_token_throughput": _sum(rates["input_throughput"], rates["output_throughput"]),
        **{row.name: figure(values[row.latency], row.statistic) for row in figures_where(of="request")},
        "p99_queue_time": figure(queue, "p99") if records.open_loop else None,
        "p99_connect_time": figure(connect, "p99"),
        # with a request rate: what a user who came at the scheduled time has waited, our queue included
        "p99_ttft_from_schedule": figure(waited["ttft"], "p99") if records.open_loop else None,
        "p99_e2el_from_schedule": figure(waited["e2el"], "p99") if records.open_loop else None,
        **per_event(records),
        "mean_itl_per_token": _per_token(records),
        "in_step": None if records.open_loop else in_step(records),
        "ci95": {row.name: _interval(values, row.name, block) for row in figures_where(interval=True)},
        "steady_state": _steady(records, conc) if conc else None,
        "errors": {KINDS[kind]: int((failed == kind).sum()) for kind in sorted(set(failed.tolist()))},
        "error_examples": sorted(set(records.error[records.measured & (records.error != "")].tolist()))[:5],
    }


def _reasoning_tokens(records: Records) -> int | None:
    """Tokens of thinking in all completed answers, by their usage; None where an answer's says nothing of them."""
    said = records.reasoning_tokens[records.completed]
    return int(said.sum()) if len(said) and (said >= 0).all() else None


def _per_token(records: Records) -> float | None:
    """Seconds between two tokens, events being what they are. Formula: Σ (last − first) / Σ (output tokens − 1), of the
    completed requests of more than one token.
    """
    of = records.completed & (records.output_tokens > 1)
    if not of.any() or uncounted(records):
        return None
    return float((records.last_s - records.first_s)[of].sum() / (records.output_tokens[of] - 1).sum())


def _part(rate: float | None, good: int | None, of: int) -> float | None:
    return None if rate is None or good is None else rate * good / of


def _sum(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b


def _interval(values: Mapping[str, Floats], metric: str, block: int) -> list[float | None] | None:
    stat, _, name = metric.partition("_")
    if not len(values[name]):
        return None
    q = 0.5 if stat == "median" else float(stat[1:]) / 100
    return quantile_interval(values[name], q, block=block).as_pair()


def _good(records: Records, limits_s: Mapping[str, float]) -> int:
    """Completed requests within all their limits, which count from the scheduled time in an open loop. An answer of one
    token has no TPOT to break.
    """
    good = records.completed.copy()
    begin_s = records.scheduled_s if records.open_loop else records.send_s
    of = {"ttft": records.first_s - begin_s, "tpot": records.tpot_s(), "e2el": records.last_s - begin_s}
    of["ttfat"] = np.nan_to_num(records.answer_s - begin_s, nan=np.inf)  # an answer that never began is within no limit
    for name, limit in limits_s.items():
        good &= ~(of[name] > limit)
    return int(good.sum())
