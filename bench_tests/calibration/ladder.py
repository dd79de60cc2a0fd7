"""Measures this client on this host: its figures against the truth log of the simulated server, load by load.

`pytest --calibrate` runs it.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench_tests.calibration.store import (
    FIGURES,
    NOT_JUDGED,
    NOT_TRUE,
    TRUE,
    Calibration,
    Rung,
    host_facts,
    save_calibration,
)
from bench_tests.errors import BenchError, NotMeasured, UsageError
from bench_tests.load.plan import LoadPlan
from bench_tests.load.records import Records
from bench_tests.load.team import LoadRun, run_load
from bench_tests.sim.simulator import SimSpec, Simulator
from bench_tests.sweep.profile import Profile, load_profile
from bench_tests.sweep.selected import apply_options
from bench_tests.sweep.settings import Model
from bench_tests.sweep.units import format_s

__all__ = [
    "Truth",
    "calibrate",
    "calibrate_command",
    "figures",
    "ladder",
    "place",
    "read_truth",
    "share_cores",
    "table",
    "truth_of",
]

Say = Callable[[str], None]
Floats = NDArray[np.float64]

TOLERANCE = 0.005
TTFT_MS = 200.0
OSL = 128
ISL = 256
WAVES = 2  # measured requests a stream: the start together, and one start after an end
GAPS_MS = (20.0, 14.0, 10.0, 7.0, 5.0)
MOST_STREAMS = 1024  # from here on a load process's ladder goes on with shorter gaps
TRIES = 2  # of a rung that was not found true: another process may have been in the way
SERVER_NICE = -10  # asked for, and had where we may, as the load processes do
HELD_BACK_S = 0.001  # mean wait for a core before each look at the sockets


@dataclass(frozen=True)
class Truth:
    """The latencies of all completed requests by the server's own log, seconds; shapes (n,), (n,) and (gaps,)."""

    ttft: Floats
    tpot: Floats
    itl: Floats
    lag_s: Floats  # each request's worst write behind its due time
    events: int


def read_truth(path: Path, skip: int = 0) -> Truth:
    """A truth log without its first `skip` requests (the warm-ups), in the order of their arrival at the server.

    Formula: TTFT = first token written − request's first byte received; TPOT = (last − first) / (tokens − 1); ITL =
    gaps between events written, pooled. Raises NotMeasured for a log that holds no completed request.
    """
    rows = [row for row in map(json.loads, path.read_text().splitlines()) if row["outcome"] == "ok"]
    rows = sorted(rows, key=lambda row: int(row["t_first_byte"]))[skip:]
    if not rows:
        raise NotMeasured(f"{path}: no completed request in this truth log")
    return truth_of(rows)


def truth_of(rows: Sequence[Mapping[str, Any]]) -> Truth:
    """The latencies of these rows of a truth log, at least one."""
    first, last = (np.array([row[key] for row in rows], np.int64) for key in ("t_first_token", "t_last_token"))
    arrived = np.array([row["t_first_byte"] for row in rows], np.int64)
    tokens = np.array([row["n_tokens"] for row in rows], np.int64)
    gaps = [np.array(row.get("itl_ns", ()), np.float64) for row in rows]
    return Truth(
        ttft=(first - arrived) / 1e9,
        tpot=((last - first) / 1e9 / np.maximum(tokens - 1, 1))[tokens > 1],
        itl=np.concatenate(gaps) / 1e9,
        lag_s=np.array([row["max_lag_us"] for row in rows]) / 1e6,
        events=sum(len(gap) + 1 for gap in gaps),
    )


def figures(ttft: Floats, tpot: Floats, itl: Floats) -> dict[str, float]:
    """p50 and p99 of each by numpy's linear percentile, seconds, by the names of FIGURES."""
    of = {"ttft": ttft, "tpot": tpot, "itl": itl}
    levels = {"p50": 0.5, "p99": 0.99}
    return {
        f"{level}_{what}": float(np.quantile(values, q))
        for what, values in of.items()
        for level, q in levels.items()
        if len(values)
    }


def errors(records: Records, truth: Truth) -> dict[str, float]:
    """How far what the client reports is from the truth. Formula: reported / truth − 1."""
    done = records.completed
    tpot = records.tpot_s()[done]
    reported = figures(records.ttft_s()[done], tpot[~np.isnan(tpot)], records.itl_s(done))
    true = figures(truth.ttft, truth.tpot, truth.itl)
    return {name: reported[name] / true[name] - 1 for name in FIGURES if name in reported and true.get(name)}


def ladder(profile: Profile, processes: int) -> list[tuple[int, float]]:
    """(streams, gap in ms) of each rung, lowest load first: more streams up to what the grid asks, then shorter gaps."""
    points = profile.points
    most = max([MOST_STREAMS * processes, *(point.conc for point in points)])
    streams = [64 * processes]
    while streams[-1] < most:
        streams.append(min(2 * streams[-1], most))
    return [(n, GAPS_MS[0]) for n in streams] + [(most, gap) for gap in GAPS_MS[1:]]


def calibrate(
    profile: Profile, say: Say = lambda text: None, rungs: Sequence[tuple[int, float]] | None = None
) -> Calibration:
    """Climb the ladder until the client is no longer true; each rung takes some seconds.

    `rungs` are (streams, gap in ms) instead of the profile's ladder. Raises BenchError when a part does not start.
    """
    processes = max(1, profile.load.processes)
    found: list[Rung] = []
    with tempfile.TemporaryDirectory(prefix="bench-calibrate-") as folder:
        for streams, gap_ms in rungs if rungs is not None else ladder(profile, processes):
            rung = _measure(streams, gap_ms, processes, Path(folder))
            for _ in range(TRIES - 1):
                if rung.outcome == TRUE:
                    break
                again = _measure(streams, gap_ms, processes, Path(folder))
                rung = min(
                    rung, again, key=lambda one: ((TRUE, NOT_TRUE, NOT_JUDGED).index(one.outcome), one.worst_error)
                )
            found.append(rung)
            say(_line(rung))
            if rung.outcome != TRUE and len(found) > 1 and found[-2].outcome != TRUE:
                break  # two in a row: what is above them will not be better
            if rung.outcome == NOT_TRUE:
                break
    best = max((rung.got_events_per_s for rung in found if rung.outcome == TRUE), default=0.0)
    return Calibration(f"{datetime.now(UTC):%Y%m%d-%H%M%S}", host_facts(), processes, TOLERANCE, best, tuple(found))


def _measure(streams: int, gap_ms: float, processes: int, folder: Path) -> Rung:
    client_cores, server_cores = share_cores(processes)
    log = folder / "truth.jsonl"
    servers = max(1, min(8, len(server_cores)))
    spec = SimSpec(
        mode="paced", ttft_ms=TTFT_MS, gap_ms=gap_ms, processes=servers, prefix_caching=False,
        truth_log=str(log), log_tokens=True,
    )  # fmt: skip
    warmups = max(processes, streams // 4)
    with Simulator(spec) as simulator:
        for pid in simulator.pids:
            place(pid, server_cores)
        plan = LoadPlan(
            simulator.url,
            ISL,
            OSL,
            streams,
            WAVES * streams,
            warmups,
            seed=1,
            model=Model(spec.model),
            workers=processes,
        )
        load = asyncio.run(run_load(plan, cores=client_cores))
        simulator.stats()  # the log is complete when this has answered
    return judge(streams, gap_ms, load, read_truth(log, warmups))


def share_cores(processes: int) -> tuple[list[int] | None, list[int]]:
    """Cores of the load processes, and of the server; all cores for both where they cannot be kept apart."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) <= processes:
        return None, cores
    return cores[-processes:], cores[:-processes]


def place(pid: int, cores: Sequence[int]) -> None:
    """Keep a server's process to these cores and ahead of ordinary processes, as far as we may."""
    try:
        os.sched_setaffinity(pid, cores)
        os.setpriority(os.PRIO_PROCESS, pid, SERVER_NICE)
    except OSError:
        pass  # it serves all the same; how far it fell behind is measured


def judge(streams: int, gap_ms: float, load: LoadRun, truth: Truth) -> Rung:
    """What a run at this load shows of the client, and of the server that it was measured with."""
    records, stats = load.records, load.stats
    done, measured = records.completed, int(records.measured.sum())
    first_send, last_end = np.nanmin(records.send_s[records.measured]), np.nanmax(records.last_s[records.measured])
    events = int(records.events[records.measured].sum())
    cpu_s = [float(s.get("cpu_s", 0)) for s in stats]
    found = errors(records, truth) if done.any() else {}
    lag_s = float(np.quantile(truth.lag_s, 0.99))
    wait_s = max(float(s.get("core_wait_s", 0)) / max(float(s.get("looks", 1)), 1.0) for s in stats)
    outcome, why = TRUE, ""
    worst = max((abs(error) for error in found.values()), default=np.inf)
    if load.ending.early or int(done.sum()) < measured:
        outcome, why = NOT_TRUE, load.ending.words or f"{measured - int(done.sum())} of {measured} requests failed"
    elif worst > TOLERANCE and lag_s > gap_ms / 2e3:
        outcome, why = NOT_JUDGED, f"the simulated server was {format_s(lag_s)} behind its own schedule"
    elif worst > TOLERANCE and wait_s > HELD_BACK_S:
        outcome, why = NOT_JUDGED, f"other processes held the client back, {format_s(wait_s)} before each look"
    elif worst > TOLERANCE:
        name = max(found, key=lambda key: abs(found[key]))
        outcome, why = NOT_TRUE, f"{name} is off by {found[name]:+.2%}"
    return Rung(
        streams=streams,
        gap_ms=gap_ms,
        offered_events_per_s=streams * OSL / ((TTFT_MS + (OSL - 1) * gap_ms) / 1e3),
        got_events_per_s=events / float(last_end - first_send),
        errors=found,
        cpu_us_per_event=sum(cpu_s) / max(events, 1) * 1e6,
        client_cpu=max(c / max(float(s.get("duration_s", 1)), 1e-9) for c, s in zip(cpu_s, stats, strict=True)),
        server_lag_s=lag_s,
        outcome=outcome,
        why=why,
    )


# ---------------------------------------------------------------------------------------------------------- said


_NAMES = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL"}
COLUMNS = ("streams", "gap", "offered/s", "got/s", *(f"{n[:3]} {_NAMES[n[4:]]}" for n in FIGURES), "CPU µs/event", "")


def _cells(rung: Rung) -> tuple[str, ...]:
    shown = [f"{rung.errors[name]:+.3%}" if name in rung.errors else "–" for name in FIGURES]
    words = rung.outcome + (f": {rung.why}" if rung.why else "")
    rates = (f"{rung.offered_events_per_s:,.0f}", f"{rung.got_events_per_s:,.0f}")
    return (str(rung.streams), f"{rung.gap_ms:g} ms", *rates, *shown, f"{rung.cpu_us_per_event:.1f}", words)


def _line(rung: Rung) -> str:
    worst = f", worst error {rung.worst_error:.3%}" if rung.errors else ""
    return (
        f"{rung.streams} streams, {rung.gap_ms:g} ms between events: {rung.got_events_per_s:,.0f} events/s{worst}: "
        f"{rung.outcome}{f' ({rung.why})' if rung.why else ''}"
    )


def table(calibration: Calibration) -> str:
    """The ladder as a Markdown table: loads, relative errors of what the client reports, its CPU, and the verdicts."""
    from bench_tests.markdown import markdown

    return markdown([_cells(rung) for rung in calibration.rungs], COLUMNS)


def calibrate_command(option: Callable[[str], Any], say: Say, not_measured: int) -> int:
    """`pytest --calibrate`: climb, print, keep. Returns the exit code: 0, `not_measured`, or 4 for a wrong option."""
    try:
        profile = apply_options(load_profile(option("--profile") or "demo"), option)
        host: Mapping[str, Any] = host_facts()
        say(f"calibrating on {host['hostname']}: {host['cores']} cores of {host['cpu']}, kernel {host['kernel']}")
        found = calibrate(profile, say)
        say("")
        say(table(found))
        if all(rung.outcome == NOT_JUDGED for rung in found.rungs):
            say("nothing could be judged; use a quieter host, or one with a core to spare for the simulated server")
            return not_measured
        path = save_calibration(found)
    except BenchError as why:
        say(str(why))
        return 4 if isinstance(why, UsageError) else not_measured
    say("")
    say(
        f"true within {TOLERANCE:.1%} up to {found.events_per_s:,.0f} events/s with {found.load_processes} load "
        f"process{'es' * (found.load_processes > 1)}; kept in {path}"
    )
    return 0
