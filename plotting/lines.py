"""Throughput against token position, one line per concurrency; Prefill and Decode side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plotting import style
from plotting.group import Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["LinesData", "LinesPanel", "Series", "draw_lines", "draw_series", "lines_data"]

_MOST_IN_LEGEND = 12


@dataclass(frozen=True)
class Series:
    """One line: `y[i]` at `x[i]`; None leaves a gap."""

    name: str
    order: float
    x: tuple[float, ...]
    y: tuple[float | None, ...]


@dataclass(frozen=True)
class LinesPanel:
    """Prefill or Decode of one group: a line per concurrency, or rate, over the ISLs."""

    side: str
    isls: tuple[int, ...]
    series: tuple[Series, ...]
    axis: str


@dataclass(frozen=True)
class LinesData:
    """What is drawn: one row a group, each with its two panels."""

    rows: tuple[tuple[str, LinesPanel, LinesPanel], ...]
    per_gpu: tuple[bool, ...]
    captions: tuple[str, ...]
    simulated: bool


def lines_data(groups: Sequence[Group]) -> LinesData:
    """Throughput per GPU (tok/s/GPU) by ISL for each concurrency (or rate) of each group."""
    return LinesData(
        rows=tuple((g.title, _panel(g, "input", "Prefill"), _panel(g, "output", "Decode")) for g in groups),
        per_gpu=tuple(g.gpus is not None for g in groups),
        captions=tuple(g.caption for g in groups),
        simulated=any(g.simulated for g in groups),
    )


def _panel(group: Group, side: str, name: str) -> LinesPanel:
    isls = tuple(sorted({cell.isl for cell in group.cells}))
    value = {(cell.isl, cell.level): cell.throughput(side) for cell in group.cells}
    loads = {cell.level: cell.load for cell in group.cells}
    series = tuple(
        Series(loads[level], level, tuple(map(float, isls)), tuple(value.get((isl, level)) for isl in isls))
        for level in group.levels
    )
    return LinesPanel(name, isls, series, group.axis)


def draw_lines(data: LinesData, *, source: str = "") -> Figure:
    """One row a group: Prefill at the left, Decode at the right."""
    rows = len(data.rows)
    with style.house():
        figure, grid = style.figure(rows, 2, width=13.5, height=1.3 + 4.4 * rows)
        for at, (title, *panels) in enumerate(data.rows):
            for axes, panel, side in zip(grid[at], panels, ("input", "output"), strict=True):
                draw_series(figure, axes, panel.series, panel.axis)
                style.token_axis(axes, panel.isls)
                top = max((y for line in panel.series for y in line.y if y is not None), default=0.0)
                axes.set_ylim(0, 1.06 * top or 1)
                axes.set_ylabel(style.throughput_label(side, per_gpu=data.per_gpu[at]))
                prefix = f"{style.plain(title, 60)}\n" if rows > 1 else ""
                axes.set_title(f"{prefix}{panel.side}", loc="left")
        heading = f"Throughput by {data.rows[0][1].axis.partition(' ')[0]}" if rows == 1 else "Throughput by load"
        style.caption(
            figure,
            f"{heading} · {data.rows[0][0]}" if rows == 1 else heading,
            (*data.captions, source),
            simulated=data.simulated,
        )
    return figure


def draw_series(figure: Figure, axes: Axes, series: Sequence[Series], title: str) -> None:
    """Lines in the order's colours, with a legend, or with a colour bar when they are too many for one."""
    colours = style.ordered_colours(len(series))
    few = len(series) <= _MOST_IN_LEGEND
    for i, (line, colour) in enumerate(zip(series, colours, strict=True)):
        y = [math.nan if v is None else v for v in line.y]
        axes.plot(
            line.x,
            y,
            color=colour,
            marker=style.MARKERS[i % len(style.MARKERS)] if few else None,
            linewidth=2 if few else 1,
            label=line.name if few else None,
        )
        if not few:
            axes.plot(line.x, y, ".", color=colour, markersize=3)  # values between two gaps draw no line
    if few:
        style.legend(axes, title)
        return
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    bar = figure.colorbar(ScalarMappable(Normalize(0, len(series)), ListedColormap(colours)), ax=axes)
    ticks = sorted({round(i * (len(series) - 1) / 6) for i in range(7)})
    bar.set_ticks([t + 0.5 for t in ticks], labels=[f"{series[t].order:.10g}" for t in ticks])
    bar.set_label(title)
