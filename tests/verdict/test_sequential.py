"""Verdicts with repeated looks: the martingale's arithmetic, its error rates, and when it stops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta

from bench_tests.compare.run_noise import RunNoise
from bench_tests.verdict.sequential import SequentialJudge, log_evidence_over, log_evidence_under


@pytest.mark.parametrize("over, n", [(0, 10), (3, 40), (1, 200)])
def test_evidence_is_the_mixture_over_the_share(over: int, n: int) -> None:
    share = 0.05
    prior = beta(0.5, 0.5 * (1 - share) / share)

    def bet(theta: float) -> float:
        return float((theta / share) ** over * ((1 - theta) / (1 - share)) ** (n - over) * prior.pdf(theta))

    above = quad(bet, share, 1, limit=200)[0] / prior.sf(share)
    below = quad(bet, 0, share, limit=200)[0] / prior.cdf(share)
    assert log_evidence_over(over, n, share) == pytest.approx(np.log(above), rel=1e-4, abs=1e-6)
    assert log_evidence_under(over, n, share) == pytest.approx(np.log(below), rel=1e-3, abs=1e-3)


def test_evidence_is_a_martingale_at_the_border() -> None:
    # the expectation after one more request is the evidence before it
    share, over, n = 0.01, 2, 90
    for evidence in (log_evidence_over, log_evidence_under):
        after = share * np.exp(evidence(over + 1, n + 1, share)) + (1 - share) * np.exp(evidence(over, n + 1, share))
        assert after == pytest.approx(np.exp(evidence(over, n, share)))
    assert log_evidence_over(0, 0, share) == pytest.approx(0)


@pytest.mark.parametrize("evidence, share", [(log_evidence_over, 0.01), (log_evidence_under, 0.01)])
def test_wrong_verdicts_at_the_border_stay_rare_however_often_one_looks(evidence: object, share: float) -> None:
    rng = np.random.default_rng(1)
    over = (rng.random((2000, 3000)) < share).cumsum(axis=1)
    looks = np.arange(1, 3001)
    table = evidence(np.minimum(np.arange(over.max() + 1)[:, None], looks), looks, share)  # type: ignore[operator]
    wrong = (table[over, looks - 1] >= np.log(40)).any(axis=1).mean()
    assert wrong <= 0.025 + 0.008


def test_clear_cases_end_early() -> None:
    fast, slow = SequentialJudge(0.99, 2.0), SequentialJudge(0.99, 2.0)
    assert slow.update(np.full(20, 3.0)) == "FAIL"
    assert slow.decided_at is not None
    assert slow.decided_at <= 5
    assert fast.update(np.ones(368)) is None
    assert fast.update(np.ones(132)) == "PASS"
    assert fast.update(np.full(500, 9.0)) == "PASS"


def test_looking_one_by_one_is_looking_at_all_at_once() -> None:
    values = np.random.default_rng(3).lognormal(0, 0.5, 3000)
    at_once, one_by_one = SequentialJudge(0.99, 2.4), SequentialJudge(0.99, 2.4)
    at_once.update(values)
    for value in values:
        if one_by_one.update([value]):
            break
    assert at_once.verdict == one_by_one.verdict
    assert at_once.decided_at == one_by_one.decided_at


def test_at_the_limit_it_stays_open() -> None:
    judge = SequentialJudge(0.99, 2.0)
    assert judge.update(np.tile(np.r_[np.ones(99), 3.0], 20)) is None
    low, high = judge.share_bounds()
    assert 0 < low < 0.01 < high < 0.03


def test_a_spent_budget_is_a_verdict_or_insufficient() -> None:
    open_end, budget = SequentialJudge(0.99, 2.0), SequentialJudge(0.99, 2.0, max_requests=500)
    borderline = np.r_[np.ones(99), 3.0]
    assert budget.update(np.tile(borderline, 4)) is None
    assert budget.update(np.tile(borderline, 4)) == "INSUFFICIENT"
    assert budget.n == 500
    assert budget.decided_at is None
    assert open_end.update(np.tile(borderline, 8)) is None
    # the last look sees more: 19 of 1000 is P(Bin ≥ 19) = 0.6 %, too little for the martingale, enough for it at 0.75 %
    late = np.r_[np.tile(np.r_[np.ones(62), 3.0], 11), np.ones(299), np.full(8, 3.0)]
    assert SequentialJudge(0.99, 2.0).update(late) is None
    assert SequentialJudge(0.99, 2.0, max_requests=1000).update(late) == "FAIL"


def test_no_request_bounds_nothing() -> None:
    assert SequentialJudge(0.99, 2.0).share_bounds() == (0.0, 1.0)
    assert SequentialJudge(0.99, 2.0).update([]) is None


def test_correlated_batches_take_longer() -> None:
    rng = np.random.default_rng(5)
    waves = np.repeat(rng.lognormal(0, 0.1, 60), 16)
    naive, aware = SequentialJudge(0.99, 2.0), SequentialJudge(0.99, 2.0, block=16)
    assert naive.update(waves) == "PASS"
    assert aware.update(waves) is None


def test_run_noise_moves_the_limits() -> None:
    noise = RunNoise(0.1, 100, "test")
    assert SequentialJudge(0.99, 2.0, noise=noise).update(np.full(600, 2.1)) is None
    assert SequentialJudge(0.99, 2.0, noise=noise).update(np.full(600, 1.9)) is None
    assert SequentialJudge(0.99, 2.0, noise=noise).update(np.full(600, 2.6)) == "FAIL"


def test_failed_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        SequentialJudge(0.99, 2.0).update([1.0, np.nan])
