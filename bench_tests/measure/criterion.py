"""What a sequential run of a point is judged by, as its profile says it."""

from __future__ import annotations

from bench_tests.sweep.point import Point
from bench_tests.sweep.profile import Profile
from bench_tests.verdict.early import Criterion

__all__ = ["criterion_of"]


def criterion_of(profile: Profile, point: Point) -> Criterion:
    """The objectives of the point, or its requests' limits where the share within them decides."""
    slo = profile.slo
    limits = profile.goodput.limits_s if slo.attain and profile.goodput else {}
    return Criterion(slo.objectives(point), slo.level, slo.attain, limits, point.osl, slo.first)
