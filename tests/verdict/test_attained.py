"""Goodput as a criterion, and whether an open loop's load was steady."""

from __future__ import annotations

import numpy as np
import pytest

from bench_tests.sweep.slo import Objective
from bench_tests.verdict.attained import rise_s, settled
from bench_tests.verdict.decide import ERROR, PASSED, decide
from bench_tests.verdict.early import ATTAINED, Criterion, EarlyVerdict
from tests.support.make_records import records

LIMITS = {"ttft": 1.0, "tpot": 0.05, "e2el": 5.0}


@pytest.mark.parametrize(
    ("ttft", "tpot", "good"),
    [
        (0.9, 0.04, True),
        (1.1, 0.04, False),
        (0.9, 0.06, False),
        (0.9, None, True),
        (None, None, False),
        (0.9, 0.045, False),
    ],
)
def test_a_request_is_good_within_all_its_limits(ttft: float | None, tpot: float | None, good: bool) -> None:
    assert (Criterion((), attain=0.9, limits_s=LIMITS, tokens=100).worst(ttft, tpot) <= 1) == good


def test_a_share_is_judged_with_the_requests_that_failed() -> None:
    rng = np.random.default_rng(1)
    for failing, verdict in ((0.002, "PASS"), (0.1, "FAIL")):
        early = EarlyVerdict(Criterion((), attain=0.97, limits_s=LIMITS, tokens=2), 4000, 1, burst=False)
        told = [(None, None) if rng.random() < failing else (0.5 * rng.random(), 0.01) for _ in range(4000)]
        assert early.add(told)
        assert early.judges[ATTAINED].verdict == verdict


def test_how_often_a_share_at_its_limit_is_called_wrongly() -> None:
    """Ties must not look like a drift: of 200 runs at the limit few are decided, and a clear one is decided soon."""
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(200):
        early = EarlyVerdict(Criterion((), attain=0.9, limits_s={"ttft": 1.0}), 1000, 8, burst=False)
        early.add([(v, None) for v in rng.exponential(1 / np.log(10), 1000).tolist()])
        wrong += early.judges[ATTAINED].verdict in ("PASS", "FAIL")
    assert wrong <= 0.05 * 200 + 3 * (200 * 0.05 * 0.95) ** 0.5
    clear = EarlyVerdict(Criterion((), attain=0.9, limits_s={"ttft": 1.0}), 1000, 8, burst=False)
    clear.add([(v, None) for v in rng.exponential(0.25, 1000).tolist()])
    assert clear.judges[ATTAINED].verdict == "PASS"
    assert (clear.judges[ATTAINED].decided_at or 1000) < 500


def test_a_line_that_only_grows_is_seen_and_noise_is_not() -> None:
    rng = np.random.default_rng(4)
    assert rise_s(0.1 + np.linspace(0, 0.5, 1000) + rng.exponential(0.05, 1000)) == pytest.approx(0.5, rel=0.15)
    assert sum(rise_s(rng.exponential(0.1, 400)) > 0 for _ in range(300)) <= 12  # 1 % of them, and chance
    assert rise_s(np.linspace(0.5, 0.1, 1000)) == 0
    assert rise_s(np.full(10, 0.1)) == 0


def test_a_rate_that_is_not_steady_is_no_open_verdict() -> None:
    """Its figures are those of a line that grows: more requests make them worse, not known better."""
    sends, ttft = np.arange(600) * 0.1, 0.1 + np.linspace(0, 0.8, 600)
    of = records(sends.tolist(), [[s + t, s + t + 1] for s, t in zip(sends, ttft, strict=True)], measured=[True] * 600)
    limit = [Objective("p99_ttft", 1.0)]
    passed = decide(of, limit, "confident", [], {"p99_ttft": "PASS"})
    assert passed.word == PASSED
    got = settled(passed, of, Criterion(limit, first=300), {"p99_ttft": "PASS"})
    assert (got.word, got.open) == (ERROR, False)
    unclear = decide(of, limit, "confident", [], {"p99_ttft": "INSUFFICIENT"})
    assert (unclear.word, unclear.open) == (ERROR, True)
