"""The picture of a comparison: one panel a figure, one row a point, one marker a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from plotting import style
from plotting.compare import COMPARED, CompareData, Place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_compare"]

_MOST_ROWS = 64


def draw_compare(data: CompareData, *, source: str = "") -> Figure:
    """One panel a figure, one row a point, one marker a run; the line at 1 is the base."""
    rows, left = _rows(data)
    with style.house():
        figure, grid = style.figure(
            1, 3, width=14, height=min(22.0, 3.4 + 0.235 * len(rows) * max(1, 0.6 * len(data.runs))), sharey=True
        )
        for axes, (metric, name, more_is_worse) in zip(grid[0], COMPARED, strict=True):
            _draw_panel(axes, data, rows, metric)
            axes.set_xlabel(f"{name}: run / base\n({'right' if more_is_worse else 'left'} is worse)")
        grid[0][0].set_yticks(range(len(rows)), [style.plain(row.words, 70) for row in rows], fontsize=9.5)
        grid[0][0].set_ylim(len(rows) - 0.4, -0.6)
        _legend(grid[0][0], data)
        missing = f"Points in one run alone, not compared: {data.unmatched}." if data.unmatched else ""
        note = (
            f"Marked: beyond {data.threshold:.0%} and, where files hold intervals, the 95 % interval excludes 1. "
            f"Hollow: beyond it, but no interval to test with; grey: its interval holds 1, cannot tell. {missing}"
        )
        more = f"{len(rows)} of {len(data.points)} points: those that changed most. " if left else ""
        style.caption(
            figure,
            f"{' and '.join(data.runs)} against {data.base} (base)",
            (*data.captions, more + note, source),
            simulated=data.simulated,
        )
    return figure


def _rows(data: CompareData) -> tuple[list[Place], int]:
    if len(data.points) <= _MOST_ROWS:
        return list(data.points), 0
    change: dict[Place, float] = {}
    for r in data.ratios:
        change[r.place] = max(change.get(r.place, 0.0), abs(math.log(r.ratio)))
    most = sorted(change, key=lambda key: -change[key])[:_MOST_ROWS]
    return sorted(most), len(data.points) - _MOST_ROWS


_STATE = {
    "worse": (style.RED, True),
    "worse?": (style.RED, False),
    "better": (style.BLUE, True),
    "better?": (style.BLUE, False),
    "unknown": (style.GREY, False),
    "same": ("#444444", True),
}


def _draw_panel(axes: Axes, data: CompareData, rows: Sequence[Place], metric: str) -> None:
    at = {key: row for row, key in enumerate(rows)}
    axes.axvspan(1 / (1 + data.threshold), 1 + data.threshold, color="#eeeeee", zorder=0)
    axes.axvline(1, color=style.INK, linewidth=1.2, zorder=1)
    for r in data.ratios:
        if r.metric != metric or r.place not in at:
            continue
        run = data.runs.index(r.run)
        y = at[r.place] + (run - (len(data.runs) - 1) / 2) * 0.7 / max(1, len(data.runs))
        colour, filled = _STATE[r.state]
        if r.interval:
            low, high = max(r.interval[0], 1e-6), min(r.interval[1], 1e6)  # an open end leaves the picture
            axes.plot([low, high], [y, y], color=colour, linewidth=1.4, zorder=2)
        axes.plot(
            [r.ratio],
            [y],
            style.MARKERS[run % len(style.MARKERS)],
            color=colour,
            markersize=6,
            zorder=3,
            markerfacecolor=colour if filled else "white",
        )
    axes.set_xscale("log")
    ends = [v for r in data.ratios if r.metric == metric for v in (r.ratio, *(r.interval or ())) if 0 < v < math.inf]
    low, high = min([*ends, 0.9]) / 1.06, max([*ends, 1.1]) * 1.06
    axes.set_xlim(low, high)
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    nice = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10, 20, 50, 100]
    axes.xaxis.set_major_locator(FixedLocator(_spaced([v for v in nice if low <= v <= high], math.log(high / low))))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _spaced(values: Sequence[float], span: float) -> list[float]:
    """1 and its neighbours, as many as stand apart."""
    kept = [1.0]
    for value in sorted(values, key=lambda v: abs(math.log(v))):
        if all(abs(math.log(value / other)) > 0.15 * span for other in kept):
            kept.append(value)
    return sorted(kept)


def _legend(axes: Axes, data: CompareData) -> None:
    from matplotlib.lines import Line2D

    there = {r.state for r in data.ratios}
    words = {
        "worse": "worse",
        "worse?": "worse, not tested",
        "better": "better",
        "better?": "better, not tested",
        "unknown": "cannot tell",
        "same": "no change shown",
    }
    handles = [
        Line2D(
            [],
            [],
            marker="o",
            linestyle="",
            color=_STATE[s][0],
            markerfacecolor=_STATE[s][0] if _STATE[s][1] else "white",
            label=words[s],
        )
        for s in _STATE
        if s in there
    ]
    if len(data.runs) > 1:
        handles += [
            Line2D(
                [],
                [],
                marker=style.MARKERS[i % len(style.MARKERS)],
                linestyle="",
                color=style.INK,
                label=style.plain(run, 40),
            )
            for i, run in enumerate(data.runs)
        ]
    # above the first panel and as wide as it needs; the blank title keeps the room for it
    lines = -(-len(handles) // 6)
    axes.set_title("\n" * (lines - 1) + " ", fontsize=13, pad=8)
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=6).set_in_layout(False)
