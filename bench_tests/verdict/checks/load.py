"""Whether the load was the one that was asked: requests in flight in a closed loop, arrivals at a rate."""

from __future__ import annotations

import math

import numpy as np

from bench_tests.load.records import Records
from bench_tests.sweep.settings import Validity
from bench_tests.verdict.checks.check import Check, RunFacts
from bench_tests.verdict.summary import mean_in_flight, steady_window

__all__ = ["asked_load"]


def asked_load(records: Records, facts: RunFacts, limits: Validity) -> Check | None:
    if math.isfinite(facts.request_rate):
        sends = np.sort(records.send_s[records.measured & ~np.isnan(records.send_s)])
        if len(sends) < 3 or sends[-1] <= sends[0]:
            return None
        share = float((len(sends) - 1) / (sends[-1] - sends[0]) / facts.request_rate)
        ok = share >= limits.min_rate_share
        return Check(
            "request_rate",
            ok,
            share,
            limits.min_rate_share,
            "share",
            ""
            if ok
            else f"requests started at {share * facts.request_rate:.3g}/s instead of "
            f"{facts.request_rate:g}/s: concurrency {facts.point.conc} holds them back; raise it or lower "
            "--request-rate",
        )
    conc = facts.point.conc
    if facts.num_prompts < conc:
        return Check(
            "concurrency",
            False,
            facts.num_prompts / conc,
            limits.min_concurrency_share,
            "share",
            f"{facts.num_prompts} requests cannot make a concurrency of {conc}; use --num-prompts {2 * conc} or more",
        )
    window = steady_window(records, conc)
    share = mean_in_flight(records, window) / conc if window else 0.0
    ok = share >= limits.min_concurrency_share
    return Check(
        "concurrency",
        ok,
        share,
        limits.min_concurrency_share,
        "share",
        ""
        if ok
        else f"{share:.0%} of concurrency {conc} was in flight: the client or something before the "
        "server holds requests back",
    )
