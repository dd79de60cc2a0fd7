"""Calibration: what makes a load true, not true or not judged; what is kept of it; and what it forbids later."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench_tests.calibration import ladder as calibration_room
from bench_tests.calibration.ladder import Truth, calibrate, calibrate_command, judge, ladder, read_truth, table
from bench_tests.calibration.store import (
    NOT_JUDGED,
    NOT_TRUE,
    TRUE,
    Calibration,
    Rung,
    calibration_for,
    calibration_path,
    host_facts,
    load_calibrations,
    save_calibration,
)
from bench_tests.errors import NotMeasured
from bench_tests.load.ending import Ending
from bench_tests.load.records import KINDS, OF_SESSIONS, Records
from bench_tests.load.team import LoadRun
from bench_tests.sweep.profile import load_profile
from tests.support.suite import run_suite

STREAMS, EVENTS, GAP_S, TTFT_S = 4, 11, 0.02, 0.2
QUIET = {"cpu_s": 0.1, "duration_s": 1.0, "core_wait_s": 0.0, "looks": 100}


def run(late_s: float = 0.0, gap_s: float = GAP_S, kind: str = "completed", **stats: Any) -> LoadRun:
    """Four requests that all took TTFT + 10 gaps, reported `late_s` late."""
    n, send = STREAMS, np.zeros(STREAMS)
    events = np.tile(TTFT_S + late_s + gap_s * np.arange(EVENTS), n)
    same: dict[str, Any] = {"first_s": send + TTFT_S + late_s, "last_s": send + TTFT_S + late_s + gap_s * (EVENTS - 1)}
    same["end_s"] = same["last_s"]
    empty: dict[str, Any] = {
        name: np.zeros(n)
        for name in ("connect_s", "lag_s", "first_blur_s", "last_blur_s", "answer_blur_s", "scheduled_s", "answer_s")
    }
    ints: dict[str, Any] = {
        name: np.full(n, EVENTS) for name in ("asked_output", "output_tokens", "events", "moments", "number")
    }
    more: dict[str, Any] = {
        name: np.full(n, 64)
        for name in ("asked_input", "input_tokens", "cached_tokens", "reasoning_tokens", *OF_SESSIONS)
    }
    records = Records(
        kind=np.full(n, KINDS.index(kind), np.int8), measured=np.ones(n, np.bool_), http_status=np.full(n, 200, np.int16),
        send_s=send, event_s=events, worker=np.zeros(n, np.int16), error=np.array([""] * n),
        **same, **empty, **ints, **more,
    )  # fmt: skip
    return LoadRun(records, [QUIET | stats], Ending(), 0.1)


def truth(lag_s: float = 0.0) -> Truth:
    gaps = np.full(STREAMS * (EVENTS - 1), GAP_S)
    return Truth(np.full(STREAMS, TTFT_S), np.full(STREAMS, GAP_S), gaps, np.full(STREAMS, lag_s), STREAMS * EVENTS)


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_load_is_true_when_every_figure_is_within_the_tolerance() -> None:
    rung = judge(STREAMS, 20, run(late_s=0.0009), truth())
    assert rung.outcome == TRUE
    assert rung.errors["p99_ttft"] == pytest.approx(0.0045)
    assert rung.errors["p99_tpot"] == pytest.approx(0)
    assert rung.got_events_per_s == pytest.approx(STREAMS * EVENTS / (TTFT_S + 0.0009 + 10 * GAP_S))
    assert rung.cpu_us_per_event == pytest.approx(0.1 / 44 * 1e6)


@pytest.mark.parametrize(("late_s", "gap_s", "figure"), [(0.0011, GAP_S, "ttft"), (0.0, GAP_S * 1.006, "itl")])
def test_beyond_the_tolerance_it_is_not_true_and_says_by_which_figure(late_s: float, gap_s: float, figure: str) -> None:
    rung = judge(STREAMS, 20, run(late_s, gap_s), truth())
    assert rung.outcome == NOT_TRUE
    assert figure in rung.why


def test_a_server_behind_its_schedule_is_blamed_instead_of_the_client() -> None:
    rung = judge(STREAMS, 20, run(late_s=0.1), truth(lag_s=0.011))
    assert rung.outcome == NOT_JUDGED
    assert "server" in rung.why
    assert judge(STREAMS, 20, run(late_s=0.1), truth(lag_s=0.009)).outcome == NOT_TRUE
    # late or not: what the client said of it was right
    assert judge(STREAMS, 20, run(), truth(lag_s=0.5)).outcome == TRUE


def test_a_client_that_had_to_wait_for_its_core_is_not_judged() -> None:
    rung = judge(STREAMS, 20, run(late_s=0.1, core_wait_s=0.2), truth())
    assert rung.outcome == NOT_JUDGED
    assert "held the client back" in rung.why


def test_failed_requests_are_no_truth() -> None:
    rung = judge(STREAMS, 20, run(kind="cut_off"), truth())
    assert rung.outcome == NOT_TRUE
    assert "4 of 4" in rung.why


def test_the_ladder_climbs_to_what_the_grid_asks_and_beyond() -> None:
    rungs = ladder(load_profile("kimi_k2"), 1)
    rates = [streams / gap for streams, gap in rungs]
    assert rates == sorted(rates)
    assert rungs[0][0] <= 64
    assert rates[-1] * 1000 > 100_000
    assert max(streams for streams, _ in ladder(load_profile("kimi_k2"), 2)) == 2 * max(streams for streams, _ in rungs)


def test_a_truth_log_is_read_without_its_warm_ups_and_failures(tmp_path: Path) -> None:
    log = tmp_path / "truth.jsonl"
    ok = {"outcome": "ok", "t_first_token": 300_000_000, "t_last_token": 500_000_000, "n_tokens": 3, "max_lag_us": 7}
    rows = [
        ok | {"t_first_byte": 100_000_000, "itl_ns": [150_000_000, 50_000_000]},
        ok | {"t_first_byte": 50_000_000, "itl_ns": [1, 2]},
        ok | {"t_first_byte": 70_000_000, "itl_ns": [1, 2], "outcome": "client_gone"},
    ]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    got = read_truth(log, skip=1)
    assert (got.ttft.tolist(), got.tpot.tolist(), got.itl.tolist()) == ([0.2], [0.1], [0.15, 0.05])
    assert got.lag_s.tolist() == pytest.approx([7e-6])
    with pytest.raises(NotMeasured, match=r"truth\.jsonl"):
        read_truth(log, skip=2)


def made(processes: int = 1, rate: float = 47_000.0) -> Calibration:
    rung = Rung(64, 20.0, 3000.0, 2990.0, {"p99_ttft": 0.001}, 12.0, 0.1, 0.0, TRUE)
    return Calibration("20260101-000000", host_facts(), processes, 0.005, rate, (rung,))


def test_a_calibration_comes_back_as_it_was_kept_one_for_each_number_of_processes() -> None:
    assert load_calibrations() == []
    first, second = made(), made(processes=2, rate=90_000.0)
    assert save_calibration(first) == save_calibration(second) == calibration_path()
    assert load_calibrations() == [first, second]
    save_calibration(replace(first, events_per_s=1.0))
    assert [entry.events_per_s for entry in load_calibrations()] == [1.0, 90_000.0]


@pytest.mark.parametrize("changed", ["hostname", "cpu", "cores", "kernel", "python", "client"])
def test_what_was_found_on_another_host_or_for_another_client_does_not_count(changed: str) -> None:
    save_calibration(replace(made(), host=host_facts() | {changed: "another"}))
    assert load_calibrations() == []


def test_more_processes_may_rely_on_what_fewer_were_found_to_carry_but_not_the_other_way() -> None:
    two, four = made(processes=2), made(processes=4)
    assert calibration_for([two, four], 3) is two
    assert calibration_for([two, four], 4) is four
    assert calibration_for([two, four], 1) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema_version": 2, "calibrations": []}',
        '{"schema_version": 1, "calibrations": [{"date": 1}]}',
    ],
)
def test_a_damaged_file_counts_as_none_and_is_replaced(text: str) -> None:
    calibration_path().parent.mkdir(parents=True)
    calibration_path().write_text(text)
    assert load_calibrations() == []
    save_calibration(made())
    assert load_calibrations() == [made()]


def options(**given: Any) -> Any:
    return lambda flag: given.get(flag.lstrip("-").replace("-", "_"))


def test_nothing_judged_is_not_measured_and_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    late = replace(made().rungs[0], outcome=NOT_JUDGED, why="the simulated server was late")
    monkeypatch.setattr(calibration_room, "calibrate", lambda profile, say: replace(made(), rungs=(late,)))
    said: list[str] = []
    assert calibrate_command(options(), said.append, 12) == 12
    assert any("the simulated server was late" in line for line in said)
    assert load_calibrations() == []


def test_an_unknown_profile_is_a_usage_error() -> None:
    said: list[str] = []
    assert calibrate_command(options(profile="nosuch"), said.append, 12) == 4
    assert "nosuch" in said[-1]


def test_this_client_is_calibrated_here() -> None:
    """The real thing, small: the client and the simulated server as processes, the truth log read."""
    found = calibrate(load_profile("demo"), rungs=[(8, 4.0)])
    rung = found.rungs[0]
    assert (found.load_processes, rung.streams, rung.gap_ms) == (1, 8, 4.0)
    assert set(rung.errors) == {"p50_ttft", "p99_ttft", "p50_tpot", "p99_tpot", "p50_itl", "p99_itl"}
    assert rung.offered_events_per_s == pytest.approx(8 * 128 / 0.708)
    # a machine that builds and tests at the same time may hold the server back, never make the client untrue unseen
    assert rung.outcome in (TRUE, NOT_JUDGED), rung
    assert found.events_per_s == (rung.got_events_per_s if rung.outcome == TRUE else 0)
    assert f"| {rung.streams} " in table(found)


def test_a_point_beyond_the_calibration_is_an_ERROR_that_cites_it(tmp_path: Path) -> None:
    save_calibration(made(rate=5.0))
    outcome = run_suite(
        tmp_path, "--server=sim", "-k", "isl64-osl8-conc4", env={"XDG_CACHE_HOME": str(tmp_path / "cache")}
    )
    assert outcome.code == 12, outcome.out
    (result,) = outcome.results().values()
    assert result["verdict"] == "ERROR"
    assert any("pytest --calibrate" in message for message in result["messages"])
    assert result["client"]["calibration"]["events_per_s"] == 5.0
