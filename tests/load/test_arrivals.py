"""When requests are wanted: at the rate that was asked, as bursty as asked, the same whatever shares the load."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bench_tests.load.arrivals import schedule_s
from bench_tests.load.workload.source import mean_rate
from bench_tests.sweep.workload import Workload
from tests.support.plans import change_plan, make_plan

PLAN = make_plan("http://x", num_prompts=4000, seed=7, request_rate=50.0)


@pytest.mark.parametrize("rate", [math.inf])
def test_without_a_rate_all_are_wanted_at_once(rate: float | None) -> None:
    assert schedule_s(change_plan(PLAN, request_rate=rate)).tolist() == [0.0] * 4000


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_the_rate_is_met_and_the_gaps_are_gamma(burstiness: float) -> None:
    times = schedule_s(change_plan(PLAN, burstiness=burstiness))
    gaps = np.diff(times)
    assert times[0] == 0
    assert (gaps >= 0).all()
    assert 4000 / (times[-1] + 1 / 50) == pytest.approx(50, rel=0.01)
    # the coefficient of variation of a gamma with this shape; 4,000 gaps know it to a few percent
    assert gaps.std() / gaps.mean() == pytest.approx(1 / math.sqrt(burstiness), rel=0.12)


def test_a_schedule_is_the_seeds_and_not_the_workers() -> None:
    first = schedule_s(PLAN)
    assert np.array_equal(first, schedule_s(change_plan(PLAN, workers=3, worker=1)))
    assert not np.array_equal(first, schedule_s(change_plan(PLAN, seed=8)))


def test_fewer_requests_are_the_beginning_of_a_ramp_and_have_its_rate() -> None:
    plan = replace(change_plan(PLAN, burstiness=1e6, num_prompts=100), workload=Workload(ramp="1:50/5m"))
    some, whole = schedule_s(plan), schedule_s(replace(plan, num_prompts=7650))
    assert some == pytest.approx(whole[:100], rel=0.01, abs=0.01)
    rate = mean_rate(plan.workload, 100)
    assert rate == pytest.approx(99 / np.ptp(some), rel=0.03)
    assert mean_rate(plan.workload) == pytest.approx(25.5)


def test_one_request_starts_at_zero() -> None:
    assert schedule_s(change_plan(PLAN, num_prompts=1)).tolist() == [0.0]
