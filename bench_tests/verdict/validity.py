"""Whether a run may be judged at all: each reason to doubt it with its figure, its limit and what to do.

Knows the records, the summary and a profile's thresholds. Pure: facts in, checks out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench_tests.load.records import KINDS, Records
from bench_tests.sweep.point import Point
from bench_tests.sweep.settings import Validity
from bench_tests.sweep.slo import Objective
from bench_tests.sweep.units import format_s
from bench_tests.verdict.summary import latencies_s, mean_in_flight, steady_window

__all__ = ["Check", "RunFacts", "check_run"]

MAX_RESENT = 0.01  # requests that meet a connection which the server is just closing: rarer than that
REPORTED = (Objective("p99_ttft", math.inf), Objective("p99_tpot", math.inf))


@dataclass(frozen=True)
class Check:
    """One reason to doubt a run, looked into. `text` says what is wrong and what to do; a note when `ok`."""

    name: str
    ok: bool
    figure: float | None
    limit: float | None
    unit: str
    text: str = ""

    def as_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class RunFacts:
    """What the checks need beside the records."""

    point: Point
    num_prompts: int
    prefix_len: int = 0
    request_rate: float = math.inf
    client: Sequence[Mapping[str, Any]] = ()  # one entry a load process, as it describes itself
    stopped: str = ""
    cached_tokens: float | None = None  # by the server's own counters, warm-ups included
    server_changes: Sequence[str] = ()  # what was another before than after, in words
    asserted: Sequence[Objective] = ()
    calibrated_events_per_s: float | None = None
    extra: Sequence[Check] = field(default_factory=tuple)


def check_run(records: Records, facts: RunFacts, limits: Validity) -> list[Check]:
    """All checks of a run, in the order in which a person should read them."""
    checks: list[Check | None] = [_stopped(facts), _failed(records, limits), _resent(records, facts)]
    if records.completed.any():
        checks += [_tokens(records), _cache(records, facts, limits), _load(records, facts, limits)]
        checks += _client(records, facts, limits)
        checks += [_lag(records), _calibration(records, facts), _few(records, limits)]
    checks.append(_server(facts))
    checks += facts.extra
    return [check for check in checks if check is not None]


def _stopped(facts: RunFacts) -> Check:
    return Check(
        "complete", not facts.stopped, None, None, "", f"the run was stopped: {facts.stopped}" * bool(facts.stopped)
    )


def _failed(records: Records, limits: Validity) -> Check:
    measured = int(records.measured.sum())
    bad = records.measured & ~records.completed
    failed = int(bad.sum())
    share = failed / measured if measured else 1.0
    ok = measured > 0 and share <= limits.max_failed_share and failed < measured
    if not failed:
        none = "" if measured else "no request was measured"
        return Check("failed_requests", ok, share, limits.max_failed_share, "share", none)
    kinds = records.kind[bad]
    counts = ", ".join(f"{int((kinds == k).sum())} {KINDS[k]}" for k in sorted(set(kinds.tolist())))
    # a cancelled one says why the rest was given up, not what went wrong first
    first = np.argsort(kinds == KINDS.index("cancelled"), kind="stable")
    example = next((e for e in records.error[bad][first].tolist() if e), "no words")
    return Check(
        "failed_requests",
        ok,
        share,
        limits.max_failed_share,
        "share",
        f"{failed} of {measured} requests failed ({counts}); the first says: {example}",
    )


def _resent(records: Records, facts: RunFacts) -> Check | None:
    """Requests whose connection ended as they were sent. A server that closes idle connections does so now and then,
    one that never keeps a connection does so each time; in between it is requests that are lost.
    """
    resent = sum(int(stats.get("resent", 0)) for stats in facts.client)
    measured = int(records.measured.sum())
    share = resent / max(1, measured)
    ok = resent <= max(1, MAX_RESENT * measured) or resent >= 0.9 * (measured - facts.point.conc) > 0
    if not resent:
        return None
    return Check("resent", ok, share, MAX_RESENT, "share", "" if ok else (
        f"{resent} of {measured} requests were sent twice: their connections ended before any answer; something before "
        "or in the server drops requests"
    ))  # fmt: skip


def _tokens(records: Records) -> Check:
    done = records.completed
    uncounted = int((records.output_tokens[done] < 0).sum())
    if uncounted:
        return Check(
            "tokens",
            False,
            float(uncounted),
            0.0,
            "requests",
            f"{uncounted} answers came without usage and no tokenizer could count them; "
            "set model.tokenizer in the profile",
        )
    got, asked = records.input_tokens[done], records.asked_input[done]
    other = int(((got != asked) & (got >= 0)).sum())
    text = ""
    if other:
        first = int(np.flatnonzero((got != asked) & (got >= 0))[0])
        text = (
            f"the server counts other prompt lengths than were sent in {other} of {len(got)} requests, e.g. "
            f"{got[first]} instead of {asked[first]}; check model.tokenizer or use prompt_format = 'ids'"
        )
    return Check("tokens", not other, float(other), 0.0, "requests", text)


def _cache(records: Records, facts: RunFacts, limits: Validity) -> Check | None:
    of = records.completed
    said = records.cached_tokens[of]
    if facts.cached_tokens is not None:
        of, cached = ~np.isnan(records.send_s), facts.cached_tokens  # the server counts warm-ups and what failed too
    elif (said >= 0).any():
        cached = float(said.clip(0).sum())
    else:
        return None
    shared = facts.prefix_len * int(of.sum())
    total = max(1, int(records.asked_input[of].sum()))
    share = max(0.0, cached - shared) / total
    ok = share <= limits.max_cache_share
    return Check(
        "prefix_cache",
        ok,
        share,
        limits.max_cache_share,
        "share",
        ""
        if ok
        else f"{share:.1%} of the prompt tokens came from the server's prefix cache: prompts that it had "
        "seen before (the same --seed twice?); draw new ones or restart the server",
    )


def _load(records: Records, facts: RunFacts, limits: Validity) -> Check | None:
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


def _client(records: Records, facts: RunFacts, limits: Validity) -> list[Check]:
    checks = []
    for objective in facts.asserted or REPORTED:  # where nothing is asserted, the figures are what a reader goes by
        share = _blur_share(records, objective)
        ok = share <= limits.max_blur_share
        checks.append(
            Check(
                f"client_blur_{objective.metric}",
                ok,
                share,
                limits.max_blur_share,
                "share",
                ""
                if ok
                else f"merged reads leave {objective.metric} uncertain by {share:.1%}: this client could not keep up; "
                "give it a core of its own, more --load-processes, or less load",
            )
        )

    def worst(name: str, limit: float, unit: str, figure: float, text: str) -> None:
        checks.append(Check(name, figure <= limit, figure, limit, unit, "" if figure <= limit else text))

    clients = facts.client or [{}]
    pause = max(float(c.get("worst_pause_s", 0)) for c in clients)
    worst(
        "client_pause",
        limits.max_pause,
        "s",
        pause,
        f"a load process did not run for {format_s(pause)}: it was stopped or starved; measure again on a quieter host",
    )
    cpu = max(float(c.get("cpu_s", 0)) / max(float(c.get("duration_s", 1)), 1e-9) for c in clients)
    worst(
        "client_cpu",
        limits.max_client_cpu,
        "share",
        cpu,
        f"a load process used {cpu:.0%} of its core: the load is at its limit; use more --load-processes",
    )
    wait = max(float(c.get("core_wait_s", 0)) / max(float(c.get("looks", 1)), 1.0) for c in clients)
    worst(
        "client_core_wait",
        limits.max_core_wait,
        "s",
        wait,
        f"a load process waited {format_s(wait)} for a core before each look at its sockets: other processes hold it "
        "back; give it a core of its own",
    )
    step = max(float(c.get("clock_step_s", 0)) for c in clients)
    worst(
        "clock",
        limits.max_clock_step,
        "s",
        step,
        f"the system clock was set by {format_s(step)} during the run; measure again",
    )
    return checks


def _blur_share(records: Records, objective: Objective) -> float:
    """How far a figure may lie below what was reported, relative to it, if every doubtful stamp was late by its most."""
    done = records.completed
    reported = latencies_s(records, done)[objective.latency]
    if not len(reported):
        return 0.0
    first, last = np.nan_to_num(records.first_blur_s[done]), np.nan_to_num(records.last_blur_s[done])
    if objective.latency == "ttft":
        lower = reported - first
    elif objective.latency == "e2el":
        lower = reported - last
    elif objective.latency == "tpot":
        steps = records.output_tokens[done] - 1
        lower = reported - (last / np.maximum(steps, 1))[steps > 0]
    else:
        lag_s, gap_s = _lag_and_gap_s(records)
        return 0.0 if math.isfinite(gap_s) and lag_s < gap_s / 2 else 1.0
    quantile = objective.quantile
    of = np.mean if quantile is None else lambda values: np.quantile(values, quantile)
    figure = float(of(reported))
    return max(0.0, (figure - float(of(lower))) / figure) if figure > 0 else 0.0


def _lag_and_gap_s(records: Records) -> tuple[float, float]:
    """How late reads were (p99 over requests), and the usual gap between events that came one by one, seconds.

    The gap is infinite where there are no two such events: all of each answer came at once.

    Events of a stream merge where one was read later than the next one came: gaps are 0 and too long then.
    """
    done = records.completed
    gaps = records.itl_s(done)
    gaps = gaps[gaps > 0]
    return float(np.quantile(records.lag_s[done], 0.99)), float(np.median(gaps)) if len(gaps) else math.inf


def _lag(records: Records) -> Check:
    """A note: ITL alone suffers from a late read, and it has a check of its own where it is asserted."""
    lag_s, gap_s = _lag_and_gap_s(records)
    note = ""
    if not math.isfinite(gap_s) and (records.events[records.completed] > 1).any():
        note = "no two events of an answer came apart: do not go by this run's p99 ITL"
    elif lag_s >= gap_s / 2:
        note = (
            f"reads came up to {format_s(lag_s)} late, events every {format_s(gap_s)}: do not go by this run's p99 ITL"
        )
    return Check("client_lag", True, lag_s, gap_s / 2 if math.isfinite(gap_s) else None, "s", note)


def _calibration(records: Records, facts: RunFacts) -> Check | None:
    if facts.calibrated_events_per_s is None:
        return None
    sent = records.measured & ~np.isnan(records.last_s)
    span = float(records.last_s[sent].max() - records.send_s[sent].min())
    rate = float(records.events[sent].sum() / max(span, 1e-9))
    ok = rate <= facts.calibrated_events_per_s
    return Check(
        "calibration",
        ok,
        rate,
        facts.calibrated_events_per_s,
        "events/s",
        ""
        if ok
        else f"{rate:,.0f} events/s are beyond the {facts.calibrated_events_per_s:,.0f}/s up to which this "
        "client was found true on this host (pytest --calibrate); use more --load-processes",
    )


def _few(records: Records, limits: Validity) -> Check:
    n = int(records.completed.sum())
    note = "" if n >= limits.min_p99_requests else f"n={n}: a p99 of so few requests is little more than their maximum"
    return Check("requests_for_p99", True, float(n), float(limits.min_p99_requests), "requests", note)


def _server(facts: RunFacts) -> Check:
    changes = "; ".join(facts.server_changes)
    return Check(
        "same_server",
        not changes,
        float(len(facts.server_changes)),
        0.0,
        "changes",
        f"the server changed during the run: {changes}; measure again" if changes else "",
    )
