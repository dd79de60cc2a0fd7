"""Intervals and confident verdicts: known values, coverage, and the decisions at their borders."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench_tests.errors import NotMeasured
from bench_tests.verdict.confidence import (
    design_effect,
    fewest_requests,
    judge,
    mean_interval,
    quantile_interval,
)
from bench_tests.verdict.noise import RunNoise, measured_noise


def latencies(kind: str, shape: tuple[int, int], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "lognormal":
        return rng.lognormal(0, 0.5, shape)
    if kind == "heavy":
        return (1 - rng.random(shape)) ** -0.5
    return rng.lognormal(0, 0.1, shape) * np.where(rng.random(shape) < 0.3, 4.0, 1.0)


def truth(kind: str, q: float) -> float:
    if kind == "lognormal":
        from scipy.special import ndtri

        return math.exp(0.5 * ndtri(q))
    if kind == "heavy":
        return (1 - q) ** -0.5
    return float(np.quantile(latencies("bimodal", (1, 4_000_000), 99), q))


@pytest.mark.parametrize("kind", ["lognormal", "bimodal", "heavy"])
@pytest.mark.parametrize("q, n", [(0.5, 40), (0.5, 640), (0.99, 40), (0.99, 400), (0.99, 640)])
def test_interval_covers_the_true_quantile(kind: str, q: float, n: int) -> None:
    runs = latencies(kind, (1200, n), n)
    real = truth(kind, q)
    got = [quantile_interval(run, q) for run in runs]
    covered = np.mean([i.low <= real <= i.high for i in got])
    assert 0.93 <= covered <= 0.97
    assert all(i.two_sided == (q == 0.5 or n >= 368) for i in got)


def test_two_sided_p99_begins_at_368() -> None:
    assert fewest_requests(0.99) == 368
    assert 0.99**368 <= 0.025 < 0.99**367
    assert fewest_requests(0.5) == 6
    assert not quantile_interval(np.arange(1.0, 368), 0.99).two_sided
    first = quantile_interval(np.arange(1.0, 369), 0.99)
    assert first.two_sided
    assert first.high == pytest.approx(368, abs=0.05)


def test_missing_bound_is_said() -> None:
    got = quantile_interval(np.arange(1.0, 41), 0.99)
    assert got.as_pair() == [got.low, None]
    assert "368" in got.method
    assert quantile_interval(np.arange(1.0, 41), 0.01).as_pair()[0] is None


def test_median_interval_matches_the_sign_test() -> None:
    # P(Bin(40, 1/2) ≤ 13) = 0.0192, ≤ 14: 0.0403: the 2.5 % point lies between the 14th and 15th of 40
    got = quantile_interval(np.arange(1.0, 41), 0.5)
    assert 14 <= got.low <= 15
    assert got.high == pytest.approx(41 - got.low, rel=2e-3)


def test_intervals_do_not_depend_on_order_or_unit() -> None:
    values = latencies("lognormal", (1, 500), 3)[0]
    a = quantile_interval(values, 0.99)
    b = quantile_interval(1000 * values[::-1], 0.99)
    assert (b.low, b.high) == pytest.approx((1000 * a.low, 1000 * a.high))


def test_correlated_requests_widen_the_interval_and_keep_coverage() -> None:
    rng = np.random.default_rng(8)
    covered, naive = [], []
    for _ in range(400):
        waves = rng.normal(0, 0.3, (20, 1)) + rng.normal(0, 0.4, (20, 32))
        values = np.exp(waves.ravel())
        wide, narrow = quantile_interval(values, 0.5, block=32), quantile_interval(values, 0.5)
        covered.append(wide.low <= 1 <= wide.high)
        naive.append(narrow.low <= 1 <= narrow.high)
    assert np.mean(naive) < 0.6
    assert np.mean(covered) > 0.9


def test_design_effect_of_independent_and_of_identical_requests() -> None:
    rng = np.random.default_rng(5)
    assert np.mean([design_effect(rng.random(640), 64) for _ in range(50)]) < 1.6
    assert design_effect(np.repeat(rng.random(20), 16), 16) == pytest.approx(16, abs=0.1)
    assert design_effect(rng.random(10), 8) == 1.0


@pytest.mark.parametrize("block", [1, 10])
def test_mean_interval_covers(block: int) -> None:
    runs = latencies("lognormal", (600, 200), 4)
    real = math.exp(0.125)
    covered = np.mean([(i := mean_interval(r, block=block, draws=400)).low <= real <= i.high for r in runs])
    assert 0.92 <= covered <= 0.98


def test_mean_interval_needs_two_blocks() -> None:
    with pytest.raises(NotMeasured):
        mean_interval(np.ones(15), block=10)


def test_point_mode_is_the_plain_percentile() -> None:
    values = np.arange(1.0, 101)
    assert judge(values, 0.99, float(np.quantile(values, 0.99))).verdict == "PASS"
    assert judge(values, 0.99, 99.0).verdict == "FAIL"
    assert judge(values, 0.99, 99.0).over == 1


@pytest.mark.parametrize(
    "over, n, verdict",
    [(0, 367, "INSUFFICIENT"), (0, 368, "PASS"), (1, 368, "INSUFFICIENT"), (3, 40, "FAIL"), (2, 40, "INSUFFICIENT")],
)
def test_confident_mode_is_the_exact_binomial_test(over: int, n: int, verdict: str) -> None:
    # P(Bin(40, .01) ≥ 3) = 0.0075 ≤ 0.025 < P(≥ 2) = 0.061
    values = np.r_[np.full(n - over, 1.0), np.full(over, 3.0)]
    assert judge(values, 0.99, 2.0, "confident").verdict == verdict


def test_insufficient_says_how_many_more() -> None:
    got = judge(np.ones(40), 0.99, 2.0, "confident")
    assert got.more_requests == 368 - 40
    assert judge(np.ones(40 + 328), 0.99, 2.0, "confident").verdict == "PASS"
    two = judge(np.r_[np.ones(38), 3.0, 3.0], 0.99, 2.0, "confident")
    assert two.more_requests is not None
    assert 0 < two.more_requests < 60


def test_exactly_at_the_limit_no_number_decides() -> None:
    assert judge(np.r_[np.ones(99), 3.0], 0.99, 2.0, "confident").more_requests is None


def test_false_verdicts_at_the_border_are_rare() -> None:
    runs = latencies("lognormal", (2000, 640), 11)
    limit = truth("lognormal", 0.99)
    verdicts = [judge(r, 0.99, limit, "confident").verdict for r in runs[:1000]]
    assert verdicts.count("FAIL") <= 45
    assert verdicts.count("PASS") <= 45


def test_run_noise_widens_both_ways_and_runs_narrow_it() -> None:
    slow, fast = np.full(400, 2.1), np.full(400, 1.9)
    noise = RunNoise(0.08, 100, "test")
    assert judge(slow, 0.99, 2.0, "confident").verdict == "FAIL"
    assert judge(slow, 0.99, 2.0, "confident", noise=noise).verdict == "INSUFFICIENT"
    assert judge(slow, 0.99, 2.0, "confident", noise=noise).more_requests is None
    assert judge(fast, 0.99, 2.0, "confident", noise=noise).verdict == "INSUFFICIENT"
    assert judge(slow, 0.99, 2.0, "confident", noise=noise, runs=16).verdict == "FAIL"
    assert noise.margin(1) == pytest.approx(0.08 * 1.984, rel=1e-3)


def test_noise_is_measured_or_not_there() -> None:
    rng = np.random.default_rng(2)
    points = [np.exp(rng.normal(i, 0.16, 3)) for i in range(48)]
    got = measured_noise(points)
    assert got is not None
    assert got.sd == pytest.approx(0.16, rel=0.2)
    assert got.df == 96
    explained = measured_noise(points, [0.16**2] * 48)
    assert explained is not None
    assert explained.sd < 0.06
    assert measured_noise([np.ones(1)]) is None


def test_waves_widen_the_count_that_chance_allows() -> None:
    # the same 27 of 1600 over the limit: spread evenly they are too many, in two waves they are two events
    spread, together = np.ones(1600), np.ones(1600)
    spread[np.arange(27) * 59] = 3.0
    together[320:333] = together[960:974] = 3.0
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.01, 1600)
    assert judge(spread + noise, 0.99, 2.0, "confident", block=16).verdict == "FAIL"
    found = judge(together + noise, 0.99, 2.0, "confident", block=16)
    assert found.verdict == "INSUFFICIENT"
    assert "are worth" in found.text


def test_how_many_more_takes_the_waves_along() -> None:
    rng = np.random.default_rng(9)
    values = np.exp(rng.normal(0, 0.7, (40, 1)) + rng.normal(0, 0.7, (40, 16))).ravel()
    limit = float(np.quantile(values, 0.995))
    plain = judge(values, 0.99, limit, "confident").more_requests
    aware = judge(values, 0.99, limit, "confident", block=16).more_requests
    assert plain is not None
    assert aware is not None
    assert aware > 1.3 * plain


@pytest.mark.parametrize("mode", ["point", "confident"])
def test_nothing_measured_is_never_a_verdict(mode: str) -> None:
    with pytest.raises(NotMeasured):
        judge([], 0.99, 2.0, mode)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not finite"):
        judge([1.0, math.nan], 0.99, 2.0, mode)  # type: ignore[arg-type]


def test_wrong_use_is_named() -> None:
    with pytest.raises(ValueError, match="q=99"):
        judge([1.0], 99, 2.0)
    with pytest.raises(ValueError, match="point or confident"):
        judge([1.0], 0.99, 2.0, "sure")  # type: ignore[arg-type]
