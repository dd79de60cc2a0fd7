"""How far the streams of a closed loop move together: they fall into waves that shape its latencies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench_tests.load.records import Records

__all__ = ["Locked", "fell_into_step", "in_step", "in_step_at"]

MOMENTS = 400  # at which the requests in flight are looked at
START_SHARE = 0.1  # of the run: the first wave begins together whatever the server does
APART, TOGETHER = 0.5, 0.8  # streams that are apart have at most, those in step at least this order parameter
DURATIONS = 3  # a state that is told from a chance lasts so many requests
FEWEST_STREAMS = 8  # of fewer, streams that know nothing of each other look together for a while


@dataclass(frozen=True)
class Locked:
    """A run in which streams that were apart fell into step and stayed there. Order parameters 0 to 1."""

    at_s: float  # since the first measured request was sent
    of_s: float  # from there to the last send
    before: float
    after: float


def in_step(records: Records) -> float | None:
    """The order parameter R of a run's requests, 0 to 1; None where the run is too short to have one.

    Formula: R = mean over moments t of |Σ exp(2πi φ)| / (requests in flight), φ = (t − send) / (end − send) of each
    request in flight; t from a tenth of the run to the last send, where the loop is full. Near 1 when all begin and end
    together, near 1/√concurrency when they are independent.
    """
    known = records.end_s > records.send_s  # False where either is NaN
    of = records.measured & known
    if not of.any():
        return None
    start_s, end_s = records.send_s[of].min(), records.send_s[of].max()
    start_s += START_SHARE * (records.end_s[of].max() - start_s)
    if end_s <= start_s:
        return None
    values = in_step_at(records, np.linspace(start_s, end_s, MOMENTS))
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else None


def in_step_at(records: Records, moments_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """The order parameter at each of these moments (seconds, the records' clock), 0 to 1; same shape, NaN where no request
    is in flight.

    Formula: |Σ exp(2πi φ)| / (requests in flight), φ = (t − send) / (end − send) of each.
    """
    known = records.end_s > records.send_s  # False where either is NaN
    send, end = records.send_s[known], records.end_s[known]
    values = np.full(len(moments_s), np.nan)
    for i, moment in enumerate(moments_s):
        flying = (send <= moment) & (moment < end)
        if flying.any():
            turns = (moment - send[flying]) / (end[flying] - send[flying])
            values[i] = abs(np.exp(2j * np.pi * turns).mean())
    return values


def fell_into_step(records: Records) -> Locked | None:
    """Whether the streams of a closed loop were apart at first and in step from some moment to the end: two states, whose
    latencies have little to do with each other. None where they were not.

    Formula: the split of R's course (MOMENTS of it, first to last measured send) into two means with the least squares;
    both parts at least DURATIONS median requests long, the means at most APART and at least TOGETHER, and so is that of the
    last DURATIONS requests. Fewer than FEWEST_STREAMS in flight (the mean) are not asked.
    """
    known = records.end_s > records.send_s
    of = records.measured & known
    if not of.any():
        return None
    begin_s, end_s = float(records.send_s[of].min()), float(records.send_s[of].max())
    took_s = (records.end_s - records.send_s)[of]
    least_s = DURATIONS * float(np.median(took_s))
    if end_s - begin_s < 2 * least_s or took_s.sum() / (end_s - begin_s) < FEWEST_STREAMS:
        return None
    moments_s = np.linspace(begin_s, end_s, MOMENTS)
    course = in_step_at(records, moments_s)
    moments_s, course = moments_s[np.isfinite(course)], course[np.isfinite(course)]
    count = np.arange(1, len(course))
    sums = np.cumsum(course)
    before, after = sums[:-1] / count, (sums[-1] - sums[:-1]) / (len(course) - count)
    explained = count * before**2 + (len(course) - count) * after**2  # least squares: the most that two means explain
    fits = (moments_s[1:] - begin_s >= least_s) & (end_s - moments_s[1:] >= least_s)
    if not fits.any():
        return None
    at = int(np.argmax(np.where(fits, explained, -np.inf)))
    last = course[moments_s > end_s - least_s]
    if before[at] > APART or min(after[at], last.mean()) < TOGETHER:
        return None
    return Locked(float(moments_s[at + 1]) - begin_s, end_s - begin_s, float(before[at]), float(after[at]))
