"""The experiments behind the documented error rates find what is surely there, and a missed target is told."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks._comparison import FALSE_ALARMS, FOUND, Pairs, count, interval, oracle, rows_of_alarms, rows_of_power
from benchmarks._error_rate_runs import coverage
from benchmarks._not_judged import Cell, needed
from benchmarks._pieces import PIECE, in_order, simulate
from benchmarks._power_picture import draw
from benchmarks._scenarios import Effect, Scenario, pair
from benchmarks._simulated_sweeps import KIMI_K2
from benchmarks.verdict_error_rates import Report, markdown


def test_the_grid_is_kimi_k2s() -> None:
    assert len(KIMI_K2) == 48
    assert {point.n for point in KIMI_K2} == {40, 80, 160, 320, 480, 640}


def test_what_is_found_is_counted() -> None:
    got = count(Pairs(Scenario("everything slower", one_start=True, effect=Effect(1.5, 1.5)), 2, 1))
    assert got["pairs"] == got["any"] == got["sweep"] == got["found mean_tpot"] == 2
    one = count(Pairs(Scenario("a point", one_start=True, effect=Effect(tpot=2.0, one_point=True)), 2, 2))
    assert one["found"] == 2
    assert one["sweep"] == one["untrue x"] == 0


def test_the_scenarios_hold_what_they_say() -> None:
    rng = np.random.default_rng(1)
    day, _ = pair(rng, Scenario("days", day=0.5, days=4))
    groups = day["mean_tpot"].groups[1].mean(axis=0)
    assert groups.std() > 0.1  # all points of a day move together
    assert day["mean_tpot"].sides.base.groups == 4
    stray, _ = pair(rng, Scenario("stray", stray=0.5, stray_sides=(0,)))
    off = stray["mean_tpot"].cur.mean(axis=0)
    assert off.max() - np.median(off) == pytest.approx(np.log(1.5), abs=0.05)
    both, _ = pair(rng, Scenario("coupled"))
    left = [both[name].cur - both[name].cur.mean(axis=1, keepdims=True) for name in ("mean_tpot", "output_throughput")]
    assert np.corrcoef(left[0].ravel(), left[1].ravel())[0, 1] < -0.3  # a slower round has the lower throughput


def test_rows_say_whether_constants_were_chosen_by_them() -> None:
    used = [row.used for row in FALSE_ALARMS]
    assert 0.35 < sum(used) / len(used) < 0.65
    names = [row.name for row in (*FALSE_ALARMS, *FOUND)]
    assert len(set(names)) == len(names) >= 50
    shown = {row[1]: row[2] for row in rows_of_alarms([(row, Counter(pairs=1)) for row in FALSE_ALARMS])}
    assert shown["t(3), 1 against 3"] == shown["one round 30 % slower on both sides"] == "used"
    assert shown["t(3), 1 run against 1"] == "not used"


def test_a_row_beyond_its_target_says_so() -> None:
    held, high, wide = (
        rows_of_alarms([(FALSE_ALARMS[0], Counter(pairs=n, any=found))])[0][6]
        for n, found in ((600, 4), (600, 7), (50, 0))
    )
    assert held == "met"
    assert "missed" in high
    assert "missed" in wide  # too few pairs show nothing
    point = next(row for row in FOUND if row.scenario.name == "+10 % TPOT at one point, 3 against 3")
    assert "missed" in rows_of_power([(point, Counter(pairs=600, found=560))])[0][4]
    assert rows_of_power([(point, Counter(pairs=600, found=575))])[0][4] == "met"


def test_pieces_go_on_where_they_were_ended_and_come_out_the_same(tmp_path: Path) -> None:
    rows = {"quiet": Scenario("quiet", one_start=True), "days": Scenario("days", day=0.01)}
    pieces = [replace(piece, pairs=2) for piece in in_order([rows], 2 * PIECE)]
    assert [piece.row for piece in pieces] == ["quiet", "days", "quiet", "days"]
    file = tmp_path / "pairs.jsonl"
    assert simulate(pieces, 7, file=file, stop_s=-1.0) == {}
    first = simulate(pieces[:3], 7, file=file)
    assert first["quiet"]["pairs"] == 4
    whole = simulate(pieces, 7, file=file)
    assert len(file.read_text().splitlines()) == 4
    assert whole == simulate(pieces, 7)
    assert simulate(pieces, 8, file=file, stop_s=-1.0) == {}  # pieces of another seed are not taken


def test_a_comparison_that_is_too_noisy_is_counted_as_not_judged() -> None:
    quiet, loud = (
        needed(Cell(Scenario("", runs=runs, tpot=0.005 * k, ttft=0.02 * k), 3, 1))
        for runs, k in (((5, 5), 1), ((1, 1), 4))
    )
    assert max(max(pair) for pair in quiet) < 5 < min(min(pair) for pair in loud)


def test_the_interval_of_a_share_by_hand() -> None:
    # Clopper and Pearson: 0 of 600: 1 − 0.025^(1/600); 6 of 600 as tabled
    assert interval(0, 600) == pytest.approx((0.0, 1 - 0.025 ** (1 / 600)))
    assert interval(6, 600) == pytest.approx((0.00368, 0.02163), abs=1e-4)


def test_coverage_notices_a_wrong_quantile(monkeypatch: pytest.MonkeyPatch) -> None:
    assert coverage("heavy-tailed", 0.5, 100, 200, 1) > 0.9
    monkeypatch.setattr("benchmarks._error_rate_runs._true_quantile", lambda kind, q: 1.1)
    assert coverage("heavy-tailed", 0.5, 100, 200, 1) < 0.1


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
    chances = [oracle(found) for found in FOUND if "one point, 3 against 3" in found.scenario.name]
    assert chances == sorted(chances)
    assert chances[0] < 0.2 < 0.99 < chances[-1]


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    draw(tmp_path / "img" / "p.png", "power", {"ours": [(1, 0.1), (2, 0.9)], "knows the noise": [(1, 0.2), (2, 1.0)]})
    assert (tmp_path / "img" / "p.png").read_bytes().startswith(b"\x89PNG")
