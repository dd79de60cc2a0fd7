"""Three starts of one server on an H100, and one with a smaller batch: results that set no constant of the rule."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from bench_tests.compare.baseline import sample_of
from bench_tests.compare.regression import PointRuns, SweepComparison, compare_sweeps
from bench_tests.results.read import read_folder

STARTS = Path(__file__).parents[2] / "docs/examples/h100-starts"
NAMES = ("start1", "start2", "start3")


def held_against(now: str, *then: str, kind: str) -> SweepComparison:
    sides = [
        [sample_of(result) for name in names for result in read_folder(STARTS / f"{name}-{kind}").points]
        for names in ((now,), then)
    ]
    assert [len(side) for side in sides] == [3, 3 * len(then)]
    return compare_sweeps(*([PointRuns("isl1024-osl128-conc64", side)] for side in sides))


@pytest.mark.parametrize("kind", ["together", "staggered"])
def test_no_start_is_a_regression_of_another_or_of_the_other_two(kind: str) -> None:
    for now, then in permutations(NAMES, 2):
        assert not held_against(now, then, kind=kind).regressions
    for now in NAMES:
        assert not held_against(now, *(name for name in NAMES if name != now), kind=kind).regressions


def test_a_smaller_batch_is_found_by_its_p99_ttft_in_step_and_its_waves_are_named() -> None:
    found = held_against("start4-changed", *NAMES, kind="together")
    assert [change.metric for change in found.regressions] == ["p99_ttft"]
    assert found.regressions[0].ratio == pytest.approx(1.336, abs=0.01)
    assert any(line.startswith("in step: 0.98 → 0.62") for line in found.context)


def test_where_streams_fell_in_step_by_themselves_a_smaller_batch_is_left_open_and_no_pass() -> None:
    found = held_against("start4-changed", *NAMES, kind="staggered")
    assert not found.regressions
    assert found.blind
