"""Whether this client could keep up with what came: late reads, pauses, CPU, the clock, its calibration."""

from __future__ import annotations

import math

import numpy as np

from bench_tests.figures import figures_where
from bench_tests.load.records import Records
from bench_tests.sweep.settings import Validity
from bench_tests.sweep.slo import Objective
from bench_tests.sweep.units import format_s
from bench_tests.verdict.checks.check import Check, RunFacts
from bench_tests.verdict.summary import latencies_s

__all__ = ["calibration", "client", "lag"]

REPORTED = tuple(Objective(row.name, math.inf) for row in figures_where(headline=True))


def client(records: Records, facts: RunFacts, limits: Validity) -> list[Check]:
    checks = []
    for objective in facts.asserted or REPORTED:  # where nothing is asserted, the figures are what a reader relies on
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
                else f"{objective.metric} has a timestamp uncertainty of {share:.1%} (reads that were merged): this client could not keep up; "
                "give it a core of its own, more --load-processes, or less load",
            )
        )

    def worst(name: str, limit: float, unit: str, figure: float, text: str) -> None:
        checks.append(Check(name, figure <= limit, figure, limit, unit, "" if figure <= limit else text))

    # one that had nothing to send (fewer requests than processes) says nothing: CPU over next to no time
    clients = [one for one in facts.client if one.get("looks", 1)] or [{}]
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
        f"a load process waited {format_s(wait)} for a core before each poll of its sockets: it is starved of CPU by other "
        "processes; give it a core of its own",
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
    elif objective.latency in ("ttfat", "thinking"):
        answered = ~np.isnan(records.answer_s[done])
        begun = np.nan_to_num(records.answer_blur_s[done])
        lower = reported - begun[answered]
        if objective.latency == "thinking":  # its start may be early as well, which makes it longer: not by more
            lower = reported - np.maximum(begun, first)[answered]
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


def lag(records: Records) -> Check:
    """A note: ITL alone suffers from a late read, and it has a check of its own where it is asserted."""
    lag_s, gap_s = _lag_and_gap_s(records)
    note = ""
    if not math.isfinite(gap_s) and (records.events[records.completed] > 1).any():
        note = "no two events of an answer came apart: this run's p99 ITL is unreliable"
    elif lag_s >= gap_s / 2:
        note = (
            f"reads came up to {format_s(lag_s)} late, events every {format_s(gap_s)}: this run's p99 ITL is unreliable"
        )
    return Check("client_lag", True, lag_s, gap_s / 2 if math.isfinite(gap_s) else None, "s", note)


def calibration(records: Records, facts: RunFacts) -> Check | None:
    """The busiest load process against what one was found to carry truly on this host."""
    true_to, bound = facts.calibrated_events_per_s, facts.calibrated_bound
    if true_to is None:
        return None
    sent = records.measured & ~np.isnan(records.last_s)
    span_s = max(float(records.last_s[sent].max() - records.send_s[sent].min()), 1e-9)
    rate = float(np.bincount(records.worker[sent], records.events[sent]).max()) / span_s
    ok = bound is None or rate <= bound
    text = ""
    if not ok:
        text = (
            f"{rate:,.0f} events/s of one load process are beyond the {bound:,.0f}/s up to which this client may be "
            f"relied on here ({facts.calibration_file}); use more --load-processes, or calibrate again on a quiet host "
            "(pytest --calibrate)"
        )
    elif rate > true_to:
        text = (
            f"{rate:,.0f} events/s of one load process: this client was found true here up to {true_to:,.0f}/s, and "
            f"loads above could not be judged ({facts.calibration_file}); calibrate again on a quiet host"
        )
    return Check("calibration", ok, rate, bound, "events/s", text)
