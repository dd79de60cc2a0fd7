"""What a session asks of its profile by the command line: overridden keys, points, configurations of the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from bench_tests.errors import UsageError
from bench_tests.sweep.applies import all_apply
from bench_tests.sweep.options import OPTIONS
from bench_tests.sweep.point import Point
from bench_tests.sweep.profile import Profile, in_config

__all__ = ["apply_options", "selected_configs", "selected_points"]


def apply_options(profile: Profile, option: Callable[[str], Any]) -> Profile:
    """The profile as the command line overrides it; `option` gives the value of a flag, None where it was not given."""
    tables: dict[str, dict[str, Any]] = {}
    for one in OPTIONS:
        value = option(one.flag) if one.sets else None
        if value not in (None, "", one.kwargs.get("default")):
            table, _, key = one.sets.partition(".")
            tables.setdefault(table, {})[key] = value
    changed: dict[str, Any] = {name: replace(getattr(profile, name), **keys) for name, keys in tables.items()}
    profile = replace(profile, **changed, load_of_file=profile.load)
    if option("--slo") is not None:
        profile = replace(profile, slo=replace(profile.slo, limits_s=option("--slo"), overrides=()))
    if option("--goodput") is not None:
        profile = replace(profile, goodput=option("--goodput"))
    configs = {name: apply_options(one, option) for name, one in profile.configs.items()}
    return replace(profile, configs=configs)


def _of_users(profile: Profile, points: list[Point]) -> list[Point]:
    """The points of --point as points of sessions. Raises UsageError."""
    found = [
        replace(point, workload=profile.workload.of_users(point.users)) if point.users else point for point in points
    ]
    for number, point in enumerate(found):
        if not point.users:
            raise UsageError(f"--point {point}: sessions have users and lengths of their own; use e.g. --point users32")
        if point in found[:number]:
            raise UsageError(f"--point {point} is given twice; keep one")
    return found


def selected_configs(profile: Profile, names: Sequence[str] | None) -> list[str]:
    """The configurations of --config, else all that the profile has, in its order. Raises UsageError for an unknown one."""
    for name in names or ():
        in_config(profile, name)
    return [name for name in profile.configs if not names or name in names]


def selected_points(profile: Profile, points: list[Point] | None) -> list[Point]:
    """The points of --point, else the profile's. Raises UsageError for one that is named twice, or none at all."""
    all_apply(profile, points)
    if not points:
        found = profile.points
        if not found:
            keys = (
                "sweep.users, or use --point users32"
                if profile.workload.sessions
                else "sweep.isl and sweep.concurrency, or use --point"
            )
            raise UsageError(f"{profile.source}: it has no points; set {keys}")
        return found
    if profile.workload.sessions:
        return _of_users(profile, points)
    if profile.workload.trace or profile.workload.dataset:
        raise UsageError(f"--point {points[0]}: {profile.workload.name} has lengths of its own; leave out --point")
    if profile.workload.ramp:  # a concurrency of the point is a cap then
        points = [replace(point, rate=0.0, workload=profile.workload.name) for point in points]
    for number, point in enumerate(points):
        if point in points[:number]:
            raise UsageError(f"--point {point} is given twice; keep one")
    return points
