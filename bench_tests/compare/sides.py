"""The results of two live servers as sides of a comparison: A, the session's own, and B, the one of `--against`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench_tests.compare.baseline import sample_of
from bench_tests.compare.change import SweepComparison
from bench_tests.compare.comparable import differences
from bench_tests.compare.paired import compare_paired
from bench_tests.compare.samples import PointRuns, RunSample
from bench_tests.figures import FIGURES, label_of
from bench_tests.results.read import as_read
from bench_tests.sweep.point import Point
from bench_tests.sweep.settings import Regression
from bench_tests.sweep.units import format_s

__all__ = ["compare_sides", "sides_rows"]

Measured = Mapping[tuple[Point, int], tuple[Path, Mapping[str, Any]]]  # (point, run) → its file and content
COLUMNS = ("point", "figure", "A", "B", "B/A", "95 % CI", "verdict")
WORDS = {"regression": "slower", "improvement": "faster", "same": "not slower", "unclear": "cannot tell"}


def compare_sides(a: Measured, b: Measured, rule: Regression) -> SweepComparison:
    """Is B slower than A? Runs of the same number are of the same prompts; two of them a round."""
    sides = [_runs(side) for side in (a, b)]
    levels: dict[Hashable, tuple[float, float]] = {
        point: (float(point.conc or point.rate), float(point.isl or 1)) for point in sides[0]
    }
    ours, theirs = ([PointRuns(point, runs) for point, runs in side.items()] for side in sides)
    found = compare_paired(ours, theirs, levels, rule.counts(), rule.alpha, rule.blind)
    return replace(found, context=(*_what_differs(a, b), *found.context))


def _runs(side: Measured) -> dict[Point, list[RunSample]]:
    """The runs of each point by their numbers; one that was not measured is there and empty, so that no pair shifts."""
    found: dict[Point, list[RunSample]] = {}
    for (point, run), (path, result) in sorted(side.items(), key=lambda entry: (str(entry[0][0]), entry[0][1])):
        runs = found.setdefault(point, [])
        read = as_read(result, path)
        runs += [RunSample()] * (run - 1 - len(runs)) + [sample_of(read) if read.measured else RunSample()]
    return found


def _what_differs(a: Measured, b: Measured) -> list[str]:
    shared = [key for key in a if key in b]
    if not shared:
        return []
    one, other = (as_read(side[shared[0]][1], side[shared[0]][0]) for side in (a, b))
    lines = [f"A: {_server(one.raw)}; B: {_server(other.raw)}"]
    found = [words for words in differences(one, other) if "concurrency" not in words]
    return [*lines, *([f"A and B differ in {'; '.join(found)}"] if found else [])]


def _server(result: Mapping[str, Any]) -> str:
    server = result.get("server") or {}
    return f"{server.get('base_url')} ({server.get('model')}, {server.get('engine')} {server.get('version')})"


def sides_rows(comparison: SweepComparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The headings and rows of the table: each figure of each point on both sides, and the sweep's last."""
    rows: list[tuple[str, ...]] = []
    for change in (*comparison.changes, *comparison.overall):
        values = ("", "")
        if change.point is not None:
            tok = FIGURES[change.metric].unit == "tok/s"
            values = (f"{change.baseline:,.0f} tok/s", f"{change.current:,.0f} tok/s") if tok else (
                format_s(change.baseline), format_s(change.current))  # fmt: skip
        interval = f"{change.low:.3f} to {change.high:.3f}"
        name = str(change.point or "sweep")
        rows.append((name, label_of(change.metric), *values, f"{change.ratio:.3f}", interval, _word(change.verdict, change.higher_is_better)))  # fmt: skip
    return COLUMNS, rows


def _word(verdict: str, higher_is_better: bool) -> str:
    words = WORDS[verdict]
    swap = {"slower": "lower", "faster": "higher", "not slower": "not lower"}
    return swap.get(words, words) if higher_is_better else words
