"""A sweep within a time, on a clock of its own: what is measured first, what is left out, what is looked at again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench_tests.measure.budget import BudgetedSweep, look_requests
from bench_tests.measure.expected import Expected
from bench_tests.measure.point import Measurement
from bench_tests.sweep.point import Point
from bench_tests.sweep.profile import load_profile
from bench_tests.verdict.decide import Verdict
from tests.support.make_records import records

LIMIT_S = 1.0


@dataclass
class Bench:
    """Measures nothing: a point takes a second a wave, and its TTFTs are as `ttft_s` says."""

    folder: Path
    ttft_s: Callable[[Point], float] = lambda point: 0.5
    now_s: float = 0.0
    calls: list[tuple[Point, int]] = field(default_factory=list)

    def sweep(self) -> Any:
        profile = load_profile("demo")
        profile = replace(
            profile,
            load=replace(profile.load, start="together", prompts_per_concurrency=10, warmups_per_concurrency=1),
            slo=replace(profile.slo, limits_s={"p99_ttft": LIMIT_S}, overrides=()),
        )
        return SimpleNamespace(
            profile=profile, serial=0, vocab_size=0, uncountable=False, num_prompts=profile.num_prompts, earlier=lambda point: None,
            block=lambda point: point.conc,
        )  # fmt: skip

    async def measure(self, mine: Any, point: Point, run: int) -> Measurement:
        n = mine.profile.num_prompts(point)
        self.now_s += (n + mine.profile.num_warmups(point)) / point.conc
        self.calls.append((point, n))
        assert mine.profile.timeouts.point > 0
        ttft_s = self.ttft_s(point) * (1 + 0.001 * np.sin(np.arange(n)))
        kept = records([0.0] * n, [[t, t + 0.1] for t in ttft_s.tolist()])
        path = self.folder / f"{point}-{n}.json"
        path.with_suffix(".npz").write_bytes(kept.save())
        word = "FAILED" if np.quantile(ttft_s, 0.99) > LIMIT_S else "PASSED"
        result = {"records": f"{point}-{n}.npz", "num_prompts": n, "verdict": word, "messages": []}
        return Measurement(point, run, result, path, Verdict(word))

    def run(self, points: list[Point], budget_s: float) -> BudgetedSweep:
        cases = [(point, 1) for point in points]
        sweep = BudgetedSweep(self.sweep(), cases, budget_s, budget_s, self.measure, lambda: self.now_s)
        asyncio.run(sweep.run())
        return sweep


GRID = [Point(isl, 128, conc) for isl in (1024, 2048, 4096) for conc in (4, 16, 64)]


def test_clear_points_take_a_third_of_their_requests(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lambda point: 0.5 if point.conc < 64 else 2.0)
    done = bench.run(GRID, 1000.0)
    assert not done.left_out
    assert not done.unclear
    assert [n for _, n in bench.calls] == [max(24, 3 * point.conc) for point, _ in bench.calls]
    assert bench.now_s <= 0.45 * 11 * len(GRID)
    assert "9 of 9 points settled" in done.words()[0]


def test_a_point_close_to_its_limit_is_measured_whole(tmp_path: Path) -> None:
    near = GRID[-1]  # no heavier one says anything of it
    bench = Bench(tmp_path, lambda point: 0.997 if point == near else 0.5)
    done = bench.run(GRID, 1000.0)
    assert bench.calls[-1] == (near, 10 * near.conc)
    assert bench.calls[-2] == (near, 6 * near.conc)  # twice the first look's, before all of them
    assert len(bench.calls) == len(GRID) + 2
    assert not done.unclear


def test_an_open_look_is_settled_by_a_heavier_point_that_passed(tmp_path: Path) -> None:
    near = GRID[4]
    bench = Bench(tmp_path, lambda point: 0.997 if point == near else 0.5)
    done = bench.run(GRID, 1000.0)
    assert len(bench.calls) == len(GRID)
    assert not done.unclear
    assert "heavier" in done.rewritten[near, 1].verdict.messages[-1]
    bench = Bench(tmp_path, lambda point: 0.997 if point == near else 2.0)  # heavier points that failed say nothing
    assert (near, 160) in (bench.run(GRID, 1000.0) and bench.calls)


def test_what_does_not_fit_is_named_and_nothing_goes_beyond_the_time(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    done = bench.run(GRID, 30.0)
    assert bench.now_s <= 30.0
    assert done.left_out
    assert {point for point, _ in done.left_out} == set(GRID) - {point for point, _ in bench.calls}
    assert all("--resume" in words for words in done.left_out.values())
    assert len(bench.calls) >= 4
    assert [p for p, _ in bench.calls[:2]] == [Point(isl, 128, 4) for isl in (1024, 4096)]


def test_close_to_call_and_no_time_is_an_error_that_says_so(tmp_path: Path) -> None:
    near = GRID[0]
    bench = Bench(tmp_path, lambda point: 0.997 if point == near else 0.5)
    done = bench.run([near], 12.0)
    (found,) = done.unclear.values()
    assert found.verdict.word == "ERROR"
    assert "too close to call" in found.verdict.messages[0]
    assert '"ERROR"' in found.path.read_text()
    assert not done.left_out


def test_a_second_look_that_the_budget_ends_leaves_the_first(tmp_path: Path) -> None:
    near, requests = GRID[0], tmp_path / "records" / "one.npz"

    class Cut(Bench):
        async def measure(self, mine: Any, point: Point, run: int) -> Measurement:
            self.now_s += 10 * len(self.calls)  # what nobody foresaw
            found = await super().measure(mine, point, run)
            found = replace(found, path=tmp_path / "one.json")
            cut = self.now_s > 20.0
            found.result["verdict"] = "ERROR" if cut else found.verdict.word
            found.path.write_text(json.dumps(found.result))
            requests.parent.mkdir(exist_ok=True)
            requests.write_text(str(found.result["num_prompts"]))
            return replace(found, verdict=Verdict("ERROR", ("the run was stopped",))) if cut else found

    bench = Cut(tmp_path, lambda point: 0.997)
    done = bench.run([near], 20.0)
    assert len(bench.calls) == 2, "a second look began"
    first = bench.calls[0][1]
    (found,) = done.unclear.values()
    assert (found.verdict.word, found.result["num_prompts"]) == ("ERROR", first)
    assert "too close to call" in found.verdict.messages[0]
    assert requests.read_text() == str(first), "the records are those of the figures"
    kept = json.loads((tmp_path / "one.json").read_text())
    assert kept["num_prompts"] == first
    assert "too close to call" in kept["messages"][0]


def test_without_a_measurement_no_time_is_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.run(GRID[:1], 0.0).words()[0].endswith("0 of 1 points settled")
    assert not bench.calls

    class Reused(Bench):
        async def measure(self, mine: Any, point: Point, run: int) -> Measurement:
            return replace(await super().measure(mine, point, run), kept=True)

    assert Reused(tmp_path).run(GRID, 1000.0).words() == [f"budget 1000 s: {len(GRID)} of {len(GRID)} points settled"]


def test_what_cannot_be_shortened_is_measured_whole(tmp_path: Path) -> None:
    sweep = Bench(tmp_path).sweep()
    assert look_requests(sweep, Point(1024, 128, 1)) == 10
    sweep.profile = replace(sweep.profile, slo=replace(sweep.profile.slo, mode="confident"))
    assert look_requests(sweep, Point(1024, 128, 16)) == 160


@pytest.mark.parametrize("other", [Point(1024, 128, 4), Point(4096, 128, 64), Point(1024, 256, 16)])
def test_an_unknown_point_takes_as_long_as_its_neighbours_say(other: Point) -> None:
    """A wave of longer answers, of longer prompts or of more streams takes longer, and never less."""
    times = Expected()
    assert times.seconds(other, 10) is None
    times.learn(Point(1024, 128, 4), 40, 40.0)
    mine, base = times.seconds(other, other.conc), times.seconds(Point(1024, 128, 4), 4)
    assert mine is not None
    assert base is not None
    assert mine >= base
