"""Whether the load was the one that was asked: requests in flight in a closed loop, arrivals at a rate."""

from __future__ import annotations

import math

import numpy as np

from bench_tests.load.records import Records
from bench_tests.sweep.settings import Validity
from bench_tests.sweep.units import format_s
from bench_tests.verdict.checks.check import Check, RunFacts
from bench_tests.verdict.in_step import fell_into_step
from bench_tests.verdict.locked import locked_words
from bench_tests.verdict.summary import mean_in_flight, steady_window

__all__ = ["asked_load"]

LATE_END, LATE_END_S = 0.05, 0.01  # share of an answer's time, and seconds, from which on its open end is said


def asked_load(records: Records, facts: RunFacts, limits: Validity) -> list[Check]:
    """The checks of the kind of load that was asked."""
    if facts.point.users:
        return [_late(records, facts, limits)]
    if math.isfinite(facts.request_rate):
        return [*_rate(records, facts, limits), (_held if facts.point.conc else _late)(records, facts, limits)]
    checks = [_concurrency(records, facts, limits), _late_end(records, facts), _two_states(records, facts)]
    return checks if _begun_as_asked(facts) else [*checks, _at_once()]


def _begun_as_asked(facts: RunFacts) -> bool:
    """Whether each process's streams of a staggered start were spread over a request's duration."""
    return not any(stats.get("begun_over_s") == 0.0 for stats in facts.client)


def _at_once() -> Check:
    return Check("start", False, 0.0, None, "s", (
        "no request of the warm-up completed, so nothing told over what time a staggered start spreads its streams, and "
        "they began at one moment; see why the warm-up failed, or give --start together"
    ))  # fmt: skip


def _rate(records: Records, facts: RunFacts, limits: Validity) -> list[Check]:
    """Whether the requests started as quickly as their schedule had it: its own times, not the mean of many schedules."""
    sent = records.measured & ~np.isnan(records.send_s)
    if sent.sum() < 3:
        return []
    wanted_s, took_s = (float(np.ptp(column[sent])) for column in (records.scheduled_s, records.send_s))
    share = wanted_s / took_s if took_s > 0 else 1.0
    ok = share >= limits.min_rate_share
    starts = int(sent.sum()) - 1
    what = (
        f"concurrency {facts.point.conc} holds them back; raise it or"
        if facts.point.conc
        else "the client fell behind;"
    )
    text = "" if ok else (
        f"requests started at {starts / took_s:.3g}/s instead of the {starts / wanted_s:.3g}/s of their schedule: "
        f"{what} lower the rate"
    )  # fmt: skip
    return [Check("request_rate", ok, share, limits.min_rate_share, "share", text)]


def _held(records: Records, facts: RunFacts, limits: Validity) -> Check:
    """Requests that found all of their load process's streams busy when they were due: the loop was not an open one."""
    sent = records.measured & ~np.isnan(records.send_s)
    processes = max(1, len(facts.client))
    held = 0
    for worker in range(processes):
        of = sent & (records.worker == worker)
        streams = facts.point.conc // processes + (worker < facts.point.conc % processes)
        begun = np.searchsorted(np.sort(records.send_s[of]), records.scheduled_s[of], "left")
        ended = np.searchsorted(np.sort(records.end_s[of]), records.scheduled_s[of], "right")  # NaN sorts last
        held += int((begun - ended >= streams).sum())
    share = held / max(1, int(sent.sum()))
    ok = share <= limits.max_held_share
    text = "" if ok else (
        f"{share:.0%} of the requests were due while all {facts.point.conc} streams were busy and waited in the client: "
        "the arrivals are not those of the schedule; raise the point's concurrency or lower --request-rate"
    )  # fmt: skip
    return Check("held_back", ok, share, limits.max_held_share, "share", text)


def _late(records: Records, facts: RunFacts, limits: Validity) -> Check:
    """How late requests were sent that nothing should have delayed."""
    sent = records.measured & ~np.isnan(records.send_s)
    late_s = float(np.quantile((records.send_s - records.scheduled_s)[sent], 0.99)) if sent.any() else 0.0
    ok = late_s <= limits.max_lateness
    text = "" if ok else (
        f"requests were sent up to {format_s(late_s)} (p99) behind their schedule: the client could not keep up; use more "
        "--load-processes or a quieter host"
    )  # fmt: skip
    return Check("schedule_kept", ok, late_s, limits.max_lateness, "s", text)


def _concurrency(records: Records, facts: RunFacts, limits: Validity) -> Check:
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


def _late_end(records: Records, facts: RunFacts) -> Check:
    """A note: streams that stay open behind their last token, in which time nothing is generated for them."""
    done = records.completed & (records.end_s > records.send_s)
    open_s = (records.end_s - records.last_s)[done]
    share = float(open_s.sum() / (records.end_s - records.send_s)[done].sum()) if done.any() else 0.0
    usual_s = float(np.median(open_s)) if done.any() else 0.0
    text = "" if share <= LATE_END or usual_s <= LATE_END_S else (
        f"answers stay open for {format_s(usual_s)} behind their last token, {share:.0%} of their time: of concurrency "
        f"{facts.point.conc} the server works on {facts.point.conc * (1 - share):.2g}, and the figures are those of such a load"
    )  # fmt: skip
    return Check("late_end", True, share, LATE_END, "share", text)


def _two_states(records: Records, facts: RunFacts) -> Check:
    """A note: streams that were apart and fell into step, so that the run's latencies are those of two states."""
    locked = fell_into_step(records)
    spread = any(stats.get("begun_over_s") for stats in facts.client)
    mend = (
        "--start together measures the one that lasts" if spread else "more warm-up or a longer run tells of the last"
    )
    text = "" if locked is None else f"{locked_words(locked)}: its latencies are those of two states; {mend}"
    return Check("two_states", True, locked.after if locked else None, None, "", text)
