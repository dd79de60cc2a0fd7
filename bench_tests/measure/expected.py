"""How long a point will take: by itself where it was measured before, else by its nearest neighbours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench_tests.sweep.point import Point

__all__ = ["Expected"]

# how the time of one wave grows, where nothing was measured: with its answers' length, and less with prompts and load
SLOPES = {"isl": 0.5, "osl": 1.0, "load": 0.5}
NEAREST = 3  # neighbours that are asked


@dataclass
class Expected:
    """Seconds a request takes of a point's time, by what points took so far."""

    _took_s: dict[Point, float] = field(default_factory=dict)  # a request

    def learn(self, point: Point, requests: int, seconds: float) -> None:
        """A point took so many seconds for so many requests, warm-ups among them."""
        if requests > 0 and seconds > 0:
            self._took_s[point] = seconds / requests

    def learn_earlier(self, point: Point, result: Mapping[str, Any]) -> None:
        """Take a result of an earlier session, where it says how long it took."""
        duration, completed = result.get("duration"), result.get("completed")
        if isinstance(duration, int | float) and isinstance(completed, int) and duration > 0 and completed > 0:
            self._took_s.setdefault(point, float(duration) / completed)

    def seconds(self, point: Point, requests: int) -> float | None:
        """How long so many requests of the point take; None where nothing like it was measured."""
        each = self._took_s.get(point)
        if each is None:
            each = self._by_neighbours(point)
        return None if each is None else each * requests

    def _by_neighbours(self, point: Point) -> float | None:
        """Formula: the geometric mean of the nearest points' seconds a wave, each carried over by SLOPES."""
        known = [
            (_apart(point, other), other)
            for other in self._took_s
            if bool(other.rate) == bool(point.rate) and not point.workload and not other.workload
        ]
        if not known:
            return None
        nearest = sorted(known, key=lambda pair: (sum(abs(a) for a in pair[0].values()), pair[1]))[:NEAREST]
        logs = [
            math.log(self._took_s[other] * _load(other)) + sum(SLOPES[axis] * apart[axis] for axis in SLOPES)
            for apart, other in nearest
        ]
        return math.exp(sum(logs) / len(logs)) / _load(point)


def _apart(point: Point, other: Point) -> dict[str, float]:
    """How far two points lie apart on each axis of SLOPES, as logarithms."""
    return {
        "isl": math.log(point.isl / other.isl),
        "osl": math.log(point.osl / other.osl),
        "load": math.log(_load(point) / _load(other)),
    }


def _load(point: Point) -> float:
    return float(point.rate or point.conc or 1)
