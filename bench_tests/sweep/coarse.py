"""The order of a sweep that may run out of time: the corners of its grid first, then what lies between."""

from __future__ import annotations

from collections.abc import Iterable

from bench_tests.sweep.point import Point

__all__ = ["coarse_first"]


def coarse_first(points: Iterable[Point]) -> list[Point]:
    """The points in an order whose every beginning spans the grid: ends of each axis, then middles, then quarters.

    Within one step of refinement the cheaper load comes first, so that there is soon something to draw.
    """
    points = list(points)
    steps = [_steps(axis) for axis in ([p.isl for p in points], [p.osl for p in points], list(map(_load, points)))]

    def key(point: Point) -> tuple[int, float, int, int]:
        finest = max(step[value] for step, value in zip(steps, (point.isl, point.osl, _load(point)), strict=True))
        return finest, _load(point), point.isl, point.osl

    return sorted(points, key=key)


def _load(point: Point) -> float:
    return float(point.rate or point.users or point.conc)


def _steps(values: Iterable[float]) -> dict[float, int]:
    """At which step of halving each value of an axis is reached: 0 for both ends, 1 for the middle, and so on."""
    axis = sorted(set(values))
    found = {axis[0]: 0, axis[-1]: 0} if axis else {}
    gaps, step = [(0, len(axis) - 1)], 0
    while gaps:
        step += 1
        halves = [(low, (low + high) // 2, high) for low, high in gaps if high - low > 1]
        for _, middle, _ in halves:
            found[axis[middle]] = step
        gaps = [gap for low, middle, high in halves for gap in ((low, middle), (middle, high))]
    return found
