"""A verdict's words: intervals carry their unit, and what is equal is never called larger."""

from __future__ import annotations

import pytest

from bench_tests.sweep.slo import Objective
from bench_tests.sweep.units import format_apart, format_range
from bench_tests.verdict.decide import _compared


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.00998, 0.0101, "9.98 to 10.1 ms"),
        (1.41, 1.83, "1.41 to 1.83 s"),
        (0.9, 1.2, "0.9 to 1.2 s"),
        (0.18, None, "180 ms to –"),
        (None, 0.2, "– to 200 ms"),
        (2e-5, 8e-5, "20 to 80 µs"),
    ],
)
def test_an_interval_carries_its_unit(low: float | None, high: float | None, words: str) -> None:
    assert format_range(low, high) == words


def test_equal_figures_are_not_called_larger() -> None:
    assert _compared(Objective("p99_tpot", 0.01), 0.01) == "p99 TPOT 10.0 ms ≤ 10.0 ms (equal"


@pytest.mark.parametrize("value", [0.0100004, 0.01000000004, 0.0099999])
def test_figures_that_are_nearly_equal_show_the_digits_that_differ(value: float) -> None:
    shown, limit = format_apart(value, 0.01)
    assert shown != limit
    words = _compared(Objective("p99_tpot", 0.01), value)
    assert (" > " in words) == (value > 0.01)
    assert "+0 %" not in words
    assert "-0 %" not in words
