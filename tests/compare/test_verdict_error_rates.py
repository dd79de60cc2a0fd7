"""The experiments behind the documented error rates find what is surely there, and a missed target is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks._error_rate_runs import Pairs, Sweeps, alarms, coverage, false_fails, fixed_sizes, sequential_sweep
from benchmarks._power_picture import draw, oracle_point_power
from benchmarks._simulated_sweeps import KIMI_K2, Effect, Noise
from benchmarks.verdict_error_rates import Report, markdown


def test_the_grid_is_kimi_k2s() -> None:
    assert len(KIMI_K2) == 48
    assert {point.n for point in KIMI_K2} == {40, 80, 160, 320, 480, 640}


def test_alarms_are_counted() -> None:
    got = alarms(Pairs("everything slower", 2, 1, effect=Effect(tpot=1.5)))
    assert got["pairs"] == got["any"] == got["points"] == got["sweep median_tpot"] == 2
    one = alarms(Pairs("a point slower", 2, 2, effect=Effect(tpot=2.0), random_point=True, older=True, runs=1))
    assert one["named"] == 2
    assert one["wrong point"] == 0


def test_far_beyond_the_slo_is_FAIL_and_far_within_is_not() -> None:
    assert false_fails(Sweeps("beyond", 1, 1, ratio=3.0))["FAIL"] > 90
    assert false_fails(Sweeps("within", 1, 1, ratio=0.4))["FAIL"] == 0


def test_coverage_notices_a_wrong_quantile(monkeypatch: pytest.MonkeyPatch) -> None:
    assert coverage("heavy-tailed", 0.5, 100, 200, 1) > 0.9
    monkeypatch.setattr("benchmarks._error_rate_runs._true_quantile", lambda kind, q: 1.1)
    assert coverage("heavy-tailed", 0.5, 100, 200, 1) < 0.1


def test_sequential_rows_hold_the_fixed_runs_too() -> None:
    rows = sequential_sweep(6, 500, 1)
    assert all(0.5 <= ratio <= 2 and 0 < used <= 500 for ratio, used, _, _ in rows)
    assert all(len(fixed) == len(fixed_sizes(500)) for *_, fixed in rows)


def test_a_missed_target_is_told() -> None:
    report = Report(quick=False, seed=1)
    report.target("alarms", 0.011, "≤", 0.01, 1000)
    report.target("found", 0.96, "≥", 0.95, 1000)
    assert [target[-1] for target in report.targets] == [False, True]
    assert "missed" in markdown(report)
    lenient = Report(quick=True, seed=1)
    lenient.target("alarms", 0.05, "≤", 0.01, 40)
    lenient.target("alarms", 0.2, "≤", 0.01, 40)
    assert [target[-1] for target in lenient.targets] == [True, False]


def test_the_oracle_finds_large_effects_and_misses_small_ones() -> None:
    assert oracle_point_power(1.2, 1e-4, Noise()) > 0.99 > 0.2 > oracle_point_power(1.03, 1e-4, Noise())


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    draw(tmp_path / "img" / "p.png", "power", {"ours": [(1, 0.1), (2, 0.9)], "knows the noise": [(1, 0.2), (2, 1.0)]})
    assert (tmp_path / "img" / "p.png").read_bytes().startswith(b"\x89PNG")
