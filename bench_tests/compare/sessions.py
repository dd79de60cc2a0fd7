"""Results belong to sessions (one start of pytest): of each question the latest session's runs stand, older ones are named.

A session that goes on with another's results (`--resume`) names it in `resumes`: the two are one. Files of other tools name
no session; all of theirs stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench_tests.compare.comparable import group_key
from bench_tests.results.read import read_folder
from bench_tests.results.schema import LeftOut, PointResult, Results

__all__ = ["latest_sessions", "read_latest"]


def read_latest(folder: Path, option: str = "--results-dir") -> Results:
    """The results of a folder, of each point the latest session's. Raises UsageError when it is no folder."""
    return latest_sessions(read_folder(folder, option))


def latest_sessions(results: Results) -> Results:
    """The same results without the runs of a point that a later session has measured again, which are left out by name.

    Such runs are `_run2` and `_run3` of last week's `--repeat 3` beside the one run of today.
    """
    whole = _joined(results.points)
    ended: dict[str, str] = {}
    for point in results.points:
        if point.run_id:
            session = whole[point.run_id]
            ended[session] = max(ended.get(session, ""), point.date)
    latest: dict[tuple[object, ...], tuple[str, str]] = {}
    places = [_place(point) for point in results.points]
    for point, place in zip(results.points, places, strict=True):
        if point.run_id:
            session = whole[point.run_id]
            latest[place] = max(latest.get(place, ("", "")), (ended[session], session))
    kept: list[PointResult] = []
    left_out = list(results.left_out)
    for point, place in zip(results.points, places, strict=True):
        session = latest.get(place, ("", ""))[1]
        if not point.run_id or whole[point.run_id] == session:
            kept.append(point)
        else:
            words = f"run of an earlier session ({point.run_id}, {point.date or 'no date'}): {session} measured the point again"
            left_out.append(LeftOut(point.source, words))
    return replace(results, points=tuple(kept), left_out=tuple(left_out))


def _place(point: PointResult) -> tuple[object, ...]:
    """What a run is a run of, whatever the server's version: an upgrade is measured again, not beside."""
    return (point.isl, point.osl, point.conc, point.request_rate, point.source.parent, *group_key(point, version=False))


def _joined(points: Sequence[PointResult]) -> dict[str, str]:
    """Each session's name, and the one that it counts as: sessions that went on with each other share one."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for point in points:
        if point.run_id:
            root(point.run_id)
            for earlier in point.resumes:
                if root(earlier) != root(point.run_id):
                    parent[root(earlier)] = root(point.run_id)
    return {name: root(name) for name in parent}
