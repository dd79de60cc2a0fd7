"""A staggered start: streams begin one by one, the measured requests run in a full loop, without burst and drain."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from bench_tests.load.ending import End, Ending
from bench_tests.load.plan import LoadPlan
from bench_tests.load.records import KINDS, Records
from bench_tests.load.requests import Request
from bench_tests.load.team import LoadRun, run_load
from bench_tests.load.worker.stagger import Stagger, phases
from bench_tests.sim.simulator import SimSpec, Simulator
from bench_tests.verdict.in_step import in_step
from bench_tests.verdict.summary import mean_in_flight, steady_window, summarize
from tests.support.plans import make_plan

CONC = 8


def staggered(url: str = "http://127.0.0.1:1", **said: object) -> LoadPlan:
    return make_plan(url, **{"conc": CONC, "num_prompts": 48, "num_warmups": 16, "start": "staggered", **said})


def request(index: int, measured: bool = True) -> Request:
    return Request(index, 0, 0, 8, 8, measured)


# ------------------------------------------------------------------------------------------------ the order of sending


@pytest.mark.parametrize("workers", [1, 3])
def test_each_stream_begins_in_a_part_of_its_own_of_the_duration(workers: int) -> None:
    plan = staggered(conc=10, workers=workers)
    every = sorted(phase for worker in range(workers) for phase in phases(replace(plan, worker=worker)))
    assert len(every) == 10
    assert [int(phase * 10) for phase in every] == list(range(10))
    assert phases(staggered(seed=6)) != phases(staggered(seed=7)), "at random within it"


def test_who_ends_early_goes_on_while_others_begin_and_then_the_measured_ones_follow() -> None:
    order = Stagger(staggered(conc=2), [1.0, 3.0, 2.0])
    assert order.span_s == 2.0
    measured = [(request(i), 0) for i in range(3)]
    todo = order.begin(measured, [request(i, False) for i in range(6)], 0)
    assert [due // 1_000_000_000 for _, due in todo] == [0, 1]
    first, _ = todo.popleft()
    order.ended(first, todo, 5)
    assert todo[0][0].index == 2, "a further request of its own, before the next beginning"
    assert not todo[0][0].measured
    todo.clear()
    todo.extend(order.more())
    assert [each.index for each, _ in todo] == [0, 1, 2]
    assert order.more() == ()


def test_others_keep_it_full_until_the_last_measured_one_has_ended() -> None:
    order = Stagger(staggered(conc=2), [1.0])
    order.begin([(request(0), 0), (request(1), 0)], [request(i, False) for i in range(6)], 0)
    order.more()
    todo: deque[tuple[Request, int]] = deque()
    order.ended(request(0), todo, 7)
    assert [(each.measured, due) for each, due in todo] == [(False, 7)]
    assert not order.done
    todo.clear()
    order.ended(request(1), todo, 8)
    assert order.done
    assert not todo


def test_one_of_several_processes_goes_on_until_all_are_done() -> None:
    order = Stagger(staggered(conc=2, workers=2), [1.0])
    order.begin([(request(0), 0)], [request(i, False) for i in range(3)], 0)
    order.more()
    todo: deque[tuple[Request, int]] = deque()
    order.ended(request(0), todo, 7)
    assert order.own_ended
    assert not order.done
    assert [each.measured for each, _ in todo] == [False], "it keeps its stream busy for the others"
    order.released = True
    todo.clear()
    order.ended(request(1, False), todo, 8)
    assert order.done
    assert not todo


def test_enough_waits_only_for_measured_requests_that_run() -> None:
    order = Stagger(staggered(conc=2), [1.0])
    order.begin([(request(i), 0) for i in range(9)], [request(i, False) for i in range(6)], 0)
    order.more()
    order.enough(running=2)
    assert not order.done
    todo: deque[tuple[Request, int]] = deque()
    order.ended(request(0), todo, 0)
    assert [each.measured for each, _ in todo] == [False], "the loop stays full for the one that still runs"
    assert not order.done
    order.ended(request(1), todo, 0)
    assert order.done


def test_without_a_warm_up_nothing_says_how_long_a_request_takes() -> None:
    order = Stagger(staggered(conc=2), [])
    todo = order.begin([(request(0), 7)], [request(i, False) for i in range(6)], 7)
    assert [due for _, due in todo] == [7, 7]
    assert order.span_s == 0.0


# ------------------------------------------------------------------------------------------------ a real loop


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with Simulator(SimSpec(mode="paced", ttft_ms=60, gap_ms=8)) as running:
        yield running


def load(plan: LoadPlan, **options: object) -> LoadRun:
    return asyncio.run(run_load(plan, **options))  # type: ignore[arg-type]


def in_flight(records: Records, moment: float) -> int:
    end = np.where(np.isnan(records.end_s) | (records.kind == KINDS.index("cancelled")), np.inf, records.end_s)
    return int(((records.send_s <= moment) & (end > moment)).sum())


@pytest.mark.parametrize("workers", [1, 2])
def test_all_that_is_measured_runs_in_a_full_loop(sim: Simulator, workers: int) -> None:
    run = load(staggered(sim.url, workers=workers))
    records = run.records
    assert run.ending == Ending()
    assert int(records.completed.sum()) == int(records.measured.sum()) == 48
    assert sorted(records.number[records.measured].tolist()) == list(range(48))
    assert records.continuous
    assert not records.open_loop
    measured = records.measured
    for moment in records.send_s[measured]:
        assert in_flight(records, moment) >= CONC - 1  # two may end at one moment
    last = records.end_s[measured].max()
    moments = np.linspace(records.send_s[measured].min(), last, 50)[:-1]
    assert np.mean([in_flight(records, moment) for moment in moments]) > (CONC - 1 if workers == 1 else CONC - 2)
    beginnings = np.sort(records.send_s[~measured & (records.send_s > 0)])[:CONC]
    assert np.ptp(beginnings) > 0.5 * np.median(records.e2el_s()[measured]), "spread, not all at once"
    assert set(np.array(KINDS)[records.kind[~measured]].tolist()) <= {"completed", "cancelled"}


def test_a_process_that_is_done_keeps_the_loop_full_for_the_others(sim: Simulator) -> None:
    """Answers of very different lengths: one of two processes ends its measured requests well before the other."""
    run = load(staggered(sim.url, workers=2, conc=6, num_prompts=18, osl=30, range_ratio=0.95, seed=5))
    records = run.records
    measured = records.measured
    assert int(records.completed.sum()) == 18
    ends = [records.end_s[measured & (records.worker == worker)].max() for worker in range(2)]
    first, last = min(ends), max(ends)
    assert last - first > 0.25, "nothing to keep full for"
    moments = np.linspace(first, last, 40)[:-1]
    assert np.mean([in_flight(records, moment) for moment in moments]) > 5.5


def test_without_warm_ups_one_request_tells_how_long_it_takes(sim: Simulator) -> None:
    run = load(staggered(sim.url, num_warmups=0))
    assert int(run.records.completed.sum()) == 48
    assert run.records.continuous
    assert run.stats[0]["begun_over_s"] > 0.1


def test_together_is_as_it_was(sim: Simulator) -> None:
    records = load(staggered(sim.url, start="together")).records
    assert len(records) == 64
    assert not records.continuous
    assert (in_step(records) or 0) > 0.9


def test_the_figures_are_those_of_the_full_loop(sim: Simulator) -> None:
    records = load(staggered(sim.url)).records
    got = summarize(records, CONC, {"ttft": 10.0}, CONC)
    assert got["completed"] == got["good_completed"] == 48
    assert got["in_step"] < 0.6, "all at once: near 1"
    per_stream = 8 / np.mean(records.e2el_s()[records.completed])
    # the server's tokens per second while the measured requests ran: those of eight streams all the time
    assert got["output_throughput"] == pytest.approx(CONC * per_stream, rel=0.15)
    assert got["request_goodput"] == got["request_throughput"]
    assert got["steady_state"]["completed"] == 48


def test_a_sequential_run_that_has_enough_finishes_what_runs(sim: Simulator) -> None:
    seen: list[int] = []

    def enough(values: list[tuple[float | None, float | None]]) -> bool:
        seen.append(len(values))
        return sum(seen) >= 10

    run = load(staggered(sim.url, num_prompts=400, report_values=True), enough=enough)
    records = run.records
    assert run.ending.kind is End.ENOUGH
    assert 10 <= int(records.measured.sum()) < 400
    assert records.completed.sum() == records.measured.sum()
    window = steady_window(records, CONC)
    assert window is not None
    share = mean_in_flight(records, window) / CONC
    assert share > 0.95, "full until the last one has ended, or the check of the concurrency would make it an ERROR"


@pytest.mark.parametrize("conc", [3, 5])
def test_each_process_has_as_many_requests_as_it_has_streams(conc: int) -> None:
    plans = [staggered(conc=conc, workers=2, worker=worker) for worker in range(2)]
    shares = [plan.share(10 * conc) for plan in plans]
    assert [len(share) for share in shares] == [10 * plan.streams for plan in plans]
    assert sorted(i for share in shares for i in share) == list(range(10 * conc))


def test_a_server_that_refuses_leaves_every_measured_request_counted() -> None:
    with Simulator(SimSpec(mode="paced", ttft_ms=20, gap_ms=2)) as short:
        plan = staggered(short.url, num_prompts=200)

        def stop(progress: object) -> None:
            if getattr(progress, "phase", "") == "measure" and getattr(progress, "done", 0):
                short.stop()

        records = load(plan, show=stop).records
    assert int(records.measured.sum()) == 200
    assert records.completed.sum() < 200


@pytest.mark.slow
def test_the_simulated_engine_shows_waves_as_a_real_one_does() -> None:
    """Same server, same concurrency 64: begun together, its p99 TTFT is more than twice that of streams begun apart."""
    found = {}
    with Simulator(SimSpec(mode="batch")) as engine:
        for serial, start in enumerate(("together", "staggered")):
            plan = staggered(
                engine.url, isl=1024, osl=64, conc=64, num_prompts=320, num_warmups=64, start=start,
                first_serial=10_000 * serial,
            )  # fmt: skip
            found[start] = summarize(load(plan).records, 64, block=64)
    together, apart = found["together"], found["staggered"]
    assert together["p99_ttft"] > 2 * apart["p99_ttft"]
    assert together["in_step"] > 1.5 * apart["in_step"]
    assert apart["output_throughput"] > 0.7 * together["output_throughput"]
