"""A p99 TTFT that is too high says what of it is the start burst's and the waves'."""

from __future__ import annotations

import numpy as np
import pytest

from bench_tests.load.records import Records
from bench_tests.sweep.slo import Objective
from bench_tests.verdict.decide import FAILED, PASSED, decide
from bench_tests.verdict.waves import burst_share
from tests.support.make_records import records

CONC, ROUNDS = 16, 20


def run(ttft: np.ndarray, spread_s: float = 0.0, warm: bool = False) -> Records:
    """Streams that begin `spread_s` apart in all; each request takes 10 s. `warm`: others were in flight before."""
    begin = np.linspace(0, spread_s, CONC, endpoint=False)
    sends = (np.arange(ROUNDS + warm)[:, None] * 10 + begin).ravel()
    late = np.r_[np.full(CONC, 0.1), ttft] if warm else ttft
    measured = np.arange(len(sends)) >= CONC * warm
    end = sends + 9.99
    return records(
        sends.tolist(),
        [[s + t, e] for s, t, e in zip(sends, late, end, strict=True)],
        measured=measured.tolist(),
        end_s=end,
        scheduled_s=np.zeros(len(sends)),
    )


def even(value: float) -> np.ndarray:
    return np.full(CONC * ROUNDS, value)


def said(of: Records, limit_s: float = 1.0, metric: str = "p99_ttft", mode: str = "point") -> str:
    got = decide(of, [Objective(metric, limit_s)], mode, [], block=CONC)
    assert got.word == FAILED
    return got.messages[0]


def test_the_start_burst_is_named_with_the_figure_without_it() -> None:
    ttft = even(0.4)
    ttft[:CONC] = 1.6
    words = said(run(ttft, 10.0))
    assert "that of the start burst (400.0 ms without it); --start staggered" in words
    assert "waves" not in words


def test_waves_are_named_with_how_far_they_are_in_step() -> None:
    words = said(run(even(1.6)))
    assert "of waves (100 % in step)" in words
    assert "burst" not in words


def test_a_server_that_is_slow_by_itself_is_told_nothing_of_waves() -> None:
    assert "that" not in said(run(even(1.6), 10.0))


@pytest.mark.parametrize("metric", ["p99_tpot", "p99_e2el"])
def test_only_ttft_is_explained_by_them(metric: str) -> None:
    assert "staggered" not in said(run(even(1.6)), 0.001, metric)


def test_a_staggered_run_has_neither() -> None:
    of = run(even(1.6), 10.0, warm=True)
    assert of.continuous
    assert "staggered" not in said(of)
    assert burst_share(of, CONC) == 0.0


def test_a_confident_verdict_of_a_staggered_run_leaves_nothing_out() -> None:
    ttft = even(0.4)
    got = decide(run(ttft, 10.0, warm=True), [Objective("p99_ttft", 1.0)], "point", [], block=CONC)
    assert got.word == PASSED
    got = decide(run(even(1.6), 10.0, warm=True), [Objective("p99_ttft", 1.0)], "confident", [], block=CONC)
    assert got.word == FAILED
    assert f"n={CONC * ROUNDS}" in got.messages[0]
    assert "left out" not in got.messages[0]


def test_the_share_of_the_start_burst() -> None:
    of = run(even(0.4))
    assert burst_share(of, CONC) == 1 / ROUNDS
    assert burst_share(of, 1) is None
    assert burst_share(of, 10 * CONC * ROUNDS) == 1.0
