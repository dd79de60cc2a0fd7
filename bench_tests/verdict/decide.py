"""The verdict of a point: PASSED, FAILED or ERROR, and in which words. Knows summary, validity and confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from bench_tests.compare.run_noise import assumed_noise
from bench_tests.load.records import Records
from bench_tests.sweep.slo import Objective
from bench_tests.sweep.units import format_s
from bench_tests.verdict.confidence import Judgement, design_effect, judge
from bench_tests.verdict.summary import figure, latencies_s
from bench_tests.verdict.validity import Check

__all__ = ["ERROR", "FAILED", "PASSED", "Verdict", "decide"]

PASSED, FAILED, ERROR = "PASSED", "FAILED", "ERROR"


@dataclass(frozen=True)
class Verdict:
    """One of PASSED, FAILED, ERROR, with the reasons for a person; the reasons of a pass are what held."""

    word: str
    messages: tuple[str, ...] = ()


def decide(
    records: Records,
    objectives: Sequence[Objective],
    mode: str,
    checks: Sequence[Check],
    early: Mapping[str, str] | None = None,
    block: int = 1,
) -> Verdict:
    """Judge a run. What is not valid is an ERROR whatever its figures; without objectives what is measured passes.

    `block`: how many requests went through the server together; what they share makes n worth less.
    `early`: metric → PASS, FAIL or INSUFFICIENT of a sequential run, which must not be judged a second time.
    In an open loop TTFT and E2EL are judged from the scheduled time: that is what a user waits.
    In confident mode the verdict is about the server and not about this run: what moves from run to run is allowed for.
    """
    doubts = [check.text or check.name for check in checks if not check.ok]
    if doubts:
        return Verdict(ERROR, tuple(doubts))
    values = latencies_s(records, records.completed, from_schedule=records.open_loop)
    sent = latencies_s(records, records.completed)
    failed: list[str] = []
    unclear: list[str] = []
    held: list[str] = []
    for objective in objectives:
        of = values[objective.latency]
        if not len(of):
            unclear.append(f"{objective}: no request has a {objective.latency.upper()} (one token each?)")
            continue
        quantile = objective.quantile
        if quantile is None:
            mean = figure(of, "mean") or 0.0
            (held if mean <= objective.limit_s else failed).append(
                _mean_words(objective, mean, len(of)) + _from_send(objective, sent) * records.open_loop
            )
            continue
        noise = assumed_noise(objective.latency) if mode == "confident" else None
        design = 1.0 if objective.latency == "itl" else design_effect(of, block)  # of ITL a request has many
        judged = judge(
            of, quantile, objective.limit_s, cast('Literal["point", "confident"]', mode), design=design, noise=noise
        )
        words = _words(objective, judged) + _from_send(objective, sent) * records.open_loop
        word = early.get(objective.metric, "INSUFFICIENT") if early is not None else judged.verdict
        if word == "INSUFFICIENT":
            spent = "; max_requests are spent" if early is not None else ""
            unclear.append(f"{words}: {judged.text}{spent}")
        else:
            (held if word == "PASS" else failed).append(words)
    if failed:
        return Verdict(FAILED, tuple(failed))
    if unclear:
        return Verdict(ERROR, tuple(unclear))
    return Verdict(PASSED, tuple(held))


def _words(objective: Objective, judged: Judgement) -> str:
    """`p99 TTFT 1.600 s > 1.000 s (+60 %, n=160, 95 % CI 1.41 to 1.83)`."""
    low, high = judged.interval.as_pair()
    ends = f"{'–' if low is None else f'{low:.3g}'} to {'–' if high is None else f'{high:.3g}'}"
    interval = f"95 % CI {ends}" if judged.interval.two_sided else f"95 % CI {ends}, too few for both ends"
    return f"{_compared(objective, judged.figure)}, n={judged.n}, {interval})"


def _from_send(objective: Objective, sent: Mapping[str, NDArray[np.float64]]) -> str:
    """The same figure without the time that requests stood in line in this client, where it is judged with it."""
    stat, _, latency = objective.metric.partition("_")
    value = figure(sent[latency], stat) if latency in ("ttft", "e2el") else None
    return "" if value is None else f" from the scheduled time; {format_s(value)} from the send"


def _mean_words(objective: Objective, mean: float, n: int) -> str:
    return f"{_compared(objective, mean)}, n={n})"


def _compared(objective: Objective, value: float) -> str:
    stat, _, latency = objective.metric.partition("_")
    sign = ">" if value > objective.limit_s else "≤"
    return (
        f"{stat} {latency.upper()} {format_s(value)} {sign} {format_s(objective.limit_s)} "
        f"({value / objective.limit_s - 1:+.0%}".replace("%", " %")
    )
