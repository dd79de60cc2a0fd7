"""The client's figures against the server's own log; and that a client which was starved of CPU says so and judges nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench_tests.calibration.ladder import errors, read_truth, truth_of
from bench_tests.load.plan import LoadPlan
from bench_tests.load.team import LoadRun, Progress, run_load
from bench_tests.measure.point import Measurement, Sweep
from bench_tests.server.attach import AttachedServer, ServedModel
from bench_tests.server.sampler import Sampler, sources_of
from bench_tests.server.served import Endpoint
from bench_tests.sim.simulator import SimSpec, Simulator
from bench_tests.sweep.point import Point
from bench_tests.sweep.profile import Profile, load_profile
from bench_tests.sweep.serving import Server
from bench_tests.sweep.settings import Validity
from bench_tests.sweep.slo import parse_objectives
from bench_tests.verdict.decide import ERROR
from tests.support.plans import make_plan
from tests.support.suite import ROOT

PACED = SimSpec(mode="paced", ttft_ms=100, gap_ms=10, prefix_caching=False, log_tokens=True)


@pytest.mark.parametrize(
    "spec",
    [
        PACED,
        replace(PACED, ttft_jitter="exp:20", gap_jitter="normal:2"),
        replace(PACED, step=True),
        replace(PACED, faults=("split",), utf8=True),
        replace(PACED, faults=("late_headers",)),
    ],
    ids=["plain", "jitter", "step", "split", "late_headers"],
)
def test_latencies_are_what_the_server_logged(spec: SimSpec, tmp_path: Path) -> None:
    """The best of five runs: a machine that does other things too keeps either side from its core now and then, the
    server also between its stamp and its write. A client that is wrong by itself is wrong each time.
    """
    off: dict[str, float] = {}
    for attempt in range(5):
        log = tmp_path / f"truth{attempt}.jsonl"
        with Simulator(replace(spec, truth_log=str(log))) as sim:
            run = asyncio.run(
                run_load(make_plan(sim.url, spec.model, isl=64, osl=32, conc=16, num_prompts=48, num_warmups=4))
            )
            sim.stats()
        truth, records = read_truth(log, skip=4), run.records
        assert len(truth.ttft) == records.completed.sum() == 48
        assert len(truth.itl) == 48 * 31
        off = errors(records, truth)
        if all(abs(off[name]) <= 0.005 for name in off if "itl" not in name) and abs(off["p50_itl"]) <= 0.01:
            return
    raise AssertionError(f"never within 0.5 % (ITL 1 %) of the server's log: {off}")


@pytest.mark.parametrize("streams", [64, 256])
def test_a_chats_latencies_are_what_the_server_logged(streams: int, tmp_path: Path) -> None:
    """Thinking, then content; within 0.1 % in the best of five runs, as above."""
    spec = replace(PACED, ttft_ms=200, gap_ms=40, think_tokens=8, log_tokens=False)
    off: dict[str, float] = {}
    for attempt in range(5):
        log = tmp_path / f"truth{attempt}.jsonl"
        with Simulator(replace(spec, truth_log=str(log))) as sim:
            plan = make_plan(
                sim.url, spec.model, isl=64, osl=24, conc=streams, num_prompts=2 * streams, num_warmups=4,
                endpoint="chat", tokenizer="words", template_adds=4,
            )  # fmt: skip
            records = asyncio.run(run_load(plan)).records
            sim.stats()
        rows = sorted(map(json.loads, log.read_text().splitlines()), key=lambda row: int(row["t_first_byte"]))[4:]
        assert records.completed.sum() == len(rows) == 2 * streams
        assert (records.input_tokens == records.asked_input).all()
        answer = np.array([row["t_first_answer"] - row["t_first_byte"] for row in rows]) / 1e9
        truth, done = truth_of(rows), records.completed
        tpot, ttfat = records.tpot_s()[done], (records.answer_s - records.send_s)[done]
        pairs = {"ttft": (records.ttft_s()[done], truth.ttft), "tpot": (tpot, truth.tpot), "ttfat": (ttfat, answer)}
        off = {
            f"p{100 * q:.0f}_{name}": float(np.quantile(said, q) / np.quantile(true, q) - 1)
            for name, (said, true) in pairs.items()
            for q in (0.5, 0.99)
        }
        if all(abs(error) <= 0.001 for error in off.values()):
            return
    raise AssertionError(f"never within 0.1 % of the server's log: {off}")


def test_the_number_of_load_processes_changes_neither_prompts_nor_figures(tmp_path: Path) -> None:
    """Prompts are the same each time; medians in the best of five pairs, since the machine does other things too."""
    for attempt in range(5):
        asked, medians = [], []
        for workers in (1, 3):
            log = tmp_path / f"truth{workers}-{attempt}.jsonl"
            with Simulator(replace(PACED, truth_log=str(log))) as sim:
                plan = make_plan(
                    sim.url, osl=16, conc=7, num_prompts=41, num_warmups=5, seed=9, range_ratio=0.5,
                    workers=workers,
                )  # fmt: skip
                records = asyncio.run(run_load(plan)).records
                sim.stats()
            rows = [json.loads(line) for line in log.read_text().splitlines()]
            asked.append(sorted((row["id"], row["prompt_tokens"], row["n_tokens"]) for row in rows))
            assert set(records.worker.tolist()) == set(range(workers))
            assert records.completed.sum() == 41
            medians.append([float(np.median(x[records.completed])) for x in (records.ttft_s(), records.tpot_s())])
        assert asked[0] == asked[1]
        assert len(asked[0]) == 46
        if medians[0] == pytest.approx(medians[1], rel=0.01):
            return
    raise AssertionError(f"one process and three never agree within 1 %: {medians}")


def test_reading_the_servers_metrics_beside_it_costs_the_timed_loop_nothing(tmp_path: Path) -> None:
    """CPU per event with and without, the least of rounds in turn: whatever else the machine does only adds to it."""
    log, spent = tmp_path / "truth.jsonl", {False: [1.0], True: [1.0]}
    off: dict[str, float] = {}
    for _ in range(8):
        for sampled in (False, True):
            log.unlink(missing_ok=True)
            with Simulator(replace(PACED, truth_log=str(log))) as sim:
                plan = make_plan(sim.url, PACED.model, isl=64, osl=256, conc=32, num_prompts=96, num_warmups=0)
                load = asyncio.run(_loaded(plan, Endpoint(sim.url) if sampled else None))
                sim.stats()
            events = int(load.records.events.sum())
            spent[sampled].append(float(load.stats[0]["cpu_s"]) / events)
            off = errors(load.records, read_truth(log, skip=0)) if sampled else off
        same = min(spent[True]) <= min(spent[False]) * 1.02
        if same and abs(off["p99_ttft"]) <= 0.005 and abs(off["p50_tpot"]) <= 0.005:
            return
    raise AssertionError(f"CPU per event {min(spent[True]):.3g} and {min(spent[False]):.3g} s without; {off}")


async def _loaded(plan: LoadPlan, read: Endpoint | None) -> LoadRun:
    """A load, with /metrics read as a sweep does."""
    sampler = Sampler(sources_of(Server(), read) if read else (), every_s=1.0)
    await sampler.start()
    load = await run_load(plan)
    await sampler.stop()
    assert read is None or len(sampler.rounds) > 5
    return load


# ------------------------------------------------------------------------------------------------ starved of CPU on purpose


def sweep(url: str, folder: Path, slo: str) -> Sweep:
    """The default thresholds, a load of 64 streams, and this objective."""
    demo = load_profile("demo")
    profile: Profile = replace(
        demo,
        model=replace(demo.model, id="simulated", vocab_size=1000),
        load=replace(demo.load, num_prompts=192, num_warmups=0, start="together"),
        validity=Validity(),
        slo=replace(demo.slo, limits_s=parse_objectives(slo), overrides=()),
    )
    model = ServedModel("simulated", ("simulated",), None, "1", True)
    return Sweep(profile, AttachedServer(Endpoint(url), "--base-url"), model, folder)


def load_process() -> int:
    """The load process that this one has started."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words, parent = (
                (process / "cmdline").read_bytes(),
                (process / "stat").read_text().rpartition(")")[2].split()[1],
            )
        except OSError:
            continue  # it has ended meanwhile
        if b"bench_tests.load.worker" in words and int(parent) == os.getpid():
            return int(process.name)
    raise AssertionError("no load process")


@pytest.mark.slow
@pytest.mark.parametrize("slo", ["p99_ttft<=10s", "p99_ttft<=1ms"], ids=["within", "beyond"])
def test_a_load_process_that_was_stopped_for_a_second_makes_an_ERROR_that_says_so(tmp_path: Path, slo: str) -> None:
    stopped: list[int] = []

    def show(progress: Progress) -> None:
        if progress.phase == "measure" and progress.done and not stopped:
            stopped.append(load_process())
            os.kill(stopped[0], signal.SIGSTOP)
            threading.Timer(1.0, os.kill, (stopped[0], signal.SIGCONT)).start()

    with Simulator(replace(PACED, ttft_ms=200)) as sim:
        found = asyncio.run(sweep(sim.url, tmp_path, slo).measure(Point(64, 64, 64), show=show))
    assert stopped
    assert_not_judged(found, "did not run for")


@contextmanager
def blaster(streams: int) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.support.blaster", str(streams)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("slo", ["p99_ttft<=100s,p99_itl<=10s", "p99_ttft<=1us,p99_itl<=1us"], ids=["within", "beyond"])
def test_a_load_beyond_the_clients_capacity_makes_an_ERROR_that_says_so(tmp_path: Path, slo: str) -> None:
    with blaster(64) as url:
        found = asyncio.run(sweep(url, tmp_path, slo).measure(Point(64, 1500, 64)))
    assert_not_judged(found, "of its core", "could not keep up", "did not run for", "for a core")


def assert_not_judged(found: Measurement, *reasons: str) -> None:
    assert found.verdict.word == ERROR
    assert found.result["completed"] == 192
    assert any(reason in message for message in found.verdict.messages for reason in reasons), found.verdict.messages
    assert not found.result["validity"]["valid"]
    assert not any("p99" in message and ">" in message for message in found.verdict.messages)
