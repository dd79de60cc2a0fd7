"""Change points: found where they are, and none where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench_tests.compare.history.changes import segments
from bench_tests.compare.history.trend import trend_of
from benchmarks.history_nights import STEP_AT, first_alarm, nights


def test_two_steps_are_found_where_they_are_and_as_large_as_they_are() -> None:
    rng = np.random.default_rng(1)
    levels = np.concatenate([np.zeros(40), np.full(30, 0.05), np.full(30, -0.02)])
    found = segments(levels + rng.normal(0, 0.01, 100), 0.001)
    assert [split.at for split in found] == [pytest.approx(40, abs=1), pytest.approx(70, abs=1)]
    assert [split.moved for split in found] == [pytest.approx(0.05, abs=0.008), pytest.approx(-0.07, abs=0.008)]


def test_noise_has_a_change_as_rarely_as_was_asked() -> None:
    rng = np.random.default_rng(2)
    assert sum(bool(segments(rng.normal(0, 1, 60), 0.01)) for _ in range(500)) <= 5 + 3 * 5**0.5


def test_days_that_go_with_the_day_before_are_no_change() -> None:
    rng = np.random.default_rng(3)
    count = 0
    for _ in range(100):
        x = np.zeros(120)
        for i in range(1, 120):
            x[i] = 0.5 * x[i - 1] + rng.normal(0, 1)
        count += bool(segments(x, 0.001))
    assert count <= 10


def test_one_or_two_nights_that_stray_are_no_level() -> None:
    x = np.random.default_rng(4).normal(0, 0.01, 50)
    x[-2:] += 0.2
    assert [split.at for split in segments(x, 0.001) if split.at >= 48] == []


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-1, 1) | st.just(float("nan")), max_size=40), st.floats(1e-6, 0.5))
def test_any_series_is_taken(values: list[float], alpha: float) -> None:
    found = segments(np.array(values, np.float64), alpha)
    assert all(0 < split.at < len(values) and split.p <= alpha for split in found)
    assert [split.at for split in found] == sorted({split.at for split in found})


def test_a_step_of_a_history_is_found_soon_and_at_its_night() -> None:
    rng = np.random.default_rng(5)
    found = [first_alarm(nights(rng, 0.01, 0.04)) for _ in range(3)]
    assert all(a is not None and STEP_AT <= a[0] < STEP_AT + 5 and abs(a[1] - STEP_AT) <= 1 for a in found)


def test_a_point_that_moves_by_itself_is_named_and_the_sweep_is_not() -> None:
    rng = np.random.default_rng(6)
    sessions = nights(rng, 0.01, 0.0)
    slow = "isl4096-osl128-conc16 q"
    for session in sessions[50:]:
        session.figures[slow]["mean_tpot"] *= 1.12  # type: ignore[index]
    found = [c for c in trend_of(sessions).changes if c.metric == "mean_tpot" and abs(c.ratio - 1) > 0.05]
    assert [(c.point, c.at) for c in found] == [("isl4096-osl128-conc16", 50)]
    assert "isl4096-osl128-conc16 +1" in found[0].words
