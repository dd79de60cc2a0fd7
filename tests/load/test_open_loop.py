"""Open loops and traces against the simulated server's log: arrivals, lengths and cache hits are those that were asked."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench_tests.load.arrivals import schedule_s
from bench_tests.load.ending import End
from bench_tests.load.plan import LoadPlan
from bench_tests.load.prompts import IdPool
from bench_tests.load.requests import RequestFile
from bench_tests.load.team import Progress, run_load
from bench_tests.load.workload.cache_theory import block_hashes, hit_tokens
from bench_tests.load.workload.source import facts_of, mean_rate, shareable_tokens, trace_of, trace_prompt
from bench_tests.sim.simulator import SimSpec, Simulator
from bench_tests.sweep.sessions import Sessions
from bench_tests.sweep.workload import Workload
from tests.support.plans import make_plan

FAST = SimSpec(mode="paced", ttft_ms=20, gap_ms=1)
LOOSE_S = 0.25  # a busy machine delays single arrivals; the median is held to much less


def mooncake(path: Path, rows: list[tuple[int, int, int, list[int]]]) -> Path:
    keys = ("timestamp", "input_length", "output_length", "hash_ids")
    path.write_text("".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows))
    return path


def samples(folder: Path) -> dict[str, Path]:
    """A small file of each format, of the public files' shape."""
    rng = np.random.default_rng(4)
    times = np.sort(rng.integers(0, 2000, 40))
    inputs, outputs = rng.integers(20, 900, 40), rng.integers(1, 12, 40)
    files = {name: folder / name for name in ("mooncake", "bailian", "burstgpt", "azure")}
    shared = [[1, *range(100 + 9 * i, 108 + 9 * i)] for i in range(40)]
    rows = zip(times.tolist(), inputs.tolist(), outputs.tolist(), strict=True)
    for i, (t, n, m) in enumerate(rows):
        ids = shared[i][: -(-n // 512)]
        for name, line in {
            "mooncake": json.dumps({"timestamp": t, "input_length": n, "output_length": m, "hash_ids": ids}),
            "bailian": json.dumps(
                {"chat_id": i, "parent_chat_id": -1, "timestamp": 61 + t / 1e3, "input_length": n, "output_length": m,
                 "type": "text", "turn": 1, "hash_ids": [7, 8, *range(1000 + 60 * i, 1060 + 60 * i)][: -(-n // 16)]}
            ),
            "burstgpt": f"{19440110 + t / 1e3},GPT-4,{n},{m},{n + m},API log",
            "azure": f"2023-11-16 18:15:{46 + t // 1000}.{t % 1000:03d}0000,{n},{m}\r",
        }.items():  # fmt: skip
            header = {"burstgpt": "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n",
                      "azure": "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"}.get(name, "")  # fmt: skip
            with files[name].open("a", newline="") as out:
                out.write(header * (i == 0) + line + "\n")
    return files


def of_trace(url: str, path: Path, **workload: Any) -> LoadPlan:
    plan = replace(make_plan(url, seed=3, num_warmups=0, conc=0), workload=Workload(trace=str(path), **workload))
    trace = trace_of(plan)
    assert trace is not None
    return replace(plan, num_prompts=len(trace))


def log_rows(path: Path) -> dict[int, dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {int(row["id"].rpartition("-")[2]): row for row in rows}


def test_poisson_arrivals_are_exponential_and_on_time(tmp_path: Path) -> None:
    """The schedule passes a Kolmogorov-Smirnov test, and the server's log has the requests where the schedule has them."""
    from scipy.stats import kstest

    with Simulator(replace(FAST, truth_log=str(tmp_path / "log"))) as sim:
        plan = make_plan(sim.url, conc=0, num_prompts=400, num_warmups=4, request_rate=100.0, seed=5)
        records = asyncio.run(run_load(plan)).records
        sim.stats()
    assert records.completed.sum() == 400
    late = (records.send_s - records.scheduled_s)[records.measured]
    assert np.median(late) < 0.002
    assert late.min() >= 0
    wanted = schedule_s(plan)
    assert kstest(np.diff(wanted) * 100.0, "expon").pvalue > 0.01
    rows = log_rows(tmp_path / "log")
    arrived = np.array([rows[4 + i]["t_first_byte"] / 1e9 for i in range(400)])
    off = arrived - wanted
    assert np.median(np.abs(off - np.median(off))) < 0.001


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gamma_gaps_vary_as_asked(burstiness: float) -> None:
    plan = make_plan("http://x", conc=0, num_prompts=20_000, request_rate=50.0, burstiness=burstiness, seed=2)
    gaps = np.diff(schedule_s(plan))
    assert gaps.std() / gaps.mean() == pytest.approx(burstiness**-0.5, rel=0.05)


def test_even_gaps_are_even() -> None:
    times = schedule_s(make_plan("http://x", conc=0, num_prompts=100, request_rate=50.0, burstiness=1e6))
    assert np.diff(times) == pytest.approx(np.full(99, 0.02))


def test_a_ramp_has_its_rate_in_each_tenth() -> None:
    plan = replace(make_plan("http://x", conc=0, num_prompts=7650), workload=Workload(ramp="1:50/5m"))
    times = schedule_s(replace(plan, load=replace(plan.load, burstiness=1e6)))
    got = np.histogram(times, np.linspace(0, 300, 11))[0] / 30
    assert got == pytest.approx([1 + 49 * (i + 0.5) / 10 for i in range(10)], rel=0.05)


def test_a_server_that_stalls_shows_in_the_latencies_from_the_schedule(tmp_path: Path) -> None:
    """Two streams at most: while both wait, requests stand in line, and only the schedule knows since when."""
    with Simulator(FAST) as sim:
        sim.set_faults("stall_mid_stream:0.05:0.5")
        plan = make_plan(sim.url, conc=2, num_prompts=150, num_warmups=0, request_rate=50.0, seed=6)
        records = asyncio.run(run_load(plan)).records
    done = records.completed
    assert done.sum() == 150
    sent = np.quantile((records.last_s - records.send_s)[done], 0.5)
    scheduled = np.quantile((records.last_s - records.scheduled_s)[done], 0.5)
    assert scheduled > 2 * sent


@pytest.mark.slow
def test_a_server_that_stalls_for_2_s_once_shows_in_the_p99_from_the_schedule() -> None:
    """Its processes are stopped for two seconds: of 400 requests a quarter wait, and those at the p99 nearly all of it."""
    with Simulator(FAST) as sim:
        plan = make_plan(sim.url, conc=3, num_prompts=400, num_warmups=3, request_rate=50.0, seed=8)
        stopped: list[float] = []

        def show(progress: Progress) -> None:
            if progress.phase == "measure" and progress.done >= 80 and not stopped:
                stopped.append(time.monotonic())
                for pid in sim.pids:
                    os.kill(pid, signal.SIGSTOP)
                again = threading.Timer(2.0, lambda: [os.kill(pid, signal.SIGCONT) for pid in sim.pids])
                again.start()

        records = asyncio.run(run_load(plan, show=show)).records
    done = records.completed
    assert done.sum() == 400
    assert stopped
    from_schedule = np.quantile((records.first_s - records.scheduled_s)[done], 0.99)
    from_send = np.quantile((records.first_s - records.send_s)[done], 0.99)
    assert from_schedule > 1.7
    assert from_send < 0.5 * from_schedule, "at most three requests were under way: too few for a p99"


@pytest.mark.parametrize("name", ["mooncake", "bailian", "burstgpt", "azure"])
@pytest.mark.parametrize("speed", [1.0, 2.0])
def test_a_trace_is_replayed_as_it_is(name: str, speed: float, tmp_path: Path) -> None:
    """Each request's tokens exactly, and its arrival by the server's log: the median within a millisecond."""
    path = samples(tmp_path)[name]
    with Simulator(replace(FAST, truth_log=str(tmp_path / "log"))) as sim:
        plan = of_trace(sim.url, path, speed=speed)
        records = asyncio.run(run_load(plan)).records
        sim.stats()
    trace = trace_of(plan)
    assert trace is not None
    rows = log_rows(tmp_path / "log")
    assert len(rows) == len(trace) == 40
    assert [rows[i]["prompt_tokens"] for i in range(40)] == trace.input_tokens.tolist()
    assert [rows[i]["n_tokens"] for i in range(40)] == trace.output_tokens.tolist()
    assert sorted(records.input_tokens.tolist()) == sorted(trace.input_tokens.tolist())
    arrived = np.array([rows[i]["t_first_byte"] for i in range(40)]) / 1e9
    off = (arrived - arrived[0]) - trace.arrival_s
    off -= np.median(off)
    assert np.median(np.abs(off)) < 0.001
    assert np.abs(off).max() < LOOSE_S
    assert trace.span_s == pytest.approx(2.0 / speed, rel=0.1)


@pytest.mark.parametrize("blocks", [None, 40], ids=["endless", "finite"])
def test_hits_equal_theory_to_the_block(blocks: int | None, tmp_path: Path) -> None:
    """One after the other, as the theory has it: conversations that share their beginnings, and a cache that is too small."""
    rng = np.random.default_rng(9)
    rows = []
    for i in range(30):
        chat = int(rng.integers(0, 4))
        n = int(rng.integers(60, 1500))
        rows.append((200 * i, n, 2, [10 * chat + k for k in range(-(-n // 512))]))
    path = mooncake(tmp_path / "trace", rows)
    spec = replace(FAST, ttft_ms=5, truth_log=str(tmp_path / "log"))
    if blocks is not None:
        spec = replace(spec, kv_cache_tokens=16 * blocks, max_model_len=16 * blocks)
    with Simulator(spec) as sim:
        plan = replace(of_trace(sim.url, path, speed=4.0), conc=1)
        if blocks is not None:
            plan = _shorter(plan, path, 16 * blocks - 8)
        asyncio.run(run_load(plan))
        sim.stats()
    trace = trace_of(plan)
    assert trace is not None
    found = log_rows(tmp_path / "log")
    pool = IdPool(plan)
    prompts = [pool.ids[trace_prompt(trace, plan, i, len(pool))] for i in range(len(trace))]
    theory = hit_tokens([block_hashes(p, 16) for p in prompts], [len(p) for p in prompts], 16, blocks)
    assert [found[i]["cached_tokens"] for i in range(len(trace))] == theory.tolist()
    assert theory.sum() > 0
    assert (blocks is None) or theory.sum() < hit_tokens(
        [block_hashes(p, 16) for p in prompts], [len(p) for p in prompts], 16
    ).sum()


def test_each_run_of_a_trace_has_content_of_its_own(tmp_path: Path) -> None:
    """A trace that is measured twice must not find the first run's prompts in the cache."""
    plan = of_trace("http://x", mooncake(tmp_path / "t", [(0, 600, 4, [1, 2]), (5, 600, 4, [1, 3])]))
    trace = trace_of(plan)
    assert trace is not None
    again = replace(plan, first_serial=plan.drawn)
    one, two = trace_prompt(trace, plan, 0, 30000), trace_prompt(trace, plan, 1, 30000)
    assert (one[:512] == two[:512]).all()
    other = trace_prompt(trace, again, 0, 30000)
    assert (one == other).mean() < 0.01
    assert (trace_prompt(trace, again, 1, 30000)[:512] == other[:512]).all()


def test_a_part_of_a_trace_is_described_as_that_part(tmp_path: Path) -> None:
    rows = [(0, 600, 4, [1, 2]), (1000, 600, 4, [1, 3]), (1000, 600, 4, [1, 2]), (9000, 600, 4, [1, 2])]
    workload = of_trace("http://x", mooncake(tmp_path / "t", rows), tick_spread="uniform").workload
    assert mean_rate(workload, 2) == pytest.approx(2.0)
    assert mean_rate(workload) == pytest.approx(4 / 9)
    assert shareable_tokens(workload, 2) == 512 < shareable_tokens(workload)
    assert facts_of(workload, Sessions()) == facts_of(replace(workload, tick_spread="none"), Sessions()), (
        "not by the seed of a session"
    )


def _shorter(plan: LoadPlan, path: Path, most: int) -> LoadPlan:
    """The same trace with prompts that fit into a small cache."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["input_length"] = min(row["input_length"], most)
        row["hash_ids"] = row["hash_ids"][: -(-row["input_length"] // 512)]
    short = path.with_name("short")
    short.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return replace(plan, workload=replace(plan.workload, trace=str(short)))


def test_many_requests_of_a_trace_are_made_one_by_one(tmp_path: Path) -> None:
    """The requests lie in a file: what is held of each is where it lies."""
    import resource

    rows = [(i, 300, 4, [i // 8]) for i in range(20_000)]
    plan = of_trace("http://x", mooncake(tmp_path / "trace", rows))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    files = RequestFile(plan)
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert len(files.requests) == 20_000
    assert sum(one.size for one in files.requests) > 30e6
    assert grown_mb < 30
    files.close()


@pytest.mark.slow
def test_a_load_process_of_100_000_prompts_of_a_trace_stays_small(tmp_path: Path) -> None:
    """All of them ready, the first on their way: prompts lie in a file, and what is held of each is where."""
    rows = [(i, 512, 2, [i // 8]) for i in range(100_000)]
    phase = ""

    def show(progress: Progress) -> None:
        nonlocal phase
        phase = progress.phase

    async def gone() -> str | None:
        return "seen enough" if phase == "measure" else None

    with Simulator(FAST) as sim:
        plan = of_trace(sim.url, mooncake(tmp_path / "trace", rows))
        run = asyncio.run(run_load(plan, show=show, gone=gone))
    assert run.ending.kind is End.SERVER_GONE
    assert int(run.records.measured.sum()) == 100_000, "those that were not sent are counted"
    assert run.records.completed.any() or np.isfinite(run.records.send_s).any()
    assert run.stats[0]["max_rss_bytes"] < 300e6
