"""The figures of a run against figures worked out by hand; of nothing there is no figure."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from bench_tests.figures import figures_where
from bench_tests.load.records import Records
from bench_tests.verdict.confidence import quantile_interval
from bench_tests.verdict.summary import figure, mean_in_flight, steady_window, summarize
from tests.support.make_records import records

# four requests, two at a time: TTFT 0.1, 0.2, 0.3, 0.4; three events each
FOUR = records(
    send=[0.0, 0.0, 1.0, 1.0],
    events=[[0.1, 0.5, 0.9], [0.2, 0.5, 1.0], [1.3, 1.5, 1.9], [1.4, 1.5, 2.0]],
    input_tokens=[10, 20, 30, 40],
)


def test_by_hand() -> None:
    got = summarize(FOUR, conc=2)
    assert (got["completed"], got["failed"], got["errors"]) == (4, 0, {})
    assert got["duration"] == pytest.approx(2.0)
    assert (got["total_input"], got["total_input_tokens"], got["total_output"], got["total_output_tokens"]) == (
        100,
        100,
        12,
        12,
    )
    assert got["request_throughput"] == pytest.approx(2.0)
    assert got["input_throughput"] == pytest.approx(50)
    assert got["output_throughput"] == pytest.approx(6)
    assert got["total_token_throughput"] == pytest.approx(56)
    assert got["mean_ttft"] == pytest.approx(0.25)
    assert got["median_ttft"] == pytest.approx(0.25)
    assert got["std_ttft"] == pytest.approx(math.sqrt(0.0125))
    assert got["p90_ttft"] == pytest.approx(0.37)  # linear: 0.3 + 0.7 · 0.1
    assert got["p99_ttft"] == pytest.approx(0.397)
    assert got["mean_e2el"] == pytest.approx(0.95)
    assert got["mean_tpot"] == pytest.approx((0.4 + 0.4 + 0.3 + 0.3) / 4)
    assert got["mean_itl"] == pytest.approx((0.4 + 0.4 + 0.3 + 0.5 + 0.2 + 0.4 + 0.1 + 0.5) / 8)
    assert got["good_completed"] is got["request_goodput"] is None


def test_one_token_has_no_tpot() -> None:
    got = summarize(records([0.0, 0.0], [[0.1], [0.2, 0.6]]), conc=2)
    assert got["mean_tpot"] == pytest.approx(0.4)
    alone = summarize(records([0.0], [[0.1]]), conc=1)
    assert alone["mean_tpot"] is alone["p99_itl"] is alone["ci95"]["p99_tpot"] is None
    assert alone["mean_ttft"] == pytest.approx(0.1)


def test_tpot_is_by_tokens_and_itl_by_events() -> None:
    got = summarize(records([0.0], [[0.1, 0.3, 0.7]], output_tokens=[7]), conc=1)
    assert got["mean_tpot"] == pytest.approx(0.1)
    assert got["mean_itl"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    "of", [Records.empty(), records([0.0, 0.1], [[], []], ["stalled", "http"]), records([math.nan], [[]], ["connect"])]
)
def test_of_nothing_no_figure_is_made(of: Records) -> None:
    got = summarize(of, conc=2, goodput_s={"ttft": 1.0})
    assert got["completed"] == 0
    assert got["failed"] == len(of)
    for row in figures_where(of="request"):
        assert got[row.name] is None
    for key in (
        "request_throughput",
        "request_goodput",
        "input_throughput",
        "output_throughput",
        "total_token_throughput",
    ):
        assert got[key] is None
    assert all(interval is None for interval in got["ci95"].values())
    assert got["steady_state"] is None or got["steady_state"]["p99_ttft"] is None
    json.dumps(got, allow_nan=False)


def test_failed_requests_count_but_have_no_figures() -> None:
    mixed = records(
        [0.0, 0.0, 0.5],
        [[0.1, 0.2], [0.3, 9.0], []],
        ["completed", "cut_off", "http"],
        error=["", "closed", "HTTP 500"],
    )
    got = summarize(mixed, conc=2)
    assert (got["completed"], got["failed"], got["errors"]) == (1, 2, {"http": 1, "cut_off": 1})
    assert got["error_examples"] == ["HTTP 500", "closed"]
    assert got["p99_e2el"] == pytest.approx(0.2)
    assert got["total_output"] == 2
    assert got["duration"] == pytest.approx(9.0)


def test_warm_ups_are_in_no_figure() -> None:
    warm = records([-5.0, 0.0], [[-1.0, -0.5], [0.1, 0.2]], measured=[False, True])
    got = summarize(warm, conc=1)
    assert (got["completed"], got["total_input"]) == (1, 10)
    assert got["p99_ttft"] == pytest.approx(0.1)
    assert got["duration"] == pytest.approx(0.2)


def test_goodput_wants_all_limits_kept() -> None:
    assert summarize(FOUR, 2, {"ttft": 0.25})["good_completed"] == 2
    assert summarize(FOUR, 2, {"ttft": 0.35, "tpot": 0.35})["good_completed"] == 1
    assert summarize(FOUR, 2, {"e2el": 0.95})["good_completed"] == 2
    assert summarize(FOUR, 2, {"ttft": 0.25})["request_goodput"] == pytest.approx(1.0)
    assert summarize(FOUR, 2, {"ttft": 0.001})["request_goodput"] == 0  # measured, and none was good: a true zero
    one_token = records([0.0], [[0.1]])
    assert summarize(one_token, 1, {"tpot": 0.01})["good_completed"] == 1


def test_the_queue_is_told_beside_ttft() -> None:
    late = records([1.0], [[1.5, 1.6]], scheduled_s=[0.2])
    got = summarize(late, conc=1)
    assert got["p99_queue_time"] == pytest.approx(0.8)
    assert got["p99_ttft"] == pytest.approx(0.5)
    assert got["p99_ttft_from_schedule"] == pytest.approx(1.3)
    assert got["p99_e2el_from_schedule"] == pytest.approx(1.4)


def test_the_steady_window_is_from_full_to_no_longer_full() -> None:
    #     0: 0 ───── 4      two at a time from 1 to 6: the third starts as the first ends
    #     1:   1 ─────── 6
    #     2:         4 ───── 8
    three = records([0.0, 1.0, 4.0], [[0.5, 4.0], [2.0, 6.0], [5.0, 8.0]])
    window = steady_window(three, 2)
    assert window is not None
    assert (window.start_s, window.end_s) == (1.0, 6.0)
    got = summarize(three, 2)["steady_state"]
    assert got["duration"] == 5.0
    assert got["mean_in_flight"] == pytest.approx(2.0)
    assert got["completed"] == 1  # the one that lies inside
    assert got["median_ttft"] == pytest.approx(1.0)
    assert got["output_throughput"] == pytest.approx(4 / 5)  # events at 2, 4, 5 and 6
    assert got["input_throughput"] == pytest.approx(20 / 5)  # first tokens at 2 and 5
    assert got["request_throughput"] == pytest.approx(2 / 5)


def test_a_concurrency_that_was_never_reached_has_no_steady_window() -> None:
    assert steady_window(FOUR, 3) is None
    assert steady_window(Records.empty(), 1) is None
    assert summarize(FOUR, 3)["steady_state"] is None


def test_a_request_without_an_end_stays_in_flight() -> None:
    hanging = records([0.0, 0.0, 1.0], [[], [0.5, 1.0], [1.5, 2.0]], ["stalled", "completed", "completed"])
    window = steady_window(hanging, 2)
    assert window is not None
    assert (window.start_s, window.end_s) == (0.0, 2.0)


def test_a_request_that_was_cancelled_before_its_first_token_was_in_flight_until_then() -> None:
    some = records([0.0, 0.0, 1.0], [[], [0.5, 2.0], [1.5, 2.0]], ["withdrawn", "completed", "completed"],
                   end_s=[1.0, 2.0, 2.0])  # fmt: skip
    window = steady_window(some, 2)
    assert window is not None
    assert (window.start_s, window.end_s) == (0.0, 2.0)
    assert mean_in_flight(some, window) == pytest.approx(2.0)


def test_refused_requests_do_not_stay_in_flight() -> None:
    sends = [float(i // 2) for i in range(20)]
    events = [[] if i % 5 == 0 else [s + 0.5, s + 1.0] for i, s in enumerate(sends)]
    kinds = ["http" if i % 5 == 0 else "completed" for i in range(20)]
    some = records(sends, events, kinds)
    window = steady_window(some, 2)
    assert window is not None
    assert window.end_s <= 10.0
    assert mean_in_flight(some, window) == pytest.approx(1.6, abs=0.2)
    assert mean_in_flight(some, window) <= 2


def test_intervals_know_that_batches_share_their_luck() -> None:
    rng = np.random.default_rng(5)
    luck = np.repeat(rng.lognormal(0, 0.3, 60), 16)
    ttft = 0.1 * luck * rng.lognormal(0, 0.02, len(luck))
    of = records(
        np.repeat(np.arange(60.0) * 9, 16).tolist(),
        [[9 * (i // 16) + t, 9 * (i // 16) + 5] for i, t in enumerate(ttft)],
    )
    together = summarize(of, 16, block=16)["ci95"]["median_ttft"]
    alone = quantile_interval(ttft, 0.5)
    assert together[1] - together[0] > 2 * (alone.high - alone.low)


def test_percentiles_are_numpys_linear_ones() -> None:
    values = np.random.default_rng(1).exponential(size=137)
    assert figure(values, "p99") == pytest.approx(np.percentile(values, 99))
    assert figure(values, "p99.9") == pytest.approx(np.percentile(values, 99.9))
    assert figure(values, "median") == pytest.approx(np.median(values))
    assert figure(np.empty(0), "p99") is None


def test_intervals_hold_their_figure() -> None:
    many = records([0.0] * 400, [[0.1 + i * 149 % 400 / 1000, 5.0] for i in range(400)])  # in no order
    got = summarize(many, 400)
    for name in ("median_ttft", "p99_ttft"):
        low, high = got["ci95"][name]
        assert low <= got[name]
        assert high is None or got[name] <= high


def test_time_in_line_is_of_a_schedule_and_a_closed_loop_has_none() -> None:
    sends = [0.0, 0.5, 0.9]
    made = records(sends, [[s + 0.1, s + 0.2] for s in sends])
    closed = dataclasses.replace(made, scheduled_s=np.zeros(3))
    for key in ("p99_queue_time", "p99_ttft_from_schedule", "p99_e2el_from_schedule"):
        assert summarize(closed, conc=2)[key] is None
    rated = dataclasses.replace(
        closed, scheduled_s=closed.send_s + 1.0 - np.array([0.1, 0.2, 0.3]), send_s=closed.send_s + 1.0
    )
    assert rated.open_loop
    assert summarize(rated, conc=2)["p99_queue_time"] == pytest.approx(0.298)
