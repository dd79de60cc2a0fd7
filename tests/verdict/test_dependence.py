"""What requests share, and the distribution of counts that follows from it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom, binom

from bench_tests.verdict.dependence import (
    DOUBT,
    INDEPENDENT,
    Dependence,
    chance_of_at_least,
    chance_of_at_most,
    dependence,
)


def waves(rng: np.random.Generator, count: int, size: int, icc: float) -> np.ndarray:
    return np.exp(rng.normal(0, icc**0.5, (count, 1)) + rng.normal(0, (1 - icc) ** 0.5, (count, size))).ravel()


@given(st.integers(1, 300), st.floats(0.005, 0.5), st.data())
@settings(max_examples=60, deadline=None)
def test_independent_counts_are_binomial(n: int, share: float, data: st.DataObject) -> None:
    over = data.draw(st.integers(0, n))
    assert chance_of_at_most(over, n, share) == pytest.approx(binom.cdf(over, n, share), abs=1e-9)
    assert chance_of_at_least(over, n, share) == pytest.approx(binom.sf(over - 1, n, share), abs=1e-9)


def test_one_block_is_beta_binomial() -> None:
    of = Dependence(50, 0.2)
    expected = betabinom(50, 0.1 * 4, 0.9 * 4)
    for over in (0, 3, 20, 50):
        assert chance_of_at_most(over, 50, 0.1, of) == pytest.approx(expected.cdf(over), abs=1e-9)
        assert chance_of_at_least(over, 50, 0.1, of) == pytest.approx(expected.sf(over - 1), abs=1e-9)


def test_counts_of_many_blocks_have_the_mean_and_the_design_effect() -> None:
    of, n, share = Dependence(16, 0.25), 1605, 0.1
    chances = np.array([chance_of_at_most(k, n, share, of) for k in range(n + 1)])
    pmf, k = np.diff(chances, prepend=0), np.arange(n + 1)
    mean = float(pmf @ k)
    assert mean == pytest.approx(n * share, rel=1e-6)
    variance = float(pmf @ (k - mean) ** 2)
    assert variance == pytest.approx(n * share * (1 - share) * of.design, rel=0.02)  # the last block is short


def test_dependence_is_found_at_the_quantile_that_is_judged() -> None:
    rng = np.random.default_rng(3)
    found = [dependence(waves(rng, 60, 32, 0.5), 0.99, 32).icc for _ in range(30)]
    # of normal scores with 0.5, the correlation of "over the p99" is 0.12, of "over the median" 0.33
    assert 0.1 <= np.median(found) <= 0.2
    assert 0.28 <= np.median([dependence(waves(rng, 60, 32, 0.5), 0.5, 32).icc for _ in range(30)]) <= 0.42


def test_a_careful_estimate_is_rarely_below_the_truth() -> None:
    """30 waves of 64, normal scores with 0.5: the correlation of "over the p99" is 0.12; DOUBT below it, or fewer."""
    rng = np.random.default_rng(8)
    plain, careful = [], []
    for _ in range(200):
        values = waves(rng, 30, 64, 0.5)
        plain.append(dependence(values, 0.99, 64, 20.0).icc)
        careful.append(dependence(values, 0.99, 64, 20.0, careful=True).icc)
    assert all(a >= b for a, b in zip(careful, plain, strict=True))
    assert np.mean(np.array(careful) < 0.12) <= DOUBT
    assert np.median(careful) < 0.4


def test_a_tail_that_is_bound_together_more_tightly_is_taken_more_carefully(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow waves are slow as a whole: the tail further in tells more of those beyond the p99 than all values do."""
    rng = np.random.default_rng(9)
    runs = []
    for _ in range(60):
        scale = np.sqrt(rng.chisquare(3, (30, 1)) / 3)
        runs.append(np.exp(0.05 * (rng.normal(0, 0.45, (30, 1)) + rng.normal(0, 0.9, (30, 64))) / scale).ravel())
    deep = [dependence(values, 0.99, 64, 2.0, careful=True).icc for values in runs]
    monkeypatch.setattr("bench_tests.verdict.dependence.DEEPER", ())
    shallow = [dependence(values, 0.99, 64, 2.0, careful=True).icc for values in runs]
    assert all(a >= b for a, b in zip(deep, shallow, strict=True))
    assert np.mean(deep) > 1.2 * np.mean(shallow)


def test_independent_requests_are_worth_nearly_all_of_n() -> None:
    rng = np.random.default_rng(4)
    assert np.mean([dependence(rng.random(1280), 0.99, 64).design for _ in range(50)]) < 2


def test_a_stall_of_whole_waves_is_seen_in_the_tail() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(10, 1, (100, 16))
    values[20] += 50
    assert dependence(values.ravel(), 0.99, 16).icc > 0.5


def test_where_a_wave_begins_need_not_be_known() -> None:
    values = waves(np.random.default_rng(6), 100, 32, 0.6)
    right, late = dependence(values, 0.99, 32), dependence(values[16:], 0.99, 32)
    assert late.design > 0.7 * right.design


def test_a_slow_drift_makes_longer_blocks() -> None:
    rng = np.random.default_rng(7)
    drift = np.repeat(np.cumsum(rng.normal(0, 1, 40)), 16)
    assert dependence(drift + rng.normal(0, 1, 640), 0.5, 8).block > 16


@pytest.mark.parametrize(("limit", "slow"), [(1.0, True), (1.2, True), (50.0, False), (0.01, False)])
def test_a_drift_counts_where_it_could_reach_the_limit(limit: float, slow: bool) -> None:
    """4,000 requests that drifted from 40 to 42 ms were worth 10 against a limit of 2 s, and nothing decided that."""
    rng = np.random.default_rng(4)
    drift = np.exp(0.05 * np.sin(np.arange(2000) / 300) + rng.normal(0, 0.01, 2000))
    assert (dependence(drift, 0.99, 4, limit).block > 4) == slow


@pytest.mark.parametrize("values", [np.ones(500), np.arange(10.0)])
def test_nothing_to_learn_from_is_independent(values: np.ndarray) -> None:
    assert dependence(values, 0.99, 8) == INDEPENDENT
