"""Streams that are apart at first and then fall into step: a run of two states, of which the later one lasts."""

from __future__ import annotations

import numpy as np
import pytest

from bench_tests.load.records import Records
from bench_tests.sweep.settings import Validity
from bench_tests.sweep.slo import Objective
from bench_tests.verdict.checks.check import Check
from bench_tests.verdict.checks.load import asked_load
from bench_tests.verdict.decide import ERROR, FAILED, PASSED, Verdict, decide
from bench_tests.verdict.in_step import fell_into_step
from tests.support.make_records import records
from tests.verdict.test_validity import facts

CONC, APART, LOCKED = 32, 12, 30  # streams; waves of each state, 10 s long
LIMIT = Objective("p99_ttft", 1.0)


def run(early: np.ndarray, late: np.ndarray, apart: int = APART, together: int = LOCKED) -> Records:
    """`early`, `late`: TTFT of the two states in seconds, (waves · CONC,) each. The last request apart ends with all others."""
    spread = np.linspace(0, 10, CONC, endpoint=False)
    first = (np.arange(apart)[:, None] * 10 + spread).ravel()
    then = np.repeat(apart * 10 + 10 + np.arange(together) * 10.0, CONC)
    sends = np.r_[first, then]
    end = np.where(np.arange(len(sends)) // CONC == apart - 1, apart * 10 + 10, sends + 10) - 0.01
    ttft = np.r_[early, late]
    return records(
        sends.tolist(), [[s + t, e] for s, t, e in zip(sends, ttft, end, strict=True)], measured=[True] * len(sends), end_s=end,
        scheduled_s=np.full(len(sends), np.nan),
    )  # fmt: skip


def waves(rng: np.random.Generator, level: float, count: int, spread: float = 0.01) -> np.ndarray:
    """The slowest of a wave near `level`, the others evenly below it."""
    top = level * np.exp(rng.normal(0, spread, count))
    return np.asarray((top[:, None] * np.linspace(0.3, 1.0, CONC)).ravel())


def judged(of: Records, mode: str = "confident") -> Verdict:
    return decide(of, [LIMIT], mode, [], block=CONC)


def test_the_moment_and_both_states_are_found() -> None:
    rng = np.random.default_rng(1)
    found = fell_into_step(run(waves(rng, 0.5, APART), waves(rng, 0.8, LOCKED)))
    assert found is not None
    assert found.at_s == pytest.approx(APART * 10, abs=12)
    assert (found.before, found.after) == (pytest.approx(0.0, abs=0.2), pytest.approx(1.0, abs=0.05))


@pytest.mark.parametrize(
    ("apart", "together"), [(APART, 0), (0, LOCKED), (APART, 1)], ids=["apart", "in step", "at the very end"]
)
def test_one_state_is_no_two(apart: int, together: int) -> None:
    rng = np.random.default_rng(1)
    assert fell_into_step(run(waves(rng, 0.5, apart), waves(rng, 0.8, together), apart, together)) is None


@pytest.mark.parametrize(("level", "together", "word"), [(0.8, LOCKED, PASSED), (1.1, 14, FAILED)])
def test_the_state_that_lasts_decides_what_two_states_leave_open(level: float, together: int, word: str) -> None:
    rng = np.random.default_rng(2)
    got = judged(run(waves(rng, 0.5, APART), waves(rng, level, together), together=together))
    assert got.word == word, got.messages
    assert "fell into step" in got.messages[0]


@pytest.mark.parametrize("apart", [4, APART])
def test_a_later_state_within_the_limit_passes_no_run_whose_figure_is_beyond_it(apart: int) -> None:
    rng = np.random.default_rng(3)
    of = run(waves(rng, 1.6, apart), waves(rng, 0.8, LOCKED), apart)
    assert fell_into_step(of) is not None
    assert judged(of).word != PASSED


def test_a_limit_at_the_truth_of_the_later_state_is_seldom_decided() -> None:
    rng, words = np.random.default_rng(4), []
    # the p99 of requests that wait behind each other evenly, the slowest of a wave varying by 5 %
    many = waves(rng, 1.0, 20_000, 0.05)
    scale = 1 / float(np.quantile(many, 0.99))
    for _ in range(100):
        words.append(judged(run(waves(rng, 0.5, APART), waves(rng, scale, LOCKED, 0.05))).word)
    assert words.count(PASSED) + words.count(FAILED) <= 7, words


def test_point_mode_judges_the_figure_as_ever_and_a_note_names_the_two_states() -> None:
    rng = np.random.default_rng(5)
    of = run(waves(rng, 0.5, APART), waves(rng, 1.1, LOCKED))
    assert "fell into step" not in judged(of, "point").messages[0]
    assert "more warm-up" in two_states(of, {"begun_over_s": None})
    assert "--start together" in two_states(of, {"begun_over_s": 9.8}), "no advice that was followed already"


def two_states(of: Records, client: dict[str, float | None]) -> str:
    note = {check.name: check for check in asked_load(of, facts(client=[client]), Validity())}["two_states"]
    assert note.ok
    return note.text


@pytest.mark.parametrize("apart_again", [4, 8])
def test_streams_that_left_step_again_did_not_stay_in_it(apart_again: int) -> None:
    rng = np.random.default_rng(6)
    both = run(waves(rng, 0.5, APART), waves(rng, 0.8, LOCKED))
    assert fell_into_step(both) is not None
    sends = (APART + LOCKED + 1) * 10 + np.arange(apart_again * CONC) * 10 / CONC
    n = len(both) + len(sends)
    three = records(
        [*both.send_s, *sends], [[s + 0.5, s + 9.99] for s in [*both.send_s, *sends]], measured=[True] * n,
        end_s=np.r_[both.end_s, sends + 9.99], scheduled_s=np.full(n, np.nan),
    )  # fmt: skip
    assert fell_into_step(three) is None


@pytest.mark.parametrize("conc", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("jitter", [0.03, 0.1])
def test_few_streams_that_know_nothing_of_each_other_did_not_fall_into_step(conc: int, jitter: float) -> None:
    for seed in range(20):
        took = np.maximum(0.05, 1 + jitter * np.random.default_rng(seed).normal(size=(conc, 60)))
        end = np.cumsum(took, axis=1) + np.arange(conc)[:, None] / conc
        sends, ends = (end - took).ravel(), end.ravel()
        apart = records(
            sends.tolist(), [[s, e] for s, e in zip(sends, ends, strict=True)], measured=[True] * len(sends), end_s=ends,
            scheduled_s=np.full(len(sends), np.nan),
        )  # fmt: skip
        assert fell_into_step(apart) is None


def test_the_second_question_has_its_part_of_the_error_that_was_asked() -> None:
    """A probe of a search has an eighth of the search's; what decides at 5 % must not decide at any level."""
    of, words = run(waves(np.random.default_rng(2), 0.5, APART), waves(np.random.default_rng(2), 0.8, LOCKED)), []
    for level in (0.95, 1 - 1e-12):
        words.append(decide(of, [LIMIT], "confident", [], block=CONC, level=level).word)
    assert words == [PASSED, ERROR]


def test_an_open_verdict_is_one_that_the_requests_leave_open() -> None:
    near = run(waves(np.random.default_rng(2), 0.5, APART), waves(np.random.default_rng(2), 0.98, LOCKED, 0.05))
    assert judged(near).open
    assert not decide(near, [LIMIT], "confident", [Check("clock", False, 1.0, 0.0, "s", "set")], block=CONC).open
    assert not decide(near, [LIMIT, Objective("j_per_output_token", 1.0)], "confident", [], block=CONC).open, (
        "a figure is missing"
    )
