"""The server's counters beside the client's records: where the mean TTFT went, of which requests, and when that is not known."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench_tests.load.ending import Ending
from bench_tests.load.records import Records
from bench_tests.load.team import LoadRun
from bench_tests.measure.server_side import Reading, ServerSide, Story, tell
from bench_tests.server.metrics import Histogram, Metrics
from bench_tests.server.sampler import Source
from bench_tests.server.served import Endpoint
from bench_tests.sweep.point import Point
from bench_tests.sweep.slo import Objective
from bench_tests.verdict.checks.check import Check, RunFacts
from bench_tests.verdict.checks.server import server_ttft, ttft_words
from tests.support.make_records import records

ZERO = 1000.0
SOURCE = Source("server", Endpoint("http://engine:8000"))
# four requests after two of the warm-up; a TTFT of 100 ms for each
SENT = [-2.0, -2.0, 0.0, 0.0, 1.0, 1.0]
RUN = records(SENT, [[s + 0.1, s + 0.2, s + 0.3] for s in SENT], measured=[False, False, True, True, True, True])


def counters(requests: int, ttft: float = 0.09, queue: float = 0.05, prefill: float = 0.03, **values: float) -> Metrics:
    """What a server has counted after so many requests, each with these times."""
    histograms = {
        name: Histogram(requests, requests * each, {0.04: requests * (each <= 0.04), 0.1: requests, math.inf: requests})
        for name, each in (("ttft", ttft), ("queue", queue), ("prefill", prefill))
    }
    tokens = {"prompt_tokens": 10.0 * requests, "generation_tokens": 3.0 * requests, "started": 1.0}
    return Metrics(tokens | values, histograms)


def story(
    readings: Sequence[tuple[float, Metrics]], of: Records = RUN, several: str = "", remote: bool = False
) -> Story:
    """The story of a run; a reading takes 10 ms."""
    side = ServerSide([SOURCE], "m")
    side.readings = [Reading(ZERO + at - 0.01, ZERO + at, metrics, (metrics,)) for at, metrics in readings]
    load = LoadRun(of, [{"zero_unix_s": ZERO}], Ending(), 0.0)
    return tell(side, load, several, remote)


BEFORE, WARM, AFTER = (-3.0, counters(0)), (-0.5, counters(2)), (3.0, counters(6))


def test_the_parts_of_the_mean_ttft_are_of_the_measured_requests_and_add_up() -> None:
    slow = (-0.5, counters(2, ttft=9.0, queue=5.0, prefill=3.0))  # the warm-up was another thing
    last = counters(6)
    shifted = {
        name: Histogram(6, slow[1].histograms[name].sum_s + 4 * each, found.buckets)
        for (name, found), each in zip(last.histograms.items(), (0.09, 0.05, 0.03), strict=True)
    }
    facts = story([BEFORE, slow, (3.0, replace(last, histograms=shifted))]).facts
    assert (facts["of"], facts["same_requests"]) == ("measured", True)
    assert facts["requests"] == {"client": 4, "ttft": 4, "queue": 4, "prefill": 4}
    parts = facts["ttft"]
    assert parts["client_and_network_s"] == pytest.approx(0.01)
    assert parts["front_s"] == pytest.approx(0.01)
    assert (parts["queue_s"], parts["prefill_s"]) == (pytest.approx(0.05), pytest.approx(0.03))
    whole = sum(parts[f"{name}_s"] for name in ("client_and_network", "front", "queue", "prefill"))
    assert whole == pytest.approx(parts["client_s"]) == pytest.approx(0.1)
    assert facts["percentiles"]["ttft"]["p99"] == [0.04, 0.1]


@pytest.mark.parametrize(
    "readings, remote",
    [
        ([BEFORE, AFTER], False),  # none between warm-up and measured part
        ([BEFORE, (-0.5, counters(1)), AFTER], False),  # it came before the warm-up's end
        ([BEFORE, WARM, AFTER], True),  # the zero is of another host's clock
    ],
)
def test_without_a_reading_between_they_are_of_all_requests(
    readings: Sequence[tuple[float, Metrics]], remote: bool
) -> None:
    facts = story(readings, remote=remote).facts
    assert (facts["of"], facts["requests"]["client"], facts["same_requests"]) == ("all", 6, True)


def test_requests_of_others_are_told() -> None:
    facts = story([BEFORE, WARM, (3.0, counters(9))]).facts
    assert not facts["same_requests"]
    check = judged(facts)
    assert not check.made
    assert "client 6, ttft 9" in check.text
    assert "other requests" in ttft_words(facts)


def test_a_queue_that_saw_one_more_leaves_the_ttft_comparable() -> None:
    """As of a request that was given up before its first token."""
    last = counters(6)
    queue = replace(last.histograms["queue"], count=7)
    facts = story([BEFORE, WARM, (3.0, replace(last, histograms=last.histograms | {"queue": queue}))]).facts
    assert not facts["same_requests"]
    assert judged(facts).made
    assert "counted other requests too" in ttft_words(facts)


@pytest.mark.parametrize(
    "readings, several, why",
    [
        ([], "", "--server-metrics none"),
        ([(-3.0, Metrics(missing="the server has no /metrics (HTTP 404)"))] * 2, "", "HTTP 404"),
        ([BEFORE, AFTER], "several servers answer here by turns", "by turns"),
        ([(-3.0, Metrics({"running": 0.0})), (3.0, Metrics({"running": 0.0}))], "", "no histogram"),
    ],
)
def test_what_is_missing_is_said(readings: Sequence[tuple[float, Metrics]], several: str, why: str) -> None:
    told = story(readings, several=several)
    assert why in told.facts["missing"]
    assert set(told.figures.values()) == {None}
    check = judged(told.facts)
    assert not check.made
    assert why in check.text
    assert ttft_words(told.facts) == ""


def test_tokens_of_both_sides_stand_beside_each_other() -> None:
    facts = story([BEFORE, WARM, AFTER]).facts
    assert facts["tokens"] == {
        "prompt": {"client": 60, "server": 60.0},
        "generation": {"client": 18, "server": 18.0},
    }
    unknown = replace(RUN, output_tokens=np.full(6, -1))
    assert story([BEFORE, AFTER], unknown).facts["tokens"]["generation"]["client"] is None


def test_series_are_on_the_runs_clock_and_what_appears_late_was_nothing_before() -> None:
    told = story([BEFORE, (0.5, counters(2, running=4.0)), (1.5, counters(4, running=1.0, preemptions=2.0)), AFTER])
    assert "preemptions" not in told.series  # the last reading has none
    told = story([BEFORE, (0.5, counters(2, running=4.0)), (3.0, counters(6, running=1.0, preemptions=2.0))])
    assert told.series["t_s"] == pytest.approx([-3.005, 0.495, 2.995])
    assert told.series["preemptions"] == [0.0, 0.0, 2.0]
    assert told.facts["peaks"]["running"] == 4.0
    with np.load(io.BytesIO(told.save_series())) as kept:
        assert kept["running"].tolist() == [0.0, 4.0, 1.0]


# ---- the check


def judged(facts: Any, of: Records = RUN, asserted: str = "p99_ttft", **more: Any) -> Check:
    objectives = [Objective(asserted, 1.0)] if asserted else []
    return server_ttft(of, RunFacts(Point(8, 4, 2), 4, asserted=objectives, server_side=facts, **more))


def test_a_ttft_below_the_servers_is_an_error_where_it_is_asserted() -> None:
    facts = apart(0.2)
    check = judged(facts)
    assert not check.ok
    assert "lies below the server's own" in check.text
    assert judged(facts, asserted="p99_tpot").ok
    assert judged(facts, asserted="p99_tpot").text == check.text
    assert judged(apart(0.1005)).ok  # the clocks' uncertainty


def apart(ttft: float) -> Any:
    """The facts of a run whose requests had this TTFT by the server."""
    return story([BEFORE, (-0.5, counters(2, ttft=ttft)), (3.0, counters(6, ttft=ttft))]).facts


def test_a_large_difference_says_on_which_side() -> None:
    facts = apart(0.05)
    assert "50.0 ms of the mean TTFT 100.0 ms lie outside" in judged(facts).text
    assert "a gateway" in judged(facts).text
    late = replace(RUN, lag_s=np.full(6, 0.04))
    assert "this client read its sockets late" in judged(facts, late).text
    packed = replace(RUN, output_tokens=RUN.output_tokens * 3)
    assert "(3.0 tokens an event): more API server processes or CPUs" in judged(facts, packed).text
    assert "API server" not in judged(facts, packed, speculative=True).text
    assert judged(apart(0.0905)).text == ""


def test_the_words_of_each_engine() -> None:
    facts = story([BEFORE, WARM, AFTER]).facts
    assert ttft_words(facts) == (
        "mean TTFT 100.0 ms = 10.0 ms client and network + 10.0 ms front + 50.0 ms queue + 30.0 ms prefill "
        "(4 measured requests)"
    )
    without = dict.fromkeys(("front_s", "prefill_s"))
    sglang = facts | {"ttft": facts["ttft"] | without}
    assert "+ 50.0 ms queue + 40.0 ms front and prefill" in ttft_words(sglang)
    bare = facts | {"ttft": facts["ttft"] | without | {"queue_s": None}}
    assert "+ 90.0 ms server (" in ttft_words(bare)
