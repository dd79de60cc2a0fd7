"""ISL × concurrency (or rate): which points passed, failed, could not be measured, or were not measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plotting import style
from plotting.group import OWN_LENGTHS, Cell, Group

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["HeatmapData", "draw_heatmap", "heatmap_data"]

_MOST = 24  # cells a side whose text still reads


@dataclass(frozen=True)
class HeatmapData:
    """`state[row][column]` at `loads[row]`, `isls[column]`: PASSED, FAILED, ERROR, measured, or empty; and its text."""

    title: str
    caption: str
    simulated: bool
    isls: tuple[int, ...]
    loads: tuple[str, ...]
    axis: str
    state: tuple[tuple[str, ...], ...]
    text: tuple[tuple[str, ...], ...]


def heatmap_data(group: Group) -> HeatmapData:
    """Each cell's verdict, with its p99 TTFT and p99 TPOT as text."""
    isls = tuple(sorted({cell.isl for cell in group.cells}))
    levels = group.levels
    at = {(cell.isl, cell.level): cell for cell in group.cells}
    state, text = [], []
    for level in levels:
        row = [at.get((isl, level)) for isl in isls]
        state.append(tuple(cell.verdict if cell else "" for cell in row))
        text.append(tuple(_text(cell) for cell in row))
    loads = tuple(levels.values())
    return HeatmapData(group.title, group.caption, group.simulated, isls, loads, group.axis, tuple(state), tuple(text))


def _text(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return "\n".join(style.seconds(v) for m in ("ttft", "tpot") if (v := cell.metric(f"p99_{m}")) is not None)


_LABEL = {
    "PASSED": "passed",
    "FAILED": "failed",
    "ERROR": "error: not measured validly",
    "open": "open: measured, not decided",
    "measured": "measured, no SLO",
    "": "not measured",
}
_SIGN = {"PASSED": "✓", "FAILED": "✗", "ERROR": "!", "open": "?", "measured": "", "": ""}
_FILL = {
    "PASSED": "#cfe6f5",
    "FAILED": "#f6b48f",
    "ERROR": "#bdbdbd",
    "open": "#e6e0f0",
    "measured": "#eeeeee",
    "": "#ffffff",
}


def draw_heatmap(data: HeatmapData, *, source: str = "") -> Figure:
    """Colour, sign and hatching say the same, so that print and colour-blind readers lose nothing."""
    from matplotlib.patches import Patch, Rectangle

    columns, rows = len(data.isls), len(data.loads)
    readable = max(columns, rows) <= _MOST
    with style.house():
        width = min(24.0, max(8.5, 3.6 + 1.05 * columns)) if readable else 14.0
        figure, grid = style.figure(1, 1, width=width, height=min(18.0, 2.6 + 0.72 * rows) if readable else 11.0)
        axes = grid[0, 0]
        axes.grid(False)
        for row, states in enumerate(data.state):
            for column, verdict in enumerate(states):
                axes.add_patch(
                    Rectangle(
                        (column - 0.5, row - 0.5),
                        1,
                        1,
                        facecolor=_FILL[verdict],
                        edgecolor="#999999" if readable else "none",
                        linewidth=0.8,
                        hatch=_HATCH.get(verdict) if readable else None,
                    )
                )
                if readable and verdict:
                    sign, text = _SIGN[verdict], data.text[row][column]
                    axes.text(
                        column,
                        row,
                        f"{sign} {text}".strip() if text else sign,
                        ha="center",
                        va="center",
                        fontsize=10,
                        linespacing=1.25,
                    )
        isls = tuple(f"{isl:,}" if isl else OWN_LENGTHS for isl in data.isls)
        for axis, values, count in ((axes.xaxis, isls, columns), (axes.yaxis, data.loads, rows)):
            step = max(1, -(-count // _MOST))
            axis.set_ticks(range(0, count, step), values[::step])
        axes.set_xlim(-0.5, columns - 0.5)
        axes.set_ylim(-0.5, rows - 0.5)
        axes.set_xlabel("ISL (tokens)")
        axes.set_ylabel(data.axis)
        there = {verdict for states in data.state for verdict in states}
        handles = [
            Patch(facecolor=_FILL[v], edgecolor="#777777", hatch=_HATCH.get(v), label=f"{_SIGN[v]} {_LABEL[v]}".strip())
            for v in _LABEL
            if v in there
        ]
        axes.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(-0.01, 1.0),
            ncols=min(5, len(handles)),
            handlelength=1.6,
            columnspacing=1.4,
        )
        style.caption(
            figure,
            f"Verdicts · {data.title}",
            (data.caption, "In each cell: p99 TTFT above, p99 TPOT below." if readable else "", source),
            simulated=data.simulated,
        )
    return figure


_HATCH = {"FAILED": "", "ERROR": "///", "": "..."}
