"""The experiment behind the documented error rates: its families are what they say, and its counts add up."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.confident_verdicts import FAMILIES, coverage, verdicts


def test_each_run_has_one_verdict_of_each_kind() -> None:
    count = verdicts("normal", 8, 0.2, 5, 1)
    for kind in ("fixed", "sequential"):
        for factor in (1, 1.2, 0.8):
            assert sum(count[f"{kind} {factor} {word}"] for word in ("PASS", "FAIL", "INSUFFICIENT")) == 5
    assert count["fixed 1.2 PASS"] == count["fixed 0.8 FAIL"] == 5
    assert count["used 0.8"] < count["used 1.2"] <= 5 * 1992


@pytest.mark.parametrize("name", FAMILIES)
def test_families_give_as_many_as_asked_and_share_by_wave(name: str) -> None:
    rng = np.random.default_rng(1)
    draw = FAMILIES[name].draw
    assert len(draw(rng, 1003, 64, 0.5)) == 1003
    if name != "misaligned":
        spread = {icc: np.std(draw(rng, 64 * 400, 64, icc).reshape(-1, 64).mean(axis=1)) for icc in (0.0, 0.5)}
        assert spread[0.5] > 2 * spread[0.0]


def test_a_shared_part_makes_requests_that_are_taken_as_independent_miss() -> None:
    count = coverage(0.0, 64, 40, 60, 1)
    assert count["waves"] > 50
    assert count["independent"] < 45
