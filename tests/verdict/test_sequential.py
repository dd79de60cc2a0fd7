"""Verdicts with repeated looks: when it looks, its error rates, and when it stops."""

from __future__ import annotations

import numpy as np
import pytest

from bench_tests.verdict.noise import RunNoise
from bench_tests.verdict.sequential import SequentialJudge, planned_looks


@pytest.mark.parametrize("block", [1, 8, 64])
def test_it_looks_only_after_five_whole_waves(block: int) -> None:
    looks = planned_looks(2000, block)
    assert looks[0] == 5 * block
    assert looks[-1] == 2000
    assert looks == sorted(set(looks))
    assert all(at % block == 0 for at in looks[:-1])


def test_a_budget_of_fewer_than_five_waves_is_one_look() -> None:
    assert planned_looks(200, 64) == [200]
    assert SequentialJudge(0.5, 2.0, max_requests=20, block=8).update(np.full(20, 3.0)) == "FAIL"


def test_before_five_waves_nothing_is_said_however_clear() -> None:
    judge = SequentialJudge(0.99, 2.0, max_requests=5000, block=16)
    assert judge.update(np.full(79, 3.0)) is None
    assert judge.update(np.full(1, 3.0)) == "FAIL"
    assert judge.decided_at == 80


def test_clear_cases_end_early() -> None:
    fast, slow = SequentialJudge(0.99, 2.0, max_requests=5000), SequentialJudge(0.99, 2.0, max_requests=5000)
    assert slow.update(np.full(20, 3.0)) == "FAIL"
    assert fast.update(np.ones(368)) is None
    assert fast.update(np.ones(1200)) == "PASS"
    assert fast.decided_at is not None
    assert fast.decided_at < 1200
    assert fast.update(np.full(500, 9.0)) == "PASS", "a verdict is kept"


def test_looking_one_by_one_is_looking_at_all_at_once() -> None:
    values = np.random.default_rng(3).lognormal(0, 0.5, 3000)
    at_once = SequentialJudge(0.99, 2.4, max_requests=3000, block=4)
    one_by_one = SequentialJudge(0.99, 2.4, max_requests=3000, block=4)
    at_once.update(values)
    for value in values:
        if one_by_one.update([value]):
            break
    assert at_once.verdict in ("PASS", "FAIL")
    assert at_once.verdict == one_by_one.verdict
    assert at_once.decided_at == one_by_one.decided_at


def test_a_spent_budget_is_a_verdict_or_insufficient() -> None:
    borderline = np.r_[np.ones(99), 3.0]
    budget = SequentialJudge(0.99, 2.0, max_requests=500)
    assert budget.update(np.tile(borderline, 4)) is None
    assert budget.update(np.tile(borderline, 4)) == "INSUFFICIENT"
    assert budget.n == 500
    assert budget.decided_at is None


@pytest.mark.slow
@pytest.mark.parametrize(("conc", "icc"), [(8, 0.0), (64, 0.5)])
def test_wrong_verdicts_at_the_limit_stay_rare(conc: int, icc: float) -> None:
    rng = np.random.default_rng(21)
    limit, verdicts = float(np.exp(2.3263478740408408)), []
    for _ in range(300):
        waves = 2000 // conc
        shared, own = rng.normal(0, icc**0.5, (waves, 1)), rng.normal(0, (1 - icc) ** 0.5, (waves, conc))
        judge = SequentialJudge(0.99, limit, max_requests=waves * conc, block=conc)
        verdicts.append(judge.update(np.exp(shared + own).ravel()))
    # at most 2.5 % each; 300 tries scatter by 0.9 % (standard error)
    assert verdicts.count("FAIL") <= 16
    assert verdicts.count("PASS") <= 16
    assert verdicts.count("INSUFFICIENT") > 240


def test_no_request_says_nothing() -> None:
    assert SequentialJudge(0.99, 2.0, max_requests=100).update([]) is None


WAVES = np.repeat(np.random.default_rng(5).lognormal(0, 0.1, 100), 16)  # the slowest of 1,600 requests: 1.25


def test_correlated_batches_take_longer() -> None:
    naive = SequentialJudge(0.99, 1.33, max_requests=5000)
    aware = SequentialJudge(0.99, 1.33, max_requests=5000, block=16)
    assert naive.update(WAVES) == "PASS"
    assert aware.update(WAVES) is None


def test_a_limit_out_of_the_waves_reach_takes_no_longer() -> None:
    naive = SequentialJudge(0.99, 2.0, max_requests=5000)
    aware = SequentialJudge(0.99, 2.0, max_requests=5000, block=16)
    assert naive.update(WAVES) == aware.update(WAVES) == "PASS"
    assert aware.decided_at is not None
    assert naive.decided_at is not None
    assert aware.decided_at < 1.3 * naive.decided_at


def test_run_noise_moves_the_limits() -> None:
    noise = RunNoise(0.1, 100, "test")

    def verdict(value: float) -> str | None:
        return SequentialJudge(0.99, 2.0, max_requests=5000, noise=noise).update(np.full(1500, value))

    assert verdict(2.1) is None
    assert verdict(1.9) is None
    assert verdict(2.6) == "FAIL"


def test_failed_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        SequentialJudge(0.99, 2.0, max_requests=100).update([1.0, np.nan])
