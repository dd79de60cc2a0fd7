"""Goodput as the criterion: which share of the attempted requests was within all its limits. And whether a load was steady."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bench_tests.load.records import WITHDRAWN, Records
from bench_tests.sweep.units import format_s
from bench_tests.verdict.decide import ERROR, FAILED, PASSED, Verdict
from bench_tests.verdict.early import ATTAINED, Criterion
from bench_tests.verdict.summary import latencies_s

__all__ = ["attainment", "rise_s", "settled"]

BLOCKS = 20  # parts of a run whose medians are held against each other
RISING = 2.326  # z of a rise that chance would make once in a hundred runs


def attainment(records: Records, limits_s: Mapping[str, float]) -> tuple[int, int]:
    """(good, attempted) requests; one that failed was attempted and is not good, one that was withdrawn is neither.

    In an open loop TTFT and E2EL count from the scheduled time.
    """
    attempted = records.measured & (records.kind != WITHDRAWN) & ~np.isnan(records.send_s)
    good = records.completed & attempted
    begin_s = records.scheduled_s if records.open_loop else records.send_s
    values = {"ttft": records.first_s - begin_s, "tpot": records.tpot_s(), "e2el": records.last_s - begin_s}
    for name, limit in limits_s.items():
        good &= ~(values[name] > limit)  # an undefined TPOT (one token) keeps its limit
    return int(good.sum()), int(attempted.sum())


def rise_s(values: NDArray[np.float64]) -> float:
    """By how much the values (in the order of sending, seconds) rise over the run; 0 where chance could have done it.

    Formula: Kendall's S over the medians of 20 equal parts, z = (S − 1) / √(n(n−1)(2n+5)/18) (Mann 1945); the rise is the
    median slope between the parts (Sen 1968) times their number.
    """
    if len(values) < 2 * BLOCKS:
        return 0.0
    medians = np.array([np.median(part) for part in np.array_split(values, BLOCKS)])
    later, earlier = np.triu_indices(BLOCKS, 1)[::-1]
    change = medians[later] - medians[earlier]
    z = (float(np.sign(change).sum()) - 1) / math.sqrt(BLOCKS * (BLOCKS - 1) * (2 * BLOCKS + 5) / 18)
    return float(np.median(change / (later - earlier))) * BLOCKS if z > RISING else 0.0


def settled(verdict: Verdict, records: Records, criterion: Criterion, ended: Mapping[str, str]) -> Verdict:
    """The verdict of a sequential run once goodput and steadiness have had their say. An ERROR stays what it is."""
    if verdict.word == ERROR:
        return verdict
    if criterion.attain is not None:
        verdict = _of_goodput(records, criterion, ended.get(ATTAINED, "INSUFFICIENT"))
    return _not_rising(verdict, records, criterion) if records.open_loop and criterion.first > 1 else verdict


def _of_goodput(records: Records, criterion: Criterion, found: str) -> Verdict:
    good, attempted = attainment(records, criterion.limits_s)
    asked = criterion.attain or 0.0
    limits = ", ".join(f"{name.upper()} {format_s(limit)}" for name, limit in criterion.limits_s.items())
    share = good / attempted if attempted else 0.0
    words = f"goodput {share:.2%} of {attempted} attempted requests within {limits}; {asked:.4g} of them asked"
    if found == "INSUFFICIENT":
        return Verdict(ERROR, (f"{words}: too close to call; request budget exhausted (max_requests)",), True)
    return Verdict(PASSED if found == "PASS" else FAILED, (words,))


def _not_rising(verdict: Verdict, records: Records, criterion: Criterion) -> Verdict:
    """No PASS for a rate at which the line only grows: as long again at this pace, and the limit would be broken."""
    if verdict.word != PASSED:
        return verdict
    ttft = latencies_s(records, records.completed, from_schedule=True)["ttft"]
    limits = [(o.limit_s, o.quantile or 0.5) for o in criterion.objectives if o.latency == "ttft"]
    limits += [(criterion.limits_s["ttft"], criterion.attain or 0.5)] if "ttft" in criterion.limits_s else []
    rise = rise_s(ttft)
    for limit, q in limits:
        if rise and float(np.quantile(ttft, q)) + rise > limit:
            words = f"TTFT rose by {format_s(rise)} during the run and would break {format_s(limit)} in as long again"
            return Verdict(ERROR, (f"{words}: not steady at this rate; a longer rate_seconds would show it",))
    return verdict
