"""The interactive charts as plain data: the same `*_data` as the pictures, in the shape that charts.js draws.

A chart is `{id, title, note, panels}`; a panel has axis titles and traces; a trace has `x`, `y`, `hover` (a text for
each value), `at` (the index of the point to open on a click, or null) and a colour by role, not by value, so that the
page can suit it to its theme.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from plotting import style
from plotting.compare import COMPARED, CompareData
from plotting.frontier import frontier_data
from plotting.group import OWN_LENGTHS, Cell, Group, isl_words
from plotting.heatmap import heatmap_data
from plotting.latency import latency_data, latency_unit
from plotting.lines import LinesPanel, lines_data
from plotting.pareto import pareto_data

__all__ = ["Index", "compare_chart", "group_charts"]

Chart = dict[str, Any]
#: from a result's identity to its place in the table
Index = Mapping[int, int]


def _at(cell: Cell, index: Index) -> int | None:
    return index.get(id(cell.runs[0]))


def _text(cell: Cell) -> str:
    """What hovering over a point says."""
    lengths = f"ISL {cell.isl:,} · OSL {cell.osl:,}" if cell.isl else OWN_LENGTHS
    lines = [f"{lengths} · {cell.load} · {cell.verdict}"]
    for metric in ("ttft", "tpot"):
        p50, p99 = cell.metric(f"median_{metric}"), cell.metric(f"p99_{metric}")
        if p50 is not None or p99 is not None:
            lines.append(f"{metric.upper()} p50 {_time(p50)}, p99 {_time(p99)}")
    for side in ("input", "output"):
        if (value := cell.throughput(side)) is not None:
            lines.append(f"{side} {style.amount(value)} tok/s{'/GPU' if cell.runs[0].gpus else ''}")
    counts = "+".join(str(run.n) for run in cell.measured if run.n is not None)
    return "\n".join([*lines, f"n = {counts}"] if counts else lines)


def _time(value: float | None) -> str:
    return "not measured" if value is None else style.seconds(value)


def group_charts(group: Group, index: Index, tiers: Mapping[str, Sequence[float]] | None) -> list[Chart]:
    """The charts of one group: frontier, throughput, interactivity, latency by ISL, verdicts."""
    cells = {(cell.isl, cell.level): cell for cell in group.cells}
    return [
        _frontier(group, index, tiers),
        _lines(group, cells, index),
        _pareto(group, cells, index),
        *(_latency(group, isl, cells, index) for isl in sorted({cell.isl for cell in group.cells})[:40]),
        _heatmap(group, cells, index),
    ]


def _frontier(group: Group, index: Index, tiers: Mapping[str, Sequence[float]] | None) -> Chart:
    data = frontier_data([group], tiers)
    panels = []
    for panel, side in zip(data.rows[0][1:], ("input", "output"), strict=True):
        assert not isinstance(panel, str)
        traces: list[dict[str, Any]] = []
        for i in reversed(range(len(panel.bands))):
            band = panel.bands[i]
            hover = [
                f"p99 {panel.metric.upper()} {band.label}\nISL {isl:,}: at best {style.amount(y)} tok/s"
                if y is not None
                else ""
                for isl, y in zip(panel.isls, band.best, strict=True)
            ]
            name = f"p99 {panel.metric.upper()} {band.label}" + ("" if any(band.best) else ": none")
            traces.append(_trace(name, panel.isls, band.best, hover, order=(i, len(panel.bands)), fill=True))
        of = [cell for cell in group.cells if cell.throughput(side) is not None]
        traces.append(
            _trace(
                "every point",
                [c.isl for c in of],
                [c.throughput(side) for c in of],
                [_text(c) for c in of],
                role="grey",
                lines=False,
                at=[_at(c, index) for c in of],
            )
        )
        panels.append(_panel(panel.side, "token position = ISL (tokens)", _label(group, side), traces, panel.isls))
    return {
        "id": "frontier",
        "title": "SLA frontier",
        "panels": panels,
        "note": f"Best throughput whose p99 is within each tier. A gap: no point meets it. {data.tiers_from}.",
    }


def _label(group: Group, side: str) -> str:
    return style.throughput_label(side, per_gpu=group.gpus is not None)


def _lines(group: Group, cells: Mapping[tuple[int, float], Cell], index: Index) -> Chart:
    data = lines_data([group])
    panels = []
    for panel, side in zip(data.rows[0][1:], ("input", "output"), strict=True):
        assert isinstance(panel, LinesPanel)
        traces = []
        for i, line in enumerate(panel.series):
            of = [cells.get((isl, line.order)) for isl in panel.isls]
            traces.append(
                _trace(
                    line.name,
                    line.x,
                    line.y,
                    [_text(c) if c else "" for c in of],
                    order=(i, len(panel.series)),
                    at=[_at(c, index) if c else None for c in of],
                )
            )
        panels.append(_panel(panel.side, "token position = ISL (tokens)", _label(group, side), traces, panel.isls))
    title = f"Throughput by {group.axis.partition(' ')[0]}"
    return {"id": "throughput", "title": title, "panels": panels, "note": ""}


def _pareto(group: Group, cells: Mapping[tuple[int, float], Cell], index: Index) -> Chart:
    data = pareto_data(group)
    traces = []
    for i, (line, levels) in enumerate(zip(data.series, data.levels, strict=True)):
        of = [cells[int(line.order), level] for level in levels]
        hover = [f"{_text(c)}\n{x:.4g} tok/s/user" for c, x in zip(of, line.x, strict=True)]
        at = [_at(c, index) for c in of]
        traces.append(_trace(line.name, line.x, line.y, hover, order=(i, len(data.series)), at=at))
    x = "interactivity = 1 / median TPOT (tok/s/user)"
    return {
        "id": "interactivity",
        "title": "Throughput against interactivity",
        "note": "Better is up and to the right.",
        "panels": [_panel("", x, _label(group, "output"), traces)],
    }


def _latency(group: Group, isl: int, cells: Mapping[tuple[int, float], Cell], index: Index) -> Chart:
    data = latency_data(group, isl)
    of = [cells[isl, level] for level in data.levels]
    names = list(data.loads)
    panels = []
    for panel in data.panels:
        scale, unit = latency_unit(panel)
        title = f"{panel.metric.upper()} ({unit})"
        traces = []
        for line, role in zip(panel.lines, ("blue", "red"), strict=True):
            bars = [[None if v is None or v == math.inf else v * scale for v in side] for side in (line.low, line.high)]
            y = [None if v is None else v * scale for v in line.y]
            traces.append(
                _trace(
                    f"{line.name} {title}",
                    names,
                    y,
                    [_text(c) for c in of],
                    role=role,
                    at=[_at(c, index) for c in of],
                    bars=bars if any(map(any, bars)) else None,
                )
            )
        for name, limits in panel.limits:
            y = [None if v is None else v * scale for v in limits]
            hover = ["" if v is None else f"SLO: {name} {panel.metric.upper()} ≤ {style.seconds(v)}" for v in limits]
            role = "red" if name == "p99" else "blue"
            traces.append(_trace(f"SLO {name} ({unit})", names, y, hover, role=role, dash=True))
        panels.append(_panel(panel.metric.upper(), data.axis, title, traces) | {"category": names})
    note = f"Bars: {data.interval_kind}." if data.interval_kind else "No intervals in these files."
    return {
        "id": f"latency-{isl}",
        "title": f"Latency against {data.axis.partition(' ')[0]}, {isl_words(isl)}",
        "panels": panels,
        "note": note,
    }


def _heatmap(group: Group, cells: Mapping[tuple[int, float], Cell], index: Index) -> Chart:
    data = heatmap_data(group)
    hover, at = [], []
    for level, load in group.levels.items():
        row = [cells.get((isl, level)) for isl in data.isls]
        hover.append(
            [
                _text(c) if c else f"{isl_words(isl)} · {load} of {data.axis}: not measured"
                for c, isl in zip(row, data.isls, strict=True)
            ]
        )
        at.append([_at(c, index) if c else None for c in row])
    cell = {
        "state": data.state,
        "text": data.text,
        "hover": hover,
        "at": at,
        "x": [f"{isl:,}" if isl else OWN_LENGTHS for isl in data.isls],
        "y": list(data.loads),
    }
    panel = _panel("", "ISL (tokens)", data.axis, []) | {"cells": cell}
    return {
        "id": "verdicts",
        "title": "Verdicts",
        "panels": [panel],
        "note": "In each cell: p99 TTFT above, p99 TPOT below."
        + (" ?: measured, not decided." if any("open" in row for row in data.state) else ""),
    }


_STATES = {"unknown": "cannot tell", "same": "no change shown"}


def compare_chart(data: CompareData) -> Chart:
    """Ratios to the base run, with intervals; regressions are the filled red ones."""
    rows = [place.words for place in data.points]
    at = dict(zip(data.points, rows, strict=True))
    roles = {"worse": "red", "worse?": "red", "better": "blue", "better?": "blue", "unknown": "grey", "same": "ink"}
    panels = []
    for metric, name, more_is_worse in COMPARED:
        traces = []
        for run in data.runs:
            for state, role in roles.items():
                of = [r for r in data.ratios if (r.metric, r.run, r.state) == (metric, run, state)]
                if not of:
                    continue
                hover = [
                    f"{at[r.place]}\n{name}: {r.ratio:.3f} × base ({r.value:.4g} against {r.base:.4g})\n"
                    + (
                        f"95 % interval {r.interval[0]:.3f} to {r.interval[1]:.3f}: {state}"
                        if r.interval
                        else f"{state} no interval to test with"
                    )
                    for r in of
                ]
                bars = [[_end(r.interval, i) for r in of] for i in (0, 1)]
                traces.append(
                    _trace(
                        f"{run}: {_STATES.get(state, state.replace('?', ', not tested'))}",
                        [r.ratio for r in of],
                        [at[r.place] for r in of],
                        hover,
                        role=role,
                        lines=False,
                    )
                    | {"hollow": "?" in state or state == "unknown", "xbars": bars, "mark": data.runs.index(run)}
                )
        title = f"{name}: run / base ({'right' if more_is_worse else 'left'} is worse)"
        panels.append(_panel(name, title, "", traces) | {"rows": rows, "xlog": True, "one": True})
    return {
        "id": "compare",
        "title": f"{' and '.join(data.runs)} against {data.base} (base)",
        "panels": panels,
        "note": f"Marked beyond {data.threshold:.0%} where the 95 % interval excludes 1. Hollow: not tested; grey: cannot tell.",
    }


def _end(interval: tuple[float, float] | None, which: int) -> float | None:
    return interval[which] if interval and 0 < interval[which] < math.inf else None


def _panel(title: str, x: str, y: str, traces: list[dict[str, Any]], ticks: Sequence[int] = ()) -> dict[str, Any]:
    return {"title": title, "x": x, "y": y, "traces": traces, "ticks": list(ticks) if len(ticks) <= 16 else []}


def _trace(
    name: str,
    x: Sequence[Any],
    y: Sequence[Any],
    hover: Sequence[str],
    *,
    role: str = "",
    order: tuple[int, int] | None = None,
    fill: bool = False,
    lines: bool = True,
    dash: bool = False,
    at: Sequence[int | None] = (),
    bars: Any = None,
) -> dict[str, Any]:
    return {
        "name": name,
        "x": list(x),
        "y": list(y),
        "hover": list(hover),
        "role": role,
        "order": order,
        "fill": fill,
        "lines": lines,
        "dash": dash,
        "at": list(at),
        "bars": bars,
    }
