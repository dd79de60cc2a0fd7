"""The units of a comparison: what rounds, sessions, starts, days and loads do to it, and what it says where it cannot tell."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench_tests.compare.judge import Judged, judge_tables
from bench_tests.compare.regression import SweepComparison, compare_sweeps
from bench_tests.compare.samples import Origin, PointRuns, RunSample
from bench_tests.compare.words import blind_line, change_line, comparison_lines
from bench_tests.sweep.point import Point
from benchmarks._scenarios import KEYS, Effect, Scenario, pair

H100 = json.loads((Path(__file__).parents[1] / "support/data/h100_runs.json").read_text(encoding="utf-8"))["rows"]
POINTS = [Point(isl, 128, conc) for isl in (1024, 8192) for conc in (4, 16, 64)]


def judged(seed: int, scenario: Scenario) -> Judged:
    return judge_tables(pair(np.random.default_rng(seed), scenario)[0], KEYS)


def regressions(found: Judged) -> set[object]:
    return {c.point for c in (*found.changes, *found.overall) if c.verdict == "regression"}


def side(
    sessions: list[tuple[str, str]],
    moved: float = 0.0,
    rounds: int = 3,
    seed: int = 0,
    noise: float = 0.004,
    **facts: Any,
) -> list[PointRuns]:
    """Runs of POINTS in sessions on starts of the server, `moved` on the log scale, from summary figures."""
    rng = np.random.default_rng(seed)
    got = []
    for point in POINTS:
        runs = []
        for number, (session, start) in enumerate(sessions):
            origin = Origin(session, start, day=float(number), **facts)
            for off in moved + rng.normal(0, noise, rounds):
                tpot = 0.01 * np.exp(off)
                summary = {"mean_tpot": tpot, "median_tpot": tpot, "p99_tpot": 1.1 * tpot, "p99_ttft": 0.2 * np.exp(off),
                           "median_ttft": 0.15, "output_throughput": point.conc / tpot}  # fmt: skip
                runs.append(RunSample(summary=summary, n=10 * point.conc, block=point.conc, origin=origin))
        got.append(PointRuns(point, runs))
    return got


def overall(found: SweepComparison, metric: str = "mean_tpot") -> Any:
    return next(c for c in found.overall if c.metric == metric)


def test_a_shift_that_all_points_share_is_no_regression_between_starts_and_is_one_within_a_start() -> None:
    base = side([("then", "a")], seed=1)
    between = compare_sweeps(side([("now", "b")], 0.03, seed=2), base)
    assert not between.regressions
    assert any("every point by the same" in line and "start" in line for line in between.context)
    within = compare_sweeps(side([("now", "a")], 0.03, seed=2), base)
    assert overall(within).verdict == "regression"
    assert compare_sweeps(side([("now", "b")], 0.2, seed=2), base).regressions  # beyond what starts do


def test_more_rounds_of_one_start_make_a_comparison_no_surer_about_starts() -> None:
    few = compare_sweeps(side([("now", "b")], seed=2), side([("then", "a")], seed=1))
    many = compare_sweeps(side([("now", "b")], rounds=30, seed=2), side([("then", "a")], rounds=30, seed=1))
    assert overall(many).visible > 0.9 * overall(few).visible
    starts = [(f"s{i}", f"start {i}") for i in range(10)]
    known = compare_sweeps(side([("now", "b")], seed=2), side(starts, seed=1))
    assert overall(known).visible < 0.7 * overall(few).visible


def test_the_noise_of_starts_is_measured_where_there_are_several() -> None:
    rng = np.random.default_rng(3)
    noisy = [side([(f"s{i}", f"start {i}")], rng.normal(0, 0.05), seed=i) for i in range(8)]
    base = [PointRuns(p, [run for sweep in noisy for run in sweep[i].runs]) for i, p in enumerate(POINTS)]
    found = compare_sweeps(side([("now", "b")], 0.10, seed=20), base)
    assert not found.regressions
    assert any("measured over" in note for note in found.notes)


def test_a_stray_round_is_set_aside_and_named_and_hides_no_regression() -> None:
    for seed, sides in enumerate([(0,), (1,), (0, 1)]):
        scenario = Scenario("stray", stray=0.3, stray_sides=sides, one_start=True)
        calm = judged(seed, scenario)
        assert {s.side for s in calm.strays} == {("now", "baseline")[which] for which in sides}
        assert not regressions(calm)
        slow = judged(seed, scenario.with_("slow", effect=Effect(1.2, 1.2)))
        assert None in regressions(slow)


def test_a_stray_day_of_the_baseline_is_set_aside() -> None:
    found = judged(1, Scenario("day", days=3, stray_day=0.3, effect=Effect(1.5, 1.5)))
    assert [s.kind for s in found.strays] == ["session"]
    assert None in regressions(found)


def test_rounds_that_do_not_stray_are_seldom_set_aside() -> None:
    scenario = Scenario("rounds", shared=0.02, one_start=True)
    assert sum(bool(judged(seed, scenario).strays) for seed in range(40)) <= 2


def test_a_slow_point_is_named_whatever_the_day_does() -> None:
    rng = np.random.default_rng(4)
    scenario = Scenario("day", day=0.02, effect=Effect(tpot=1.2, one_point=True))
    for _ in range(4):
        tables, hit = pair(rng, scenario)
        assert hit is not None
        assert KEYS[hit] in regressions(judge_tables(tables, KEYS))


def test_half_of_the_points_of_another_load_may_move_with_it() -> None:
    base, now = side([("then", "a")], seed=1), side([("now", "a")], seed=2)
    moved = side([("now", "a")], 0.07, seed=3)
    mixed = [moved[i] if point.conc == 64 else now[i] for i, point in enumerate(POINTS)]
    assert {c.point for c in compare_sweeps(mixed, base).regressions if c.point} == {p for p in POINTS if p.conc == 64}

    def in_step(points: list[PointRuns], figure: float) -> list[PointRuns]:
        return [
            PointRuns(p.key, [replace(r, origin=replace(r.origin, in_step=figure)) for r in p.runs]) for p in points
        ]

    waves = compare_sweeps(in_step(mixed, 0.95), in_step(base, 0.75))
    assert not [c for c in waves.regressions if c.metric == "mean_tpot"]
    assert any(line.startswith("in step: 0.75 → 0.95") for line in waves.context)


def h100(start: str) -> list[PointRuns]:
    """The runs of one start, from their summary figures."""
    points: dict[Point, list[RunSample]] = {}
    for name, isl, conc, _, ttft, median, tpot, rate, waves, tokens in H100:
        if name == start:
            origin = Origin(name, name, in_step=waves, tokens_per_event=tokens)
            summary = {"p99_ttft": ttft, "median_ttft": median, "mean_tpot": tpot, "median_tpot": tpot,
                       "p99_tpot": 1.2 * tpot, "output_throughput": rate}  # fmt: skip
            points.setdefault(Point(isl, 128, conc), []).append(
                RunSample(summary=summary, n=10 * conc, block=conc, origin=origin)
            )
    return [PointRuns(point, runs) for point, runs in points.items()]


def test_a_new_start_of_an_h100s_server_is_no_regression_and_is_named_with_its_waves() -> None:
    for now, then in (("start 2", "start 1"), ("start 1", "start 2")):
        found = compare_sweeps(h100(now), h100(then))
        assert not found.regressions
        words = " ".join(found.context)
        assert "started anew" in words
        assert "in step: " in words
        assert "tokens per event: " in words


def test_an_h100s_server_without_async_scheduling_is_found_at_every_point() -> None:
    for then in ("start 1", "start 2"):
        found = compare_sweeps(h100("start 3"), h100(then))
        assert {c.point for c in found.regressions if c.metric == "mean_tpot"} == {None, *(p.key for p in h100(then))}


def test_three_answers() -> None:
    base = side([("then", "a")], seed=1)
    same = next(c for c in compare_sweeps(side([("now", "a")], seed=2), base).changes if c.metric == "mean_tpot")
    assert same.verdict == "same"
    assert 0 < same.at_most < 0.05
    assert "not slower by more than" in change_line(same)
    noisy = compare_sweeps(side([("now", "a")], seed=2, noise=0.2), side([("then", "a")], seed=1, noise=0.2))
    unclear = next(c for c in noisy.changes if c.metric == "output_throughput")
    assert unclear.verdict == "unclear"
    assert unclear.blind
    assert "would see from -" in change_line(replace(unclear, visible=0.5))  # a throughput's loss
    assert "--save-baseline" not in blind_line(noisy.blind)
    for change in noisy.changes:
        hardly = replace(change, visible=1e7, high=1e7, verdict="unclear")
        for words in (change_line(hardly), blind_line([hardly]), change_line(replace(hardly, verdict="regression"))):
            assert "00000" not in words, "where hardly anything is known, no number pretends to be one"
        assert "nothing short of" in change_line(hardly)
    slow = next(c for c in compare_sweeps(side([("now", "a")], 0.2, seed=2), base).changes if c.metric == "mean_tpot")
    assert "slower by 2" in change_line(slow)


@pytest.mark.parametrize("moved, next_words", [(0.0, "next: nothing"), (0.3, "next: look at what else differs")])
def test_a_comparison_never_says_no_change_alone(moved: float, next_words: str) -> None:
    found = compare_sweeps(side([("now", "a")], moved, seed=2), side([("then", "a")], seed=1))
    lines = comparison_lines(found)
    assert lines[-1].startswith(f"- {next_words}")
    assert not any("no change" in line for line in lines)
    assert any("not slower" in line or "slower by" in line for line in lines)
    assert any(line.startswith("- now: 3 rounds of 1 session, 1 start of the server") for line in lines)


def test_a_single_run_a_side_says_what_it_assumes_and_what_to_do() -> None:
    found = compare_sweeps(side([("now", "b")], rounds=1, seed=2), side([("then", "a")], rounds=1, seed=1))
    assert all("--repeat 3" in note for note in found.notes)


def test_what_would_be_seen_is_seen() -> None:
    seen = asked = 0
    for seed in range(30):
        calm = compare_sweeps(side([("now", "a")], seed=2 * seed), side([("then", "a")], seed=2 * seed + 1))
        moved = np.log1p(overall(calm).visible)
        slow = compare_sweeps(side([("now", "a")], moved, seed=2 * seed), side([("then", "a")], seed=2 * seed + 1))
        seen, asked = seen + (overall(slow).verdict == "regression"), asked + 1
    assert seen >= 0.85 * asked
