"""What a run is worth whose streams were apart at first and then fell into step: it has two states, and stays in one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench_tests.load.records import Records
from bench_tests.sweep.slo import SECOND, Objective
from bench_tests.sweep.units import format_s
from bench_tests.verdict.confidence import Judgement, judge
from bench_tests.verdict.in_step import Locked, fell_into_step
from bench_tests.verdict.summary import latencies_s

__all__ = ["InStep", "judged_in_step", "locked_words"]


@dataclass(frozen=True)
class InStep:
    """A verdict by the requests that were sent once the streams were in step."""

    word: str  # PASS or FAIL
    text: str


def judged_in_step(
    records: Records, of: NDArray[np.bool_], objective: Objective, block: int, whole: Judgement, level: float = 0.95
) -> InStep | None:
    """The verdict of the state that a closed loop stayed in, where the whole run (`whole`) is too close to call.

    Two states in one run share nothing that tells how often each of them will be there; the later one lasts. It decides
    where the whole run's percentile lies on the same side of the limit, and so does neither state against it.
    `of`: the requests that count, shape (n,); `level`: the first question's, 1 less both of its errors. None where streams did not fall into step, or that does not decide either.
    """
    quantile = objective.quantile
    if block < 2 or records.open_loop or quantile is None or not (locked := fell_into_step(records)):
        return None
    begin_s = float(np.nanmin(records.send_s[records.measured])) + locked.at_s
    since = of & (records.send_s >= begin_s)
    values, requests = latencies_s(records, since)[objective.latency], int(since.sum())
    if not len(values):
        return None
    per_request = max(1, round(len(values) / requests))  # gaps of ITL: many a request
    level = 1 - SECOND * (1 - level)
    judged = judge(values, quantile, objective.limit_s, "confident", level, block=block * per_request)
    if judged.verdict == "INSUFFICIENT" or (judged.verdict == "PASS") != (whole.figure <= whole.limit):
        return None
    return InStep(judged.verdict, f"by the {requests} requests since {locked_words(locked)}")


def locked_words(locked: Locked) -> str:
    """`the streams fell into step, 21.0 of 70.9 s after the first (0.16 → 0.99)`."""
    return (
        f"the streams fell into step, {format_s(locked.at_s)} of {format_s(locked.of_s)} after the first "
        f"({locked.before:.2f} → {locked.after:.2f})"
    )
