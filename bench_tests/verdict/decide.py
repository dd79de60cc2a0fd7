"""The verdict of a point: PASSED, FAILED or ERROR, and in which words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from bench_tests.figures import FIGURES, LATENCIES, label_of
from bench_tests.load.records import Records
from bench_tests.sweep.slo import Objective
from bench_tests.sweep.units import format_apart, format_range, format_s
from bench_tests.verdict.confidence import Judgement, judge
from bench_tests.verdict.locked import judged_in_step
from bench_tests.verdict.repeats import Repeats, after_the_burst, start_burst
from bench_tests.verdict.summary import figure, latencies_s
from bench_tests.verdict.validity import Check
from bench_tests.verdict.waves import wave_words

__all__ = ["ERROR", "FAILED", "PASSED", "Verdict", "decide"]

Floats = NDArray[np.float64]
PASSED, FAILED, ERROR = "PASSED", "FAILED", "ERROR"


@dataclass(frozen=True)
class Verdict:
    """One of PASSED, FAILED, ERROR, with the reasons for a person; the reasons of a pass are what held."""

    word: str
    messages: tuple[str, ...] = ()
    open: bool = False  # an ERROR for this alone: the requests do not decide it, and the figures are right


def decide(
    records: Records,
    objectives: Sequence[Objective],
    mode: str,
    checks: Sequence[Check],
    early: Mapping[str, str] | None = None,
    block: int = 1,
    repeats: Repeats | None = None,
    figures: Mapping[str, float | None] | None = None,
    level: float = 0.95,
) -> Verdict:
    """Judge a run. What is not valid is an ERROR whatever its figures; without objectives what is measured passes.

    `block`: how many requests went through the server together; what they share makes n worth less.
    `level`: 1 less both errors of a confident verdict.
    `early`: metric → PASS, FAIL or INSUFFICIENT of a sequential run, which must not be judged a second time.
    In an open loop TTFT, TTFAT and E2EL are judged from the scheduled time: that is what a user waits.
    `repeats`: this run among those of its point; percentiles in confident mode are held against their limits once, by
    the last run, with the requests of all of them.
    Confident mode leaves out the start burst and speaks of this load of this start of the server: what differs from
    run to run is allowed for where repeats have measured it, and nowhere assumed.
    """
    doubts = [check.text or check.name for check in checks if not check.ok]
    if doubts:
        return Verdict(ERROR, tuple(doubts))
    confident = mode == "confident"
    of = records.completed
    burst = start_burst(records, block) if confident else 0
    if burst:
        of = of & after_the_burst(records, burst)
    values = latencies_s(records, of, from_schedule=records.open_loop)
    means = latencies_s(records, records.completed, from_schedule=records.open_loop) if burst else values
    sent = latencies_s(records, records.completed)
    failed: list[str] = []
    unclear: list[str] = []
    held: list[str] = []
    left_open = 0
    for objective in objectives:
        name = objective.latency
        if not name:  # a figure of the whole run
            value = (figures or {}).get(objective.metric)
            if value is None:
                unclear.append(f"{objective}: not known ([power] and [cost] say where from)")
            else:
                (held if value <= objective.limit_s else failed).append(_amount_words(objective, value))
            continue
        if not len(values[name]):
            unclear.append(f"{objective}: no request has a {LATENCIES[name].label} (one token each?)")
            continue
        quantile = objective.quantile
        if quantile is None:
            mean = figure(means[name], "mean") or 0.0
            (held if mean <= objective.limit_s else failed).append(
                _mean_words(objective, mean, len(means[name])) + _from_send(objective, sent) * records.open_loop
            )
            continue
        if confident and early is None and repeats is not None and not repeats.last:
            held.append(f"{objective}: held against all {repeats.planned} runs together, by the last of them")
            continue
        judged = _judge(
            objective, quantile, values[name], int(of.sum()), mode, block, repeats if early is None else None
        )
        notes = []
        if burst:
            notes.append(f"start burst of {burst} left out")
        if confident and early is None and repeats is not None:
            notes.append(f"{len(repeats.earlier) + 1} runs together")
        words = _words(objective, judged, notes) + _from_send(objective, sent) * records.open_loop
        word = early.get(objective.metric, "INSUFFICIENT") if early is not None else judged.verdict
        settled = None
        alone = repeats is None or early is not None  # repeats are pooled, unless each ended by itself
        if word == "INSUFFICIENT" and confident and alone:
            settled = judged_in_step(records, of, objective, block, judged, level)
        if settled is not None:
            (held if settled.word == "PASS" else failed).append(f"{words}: {settled.text}")
        elif word == "INSUFFICIENT":
            spent = "; request budget exhausted (max_requests)" if early is not None else ""
            unclear.append(f"{words}: {judged.text}{spent}")
            left_open += 1
        else:
            late = word != "PASS"
            (failed if late else held).append(
                words + (wave_words(records, objective, block, burst > 0) if late else "")
            )
    if failed:
        return Verdict(FAILED, tuple(failed))
    if unclear:
        return Verdict(ERROR, tuple(unclear), left_open == len(unclear))
    return Verdict(PASSED, tuple(held))


def _judge(
    objective: Objective, q: float, values: Floats, requests: int, mode: str, block: int, repeats: Repeats | None
) -> Judgement:
    """One percentile against its limit: of this run, or of all runs of the point together."""
    per_request = max(1, round(len(values) / max(requests, 1)))  # gaps of ITL: many a request
    noise, runs = None, 1
    if mode == "confident" and repeats is not None:
        own = values
        values = np.concatenate([*(run[objective.latency] for run in repeats.earlier), own])
        noise, runs = repeats.noise(objective.latency, q, own), len(repeats.earlier) + 1
    return judge(
        values, q, objective.limit_s, cast('Literal["point", "confident"]', mode), block=block * per_request,
        noise=noise, runs=runs,
    )  # fmt: skip


def _words(objective: Objective, judged: Judgement, notes: Sequence[str]) -> str:
    """`p99 TTFT 1.600 s > 1.000 s (+60 %, n=160, 95 % CI 1.41 to 1.83)`."""
    low, high = judged.interval.as_pair()
    ends = format_range(low, high)
    interval = f"95 % CI {ends}" if judged.interval.two_sided else f"95 % CI {ends}, too few for both ends"
    return f"{_compared(objective, judged.figure)}, n={judged.n}, {', '.join([interval, *notes])})"


def _from_send(objective: Objective, sent: Mapping[str, NDArray[np.float64]]) -> str:
    """The same figure without the time that requests stood in line in this client, where it is judged with it."""
    stat, _, latency = objective.metric.partition("_")
    value = figure(sent[latency], stat) if latency in ("ttft", "ttfat", "e2el") else None
    return "" if value is None else f" from the scheduled time; {format_s(value)} from the send"


def _amount_words(objective: Objective, value: float) -> str:
    """`energy an output token 0.951 J > 0.9 J (+6 %)`."""
    unit, sign = FIGURES[objective.metric].unit, ">" if value > objective.limit_s else "≤"
    over = (
        f"{value / objective.limit_s - 1:+.2g}"
        if abs(value / objective.limit_s - 1) < 0.005
        else f"{value / objective.limit_s - 1:+.0%}"
    )
    shown = f"{label_of(objective.metric)} {value:.4g} {unit}".rstrip()
    return f"{shown} {sign} {objective.limit_s:g} {unit}".rstrip() + f" ({over.replace('%', ' %')})"


def _mean_words(objective: Objective, mean: float, n: int) -> str:
    return f"{_compared(objective, mean)}, n={n})"


def _compared(objective: Objective, value: float) -> str:
    limit_s = objective.limit_s
    shown, limit = format_apart(value, limit_s)
    sign = ">" if value > limit_s else "≤"
    over = value / limit_s - 1
    percent = f"{over:+.0%}" if round(abs(over), 2) or not over else f"{over * 100:+.1g}%"
    apart = percent.replace("%", " %") if over else "equal"
    return f"{label_of(objective.metric)} {shown} {sign} {limit} ({apart}"
