"""Limits that waves cannot reach: a tolerance limit for the slowest request of a wave."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import nct, norm

from bench_tests.verdict.counts import NOTHING, Shared, shared, verdict_of_counts
from bench_tests.verdict.dependence import Dependence
from bench_tests.verdict.reach import MOST, Reach, reach


def waves(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    return np.exp(0.05 * (rng.normal(0, 0.7, (count, 1)) + rng.normal(0, 0.7, (count, size)))).ravel()


def test_the_tolerance_limit_is_that_of_normal_values() -> None:
    k = nct.ppf(0.975, 30, norm.ppf(0.99) * math.sqrt(31)) / math.sqrt(31)
    assert Reach(64, k + 1e-6).clear(31 * 64, 0.01, 0.025)
    assert not Reach(64, k - 1e-6).clear(31 * 64, 0.01, 0.025)


def test_more_waves_and_a_larger_chance_of_error_need_less_distance() -> None:
    assert Reach(64, 3.3).clear(31 * 64, 0.01, 0.025)
    assert not Reach(64, 3.3).clear(24 * 64, 0.01, 0.025)
    assert not Reach(64, 3.3).clear(31 * 64, 0.01, 0.0003)


def test_few_waves_do_not_show_what_the_others_are() -> None:
    assert Reach(64, 50.0).clear(22 * 64, 0.01, 0.025)
    assert not Reach(64, 50.0).clear(21 * 64, 0.01, 0.025)


def test_a_wave_that_reached_the_limit_shows_that_waves_can() -> None:
    values = waves(np.random.default_rng(3), 31, 64)
    values[700:705] = 5.0
    far, near = reach(values, 64, 6.0), reach(values, 64, 4.0)
    assert far is not None
    assert near is not None
    assert not far.reached
    assert near.reached
    assert not Reach(64, 50.0, reached=True).clear(31 * 64, 0.01, 0.025)


def test_the_distance_is_from_the_slowest_of_each_stretch() -> None:
    values = np.ones(6 * 4)
    values[1::4] = np.exp([0.1, 0.2, 0.3, 0.1, 0.2, 0.3])
    found = reach(values, 4, math.exp(1.0))
    assert found is not None
    assert found.distance == pytest.approx(0.8 / np.std([0.1, 0.2, 0.3] * 2, ddof=1))
    assert found.stretches(24) == 6


def test_many_waves_make_longer_stretches() -> None:
    of = Reach(8, 1.0)
    assert of.stretches(8 * MOST) == MOST
    assert MOST / 2 <= of.stretches(8 * 249) <= MOST
    assert of.stretches(100_000) <= MOST


@pytest.mark.parametrize("values", [np.ones(100), np.r_[np.zeros(1), np.ones(499)]])
def test_too_few_waves_and_values_of_zero_say_nothing(values: np.ndarray) -> None:
    assert reach(values, 64, 2.0) is None


def test_equal_waves_reach_what_they_are() -> None:
    for limit, clear in ((1.1, True), (0.9, False)):
        found = reach(np.ones(25 * 64), 64, limit)
        assert found is not None
        assert found.clear(25 * 64, 0.01, 0.025) == clear


def test_at_the_truth_a_limit_is_hardly_ever_out_of_reach() -> None:
    """Where 1 % of requests are over it, at least 1 % of stretches are."""
    rng = np.random.default_rng(1)
    limit = math.exp(0.05 * 0.99 * 2.326)
    found = [reach(waves(rng, 30, 64), 64, limit) for _ in range(300)]
    assert sum(of is not None and of.clear(1920, 0.01, 0.025) for of in found) == 0


def test_out_of_reach_takes_what_waves_share_out_of_a_pass_alone() -> None:
    tight = Dependence(64, 0.6)
    near, far = Shared(tight, tight, Reach(64, 1.0)), Shared(tight, tight, Reach(64, 9.0))
    assert verdict_of_counts(0, 0, 1920, 0.01, 0.025, near) == "INSUFFICIENT"
    assert verdict_of_counts(0, 0, 1920, 0.01, 0.025, far) == "PASS"
    assert verdict_of_counts(0, 0, 300, 0.01, 0.025, far) == "INSUFFICIENT"  # 368 independent ones are needed as ever
    assert verdict_of_counts(30, 30, 1920, 0.01, 0.025, far) == "INSUFFICIENT"  # a FAIL takes the waves along
    assert verdict_of_counts(40, 40, 1920, 0.01, 0.025) == "FAIL"


def test_a_pass_takes_the_careful_estimate_and_a_fail_the_plain_one() -> None:
    what = Shared(Dependence(64, 0.05), Dependence(64, 0.5))
    assert verdict_of_counts(0, 0, 1920, 0.01, 0.025, what) == "INSUFFICIENT"
    assert verdict_of_counts(0, 0, 1920, 0.01, 0.025, Shared(what.of, what.of)) == "PASS"
    assert verdict_of_counts(60, 60, 1920, 0.01, 0.025, what) == "FAIL"


def test_what_a_pass_needs_is_the_limit_less_its_margin() -> None:
    values = waves(np.random.default_rng(2), 30, 64)
    whole, less = shared(values, 0.99, 1.4, 64), shared(values, 0.99, 1.4, 64, 1.3)
    assert whole.to_limit is not None
    assert less.to_limit is not None
    assert less.to_limit.distance < whole.to_limit.distance
    assert shared(values, 0.99, 1.4, None) == NOTHING
