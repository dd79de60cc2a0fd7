"""The order of a sweep that may run out of time: every beginning of it spans the grid."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bench_tests.sweep.coarse import coarse_first
from bench_tests.sweep.point import Point


def test_the_corners_come_first_then_the_middles() -> None:
    points = [Point(isl, 128, conc) for isl in (1, 2, 3, 4, 5) for conc in (4, 8, 16)]
    order = coarse_first(points)
    assert order[:4] == [Point(1, 128, 4), Point(5, 128, 4), Point(1, 128, 16), Point(5, 128, 16)]
    assert {p.isl for p in order[:9]} == {1, 3, 5}


@given(st.sets(st.integers(1, 10**6), min_size=1, max_size=9), st.sets(st.integers(1, 512), min_size=1, max_size=9))
def test_each_point_has_its_turn_once(isls: set[int], concs: set[int]) -> None:
    points = [Point(isl, 8, conc) for isl in isls for conc in concs]
    order = coarse_first(points)
    assert sorted(order) == sorted(points)
    corners = min(4, len(points)) if len(isls) > 1 and len(concs) > 1 else min(2, len(points))
    assert {(p.isl, p.conc) for p in order[:corners]} == {
        (isl, conc) for isl in (min(isls), max(isls)) for conc in (min(concs), max(concs))
    }


def test_points_without_lengths_have_a_turn_too() -> None:
    points = [Point(0, 0, workload=f"users{n}") for n in (32, 8, 16)]
    assert [str(p) for p in coarse_first(points)] == ["users8", "users32", "users16"]
