"""All pictures of a folder, and the two that a sweep's end and `--output` want."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench_tests.compare.sessions import read_latest
from bench_tests.errors import UsageError
from bench_tests.results.schema import LeftOut, PointResult, Results
from plotting import style
from plotting.capacity import capacity_data, draw_capacity
from plotting.cost import cost_data, draw_cost
from plotting.distribution import distribution_data, draw_distribution
from plotting.draw_configs import draw_families
from plotting.frontier import draw_frontier, frontier_data
from plotting.group import Group, split
from plotting.heatmap import draw_heatmap, heatmap_data
from plotting.latency import draw_latency, latency_data
from plotting.lines import draw_lines, lines_data
from plotting.pareto import draw_pareto, pareto_data
from plotting.raw_records import load_records
from plotting.server_series import load_series
from plotting.timeline import draw_timeline, timeline_data
from plotting.turns import draw_turns, turns_data

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Drawn", "draw_all", "draw_pair", "draw_results"]

_MOST_ROWS = 6  # groups in one picture
_MOST_ISLS = 40  # latency pictures of a group
_MOST_POINTS = 60  # points whose records are drawn, two pictures each

Tiers = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Drawn:
    """The files that were written, what was left out of them, and notes on pictures that could not be made."""

    files: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...] = ()
    count: str = ""  # how many files were read and left out, in words


def draw_all(
    results_dir: Path,
    output_dir: Path,
    *,
    report: Path | None = None,
    details: bool = True,
    against: Sequence[str] = (),
) -> Drawn:
    """Every picture that the results in `results_dir` allow, as PNG in `output_dir`, and the report when asked for.

    Without `details` the two pictures of each single point (distribution and timeline) are left out. `against`: what the
    session's comparison with its baseline says, a line each, for the report.

    Raises UsageError (one line) when the folder is missing or holds no result.
    """
    results = with_points(read_latest(results_dir))
    drawn = replace(draw_results(results, output_dir, details=details), count=results.count)
    searches, broken = capacity_data(results_dir)
    tails = [f"-{at}" if at else "" for at in range(len(searches))]
    capacities = tuple(
        style.save(draw_capacity(data), output_dir / f"capacity{tail}.png")
        for tail, data in zip(tails, searches, strict=True)
    )
    drawn = replace(drawn, files=(*drawn.files, *capacities), left_out=(*drawn.left_out, *broken))
    if report is None:
        return drawn
    from plotting.report import write_report

    return replace(drawn, files=(*drawn.files, write_report([results], report, against=against)))


def with_points(results: Results) -> Results:
    """The same results. Raises UsageError when they hold no point."""
    if results.points:
        return results
    found = f"{len(results.left_out)} JSON files, none of them a result" if results.left_out else "no JSON file"
    first = f" ({results.left_out[0].path.name}: {results.left_out[0].reason})" if results.left_out else ""
    raise UsageError(f"--results-dir {results.folder}: nothing to draw: {found}{first}; run a sweep into it first")


def draw_pair(results: Results, output: Path, tiers: Tiers | None = None, source: str = "") -> Drawn:
    """The SLA frontier into `output` and the throughput lines beside it, as `NAME-lines.png`."""
    groups = split(results.points)
    notes = _too_many(groups)
    shown = groups[:_MOST_ROWS]
    lines = output.with_name(f"{output.stem}-lines{output.suffix}")
    files = [
        style.save(draw_frontier(frontier_data(shown, tiers), source=source), output),
        style.save(draw_lines(lines_data(shown), source=source), lines),
    ]
    return Drawn(tuple(files), results.left_out, tuple(notes))


def _too_many(groups: Sequence[Group]) -> list[str]:
    rest = groups[_MOST_ROWS:]
    if not rest:
        return []
    return [f"{len(rest)} more groups are not in this picture (use --all): {'; '.join(g.title for g in rest[:4])}"]


def draw_results(
    results: Results,
    output_dir: Path,
    tiers: Tiers | None = None,
    source: str = "",
    suffix: str = ".png",
    only: Sequence[str] = (),
    details: bool = True,
) -> Drawn:
    """Pictures 1 to 6 and 8 for each group of `results`. `only`: point ids whose records are drawn (none: all)."""
    files: list[Path] = []
    notes: list[str] = []
    groups = split(results.points)
    for group in groups:
        tail = f"-{group.slug}" if len(groups) > 1 else ""

        def keep(name: str, figure: Figure, tail: str = tail) -> None:
            files.append(style.save(figure, output_dir / f"{name}{tail}{suffix}"))

        keep("frontier", draw_frontier(frontier_data([group], tiers), source=source))
        keep("throughput", draw_lines(lines_data([group]), source=source))
        keep("heatmap", draw_heatmap(heatmap_data(group), source=source))
        pareto = pareto_data(group)
        if pareto.series:
            keep("interactivity", draw_pareto(pareto, source=source))
        else:
            notes.append(f"{group.title}: no picture of interactivity: no result holds a median TPOT")
        if cost := cost_data(group):
            keep("cost", draw_cost(cost, source=source))
        isls = sorted({cell.isl for cell in group.cells})
        for isl in isls[:_MOST_ISLS]:
            keep(f"latency-isl{isl}", draw_latency(latency_data(group, isl), source=source))
        if len(isls) > _MOST_ISLS:
            notes.append(f"{group.title}: latency pictures for the first {_MOST_ISLS} of {len(isls)} ISLs only")
        for point in group.points[:_MOST_POINTS]:
            turns = turns_data(point, group.title, group.caption_of(point))
            if turns:
                keep(f"turns-{_name(point)}", draw_turns(turns, source=source))
        if details:
            notes += _from_records(group, only, keep, source)
    files += draw_families(results.points, output_dir, tiers, source, suffix)
    return Drawn(tuple(files), results.left_out, tuple(notes))


def _from_records(group: Group, only: Sequence[str], keep: Callable[[str, Figure], None], source: str) -> list[str]:
    """The distribution and the timeline of each point that has records; a note says which have none."""
    with_records = [p for p in group.points if p.records and (not only or p.point_id in only)]
    if not with_records:
        return [f"{group.title}: no latency distribution and no timeline: the results name no records file"]
    notes = []
    for point in with_records[:_MOST_POINTS]:
        try:
            _draw_point(group, point, keep, source)
        except UsageError as why:
            notes.append(str(why))
    if len(with_records) > _MOST_POINTS:
        notes.append(f"{group.title}: records of {_MOST_POINTS} of {len(with_records)} results drawn (--point picks)")
    return notes


def _name(point: PointResult) -> str:
    """What a point's own pictures are called after."""
    return re.sub(r"[^a-z0-9._-]", "", point.point_id + (f"-run{point.run}" if point.run > 1 else ""))


def _draw_point(group: Group, point: PointResult, keep: Callable[[str, Figure], None], source: str) -> None:
    assert point.records is not None
    records = load_records(point.records)
    name = _name(point)
    alone = group.caption_of(point)
    distribution = distribution_data(point, records, group.title, alone)
    if distribution.curves:
        keep(f"distribution-{name}", draw_distribution(distribution, source=source))
    series = load_series(point.series) if point.series else None
    timeline = timeline_data(point, records, group.title, alone, series)
    if timeline:
        keep(f"timeline-{name}", draw_timeline(timeline, source=source))
