"""Rounds of a point that follow each other: seen by their order over all points, counted for less, and said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench_tests.compare.context import noise_lines
from bench_tests.compare.following import following, order_of_rounds, scatter
from bench_tests.compare.judge import judge_tables
from bench_tests.compare.samples import METRICS
from bench_tests.compare.sweep_noise import point_noise
from bench_tests.compare.table import Column, LogTable, Side, Sides

SD = 0.02


def rounds(rng: np.random.Generator, points: int, count: int, rho: float) -> np.ndarray:
    out = rng.normal(0, SD, (points, count))
    for k in range(1, count):
        out[:, k] = rho * out[:, k - 1] + np.sqrt(1 - rho**2) * out[:, k]
    return out


def table(rng: np.random.Generator, rho: float, points: int = 48, counts: tuple[int, int] = (3, 3)) -> LogTable:
    sides = [
        Side(tuple(Column(name, "one", k, 1000.0) for k in range(n))) for name, n in zip("ab", counts, strict=True)
    ]
    none, level = np.zeros(points), 2.0 ** (np.arange(points) % 6)
    return LogTable(METRICS["mean_tpot"], rounds(rng, points, counts[0], rho), rounds(rng, points, counts[1], rho),
                    none, level, np.ones(points), none > 0, Sides(*sides), none)  # fmt: skip


def taken(one: LogTable) -> float:
    runs = point_noise(one).var * one.per_run
    return following(one, point_noise(one), runs, runs).factor


@pytest.mark.parametrize("counts", [(3, 3), (5, 5), (2, 7)])
@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
def test_a_correlation_is_found_by_the_order_of_the_rounds(counts: tuple[int, int], rho: float) -> None:
    one = table(np.random.default_rng(1), rho, 4000, counts)
    order = order_of_rounds(one, point_noise(one))
    assert order.rho == pytest.approx(rho, abs=0.05)
    assert order.z < 3 if rho == 0 else order.z > 6


def test_the_factor_is_what_the_mean_of_three_varies_more_than_its_rounds_say() -> None:
    one = table(np.random.default_rng(2), 0.5, 4000)
    noise = point_noise(one)
    assert order_of_rounds(one, noise).by_order == pytest.approx(3.14, abs=0.3)
    runs = noise.var * one.per_run
    assert scatter(one, runs, runs)[0] == pytest.approx(3.14, abs=0.2)
    assert taken(one) == pytest.approx(3.14, rel=0.12)


def test_independent_rounds_are_left_as_they_are_and_the_errors_are_as_said() -> None:
    rng = np.random.default_rng(3)
    tables = [table(rng, 0.0) for _ in range(200)]
    assert np.mean([taken(one) for one in tables]) < 1.04
    assert np.std([order_of_rounds(one, point_noise(one)).z for one in tables]) == pytest.approx(1, abs=0.2)
    found = np.array([scatter(one, v, v) for one in tables for v in (point_noise(one).var * one.per_run,)])
    assert found[:, 0].mean() == pytest.approx(1, abs=0.1)
    assert found[:, 0].std() == pytest.approx(found[:, 1].mean(), rel=0.25)


def test_a_round_set_aside_is_a_gap_in_the_order() -> None:
    one = table(np.random.default_rng(4), 0.5, 4000, (5, 5))
    gap = np.arange(5) == 2
    order = order_of_rounds(one.without(gap, gap), point_noise(one))
    assert order.rho == pytest.approx(0.5, abs=0.08)
    some = replace(one, cur=np.where(np.arange(4000)[:, None] % 2 * gap, np.nan, one.cur))  # of half of the points
    assert order_of_rounds(some, point_noise(some)).rho == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("counts, points", [((1, 1), 48), ((2, 2), 48), ((2, 1), 48), ((3, 3), 1), ((3, 3), 3)])
def test_fewer_than_three_rounds_or_a_point_or_two_say_nothing(counts: tuple[int, int], points: int) -> None:
    one = table(np.random.default_rng(5), 0.9, points, counts)
    assert taken(one) == 1
    judge_tables({"mean_tpot": one}, range(points))


def test_three_rounds_a_side_do_not_make_five_points_unsure_but_twenty_do_if_they_follow_each_other() -> None:
    rng = np.random.default_rng(6)
    assert np.mean([taken(table(rng, 0.0, 5)) > 1.2 for _ in range(100)]) < 0.05
    assert np.mean([taken(table(rng, 0.7, 5, (20, 20))) > 2 for _ in range(20)]) > 0.9


def test_points_of_one_concurrency_that_moved_together_are_no_scatter() -> None:
    one = table(np.random.default_rng(7), 0.0)
    runs = point_noise(one).var * one.per_run
    moved = replace(one, cur=one.cur + np.where(one.level >= 16, 0.1, 0.0)[:, None])
    assert scatter(moved, runs, runs)[0] == pytest.approx(scatter(one, runs, runs)[0], abs=0.3)


def test_a_comparison_says_that_rounds_follow_each_other_and_alarms_less() -> None:
    rng = np.random.default_rng(8)
    found = [judge_tables({"mean_tpot": table(rng, 0.6, counts=(5, 5))}, range(48)) for _ in range(30)]
    assert sum(any(c.verdict == "regression" for c in judged.changes) for judged in found) <= 2
    words = [line for line in noise_lines(found[0]) if "follow each other" in line]
    assert len(words) == 1
    assert words[0].startswith("mean TPOT: a point's rounds follow each other (correlation 0.")
    calm = judge_tables({"mean_tpot": table(rng, 0.0)}, range(48))
    assert not any("follow each other" in line for line in noise_lines(calm))


def test_rounds_set_aside_that_leave_no_neighbours_say_nothing() -> None:
    one = table(np.random.default_rng(12), 0.5, 12, (5, 2))
    one.cur[:, [1, 3]] = np.nan
    assert order_of_rounds(one, point_noise(one)).factor == 1
    rows = {"mean_tpot": table(np.random.default_rng(13), 0.0, 12, (5, 2))}
    rows["output_throughput"] = replace(
        table(np.random.default_rng(14), 0.0, 12, (5, 2)), metric=METRICS["output_throughput"]
    )
    rows["mean_tpot"].cur[:, 1] += 3.0
    rows["output_throughput"].cur[:, 3] -= 3.0
    found = judge_tables(rows, range(12))
    assert len(found.strays) == 2
    assert not [change for change in found.changes if change.verdict == "regression"]


@pytest.mark.parametrize("rho", [0.95, 0.99])
def test_a_factor_beyond_what_the_order_can_bound_is_not_taken_for_known(rho: float) -> None:
    for seed in range(40):
        one = table(np.random.default_rng(seed), rho, 5, (20, 20))
        runs = point_noise(one).var * one.per_run
        follow = following(one, point_noise(one), runs, runs)
        assert follow.factor == 1 or follow.df < 100
