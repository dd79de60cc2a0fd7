"""Confident verdicts of a run among its repeats, and without its start burst."""

from __future__ import annotations

import numpy as np
import pytest

from bench_tests.load.records import Records
from bench_tests.sweep.slo import Objective
from bench_tests.verdict.decide import ERROR, FAILED, PASSED, decide
from bench_tests.verdict.repeats import RepeatedRuns
from tests.support.make_records import records

LIMIT = [Objective("p99_ttft", 1.0)]


def run(ttft: np.ndarray, conc: int = 4) -> Records:
    """A closed loop whose requests have these TTFT, seconds."""
    sends = [10.0 * (i // conc) for i in range(len(ttft))]
    return records(sends, [[s + t, s + t + 1] for s, t in zip(sends, ttft, strict=True)])


def calm(n: int, seed: int = 1, level: float = 0.5) -> np.ndarray:
    return level * np.random.default_rng(seed).lognormal(0, 0.02, n)


def test_the_start_burst_is_left_out_of_a_confident_verdict_and_said() -> None:
    ttft = calm(1000)
    ttft[:16] = 5.0
    assert decide(run(ttft, 16), LIMIT, "point", [], block=16).word == FAILED
    got = decide(run(ttft, 16), LIMIT, "confident", [], block=16)
    assert got.word == PASSED
    assert "start burst of 16 left out" in got.messages[0]
    assert "n=984" in got.messages[0]


def test_a_run_that_is_all_burst_is_judged_as_it_is() -> None:
    assert decide(run(np.full(16, 5.0), 16), LIMIT, "confident", [], block=16).word == FAILED


def test_no_margin_where_nothing_was_measured() -> None:
    # 3 % beyond the limit in every request: an assumed run-to-run noise would make it too close to call
    assert decide(run(calm(400, level=1.1)), LIMIT, "confident", [], block=4).word == FAILED
    assert decide(run(calm(800, level=0.9)), LIMIT, "confident", [], block=4).word == PASSED


def test_repeats_are_judged_once_and_together() -> None:
    runs = [run(calm(204, seed)) for seed in (1, 2, 3)]
    alone = decide(runs[0], LIMIT, "confident", [], block=4)
    assert alone.word == ERROR, "200 requests without one over the limit are too few for a p99"
    repeated = RepeatedRuns({"point": [1, 2, 3]})
    words = []
    for number, of in enumerate(runs, 1):
        words.append(decide(of, LIMIT, "confident", [], block=4, repeats=repeated.of("point", number, 4)))
        repeated.take("point", number, of, 4)
    assert [verdict.word for verdict in words] == [PASSED] * 3
    assert "by the last" in words[0].messages[0]
    assert "n=600" in words[2].messages[0]
    assert "3 runs together" in words[2].messages[0]


@pytest.mark.parametrize(("levels", "word"), [((0.8, 0.8, 0.8), PASSED), ((0.6, 0.8, 0.97), ERROR)])
def test_runs_that_lie_apart_have_a_margin_that_was_measured(levels: tuple[float, ...], word: str) -> None:
    repeated = RepeatedRuns({"point": [1, 2, 3]})
    for number, level in enumerate(levels, 1):
        of = run(calm(404, number, level))
        got = decide(of, LIMIT, "confident", [], block=4, repeats=repeated.of("point", number, 4))
        repeated.take("point", number, of, 4)
    assert got.word == word
    if word == ERROR:
        assert "measured over 2 repeats" in got.messages[0]


def test_the_noise_of_other_points_counts_too() -> None:
    repeated = RepeatedRuns({"a": [1, 2], "b": [1, 2]})
    for number, level in ((1, 0.5), (2, 0.9)):
        repeated.take("a", number, run(calm(404, number, level)), 4)
    repeated.take("b", 1, run(calm(404, 5, 0.9)), 4)
    last = repeated.of("b", 2, 4)
    assert last is not None
    assert last.last
    noise = last.noise("ttft", 0.99, calm(400, 6, 0.9))
    assert noise is not None
    assert noise.df == 2
    assert noise.sd > 0.2


def test_a_point_that_is_measured_once_has_no_repeats() -> None:
    assert RepeatedRuns({"point": [1]}).of("point", 1, 4) is None
    assert RepeatedRuns().of("point", 1, 4) is None
