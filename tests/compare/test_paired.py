"""Two servers measured in turn: what the rounds' differences say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench_tests.compare.paired import compare_paired
from bench_tests.compare.samples import PointRuns, RunSample
from benchmarks.paired_servers import comparison


def runs(logs: list[float]) -> list[RunSample]:
    return [RunSample(summary={"mean_tpot": math.exp(log)}, n=100) for log in logs]


def test_a_drift_in_a_straight_line_cancels_in_each_round() -> None:
    """A B B A, then B A A B, while everything grows by 1 % a run: both sides are equal, and exactly so."""
    order = "ABBABAAB"
    a, b = ([0.01 * at for at, side in enumerate(order) if side == name] for name in "AB")
    found = compare_paired([PointRuns("p", runs(a))], [PointRuns("p", runs(b))], thresholds={"mean_tpot": 0.05})
    assert found.changes[0].ratio == pytest.approx(1.0)
    assert not found.regressions


def test_b_is_the_side_that_is_slower() -> None:
    noise = [0.001, -0.001, 0.002, 0.0, -0.002, 0.001]
    found = compare_paired([PointRuns("p", runs(noise))], [PointRuns("p", runs([x + 0.1 for x in noise[::-1]]))],
                           thresholds={"mean_tpot": 0.05})  # fmt: skip
    (change,) = found.changes
    assert change.verdict == "regression"
    assert change.ratio == pytest.approx(math.exp(0.1), rel=0.01)
    assert change.runs == (6, 6)


def test_a_run_that_is_missing_takes_its_round_along_and_shifts_no_pair() -> None:
    a, b = runs([0.0, 0.0, 5.0, 5.0, 0.0, 0.0]), runs([0.1, 0.1, 5.1, 5.1, 0.1, 0.1])
    a[3] = RunSample()
    found = compare_paired([PointRuns("p", a)], [PointRuns("p", b)], thresholds={"mean_tpot": 0.05})
    assert found.changes[0].ratio == pytest.approx(math.exp(0.1))
    assert found.changes[0].runs == (4, 4)


def test_alarms_and_finds_of_simulated_sessions() -> None:
    """Fewer than of docs/statistics.md: 40 sessions of each kind while the machine drifts by 10 %."""
    rng = np.random.default_rng(8)
    assert sum(bool(comparison(rng, 5, 0.0, "line", 12).regressions) for _ in range(40)) <= 2
    assert sum(bool(comparison(rng, 5, 0.02, "line", 12).regressions) for _ in range(40)) >= 36
    assert sum(bool(comparison(rng, 5, -0.05, "line", 12).improvements) for _ in range(40)) >= 36
