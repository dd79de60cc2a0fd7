"""Throughput per GPU against interactivity: what each user's speed costs, one line per ISL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plotting import style
from plotting.configs import frontier_of
from plotting.group import Group, isl_words
from plotting.lines import Series, draw_series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ParetoData", "draw_pareto", "pareto_data"]


@dataclass(frozen=True)
class ParetoData:
    """One line per ISL through its loads: x interactivity (tok/s/user), y output throughput (tok/s/GPU)."""

    title: str
    caption: str
    simulated: bool
    per_gpu: bool
    series: tuple[Series, ...]
    levels: tuple[tuple[float, ...], ...]
    loads: tuple[tuple[str, ...], ...]
    axis: str


def pareto_data(group: Group) -> ParetoData:
    """Formula: interactivity = 1 / median TPOT. Points without a TPOT (one output token) have no place here."""
    series, levels, loads = [], [], []
    for isl in sorted({cell.isl for cell in group.cells}):
        at = [
            (cell, 1 / tpot, y)
            for cell in group.cells
            if cell.isl == isl and (tpot := cell.metric("median_tpot")) and (y := cell.throughput("output")) is not None
        ]
        if at:
            series.append(Series(isl_words(isl), isl, tuple(x for _, x, _ in at), tuple(y for _, _, y in at)))
            levels.append(tuple(cell.level for cell, _, _ in at))
            loads.append(tuple(cell.load for cell, _, _ in at))
    return ParetoData(
        group.title,
        group.caption,
        group.simulated,
        group.gpus is not None,
        tuple(series),
        tuple(levels),
        tuple(loads),
        group.axis.partition(" ")[0],
    )


def draw_pareto(data: ParetoData, *, source: str = "") -> Figure:
    """The Pareto picture of the field: up is cheaper, right is faster for each user."""
    with style.house():
        figure, grid = style.figure(1, 1, width=11, height=6.4)
        axes = grid[0, 0]
        draw_series(figure, axes, data.series, "ISL (tokens)")
        _draw_hull(axes, data)
        _name_loads(axes, data)
        right = max((x for line in data.series for x in line.x), default=1.0)
        left = min((x for line in data.series for x in line.x), default=0.0)
        # from zero, unless that squeezes every point into one corner
        axes.set_xlim(
            0 if left < 0.6 * right else left - 0.15 * (right - left or right), right + 0.1 * (right - left or right)
        )
        top = max((y for line in data.series for y in line.y if y is not None), default=0.0)
        axes.set_ylim(0, 1.1 * top or 1)
        axes.set_xlabel("interactivity = 1 / median TPOT (tok/s/user)")
        axes.set_ylabel(style.throughput_label("output", per_gpu=data.per_gpu))
        hull = "Grey: the frontier of all lines together." if len(data.series) > 1 else "Grey: the frontier."
        style.caption(
            figure,
            f"Throughput against interactivity · {data.title}",
            (
                data.caption,
                f"{_origin(axes)} Along each line the {data.axis} changes; better is up and to the right. {hull}",
                source,
            ),
            simulated=data.simulated,
        )
    return figure


def _origin(axes: Axes) -> str:
    """Where the axes begin."""
    left = axes.get_xlim()[0]
    return "Axes from 0." if left == 0 else f"x from {style.amount(left)}, y from 0."


def _draw_hull(axes: Axes, data: ParetoData) -> None:
    """What no other point beats in both, as a broad grey step behind the lines."""
    points = [(x, y) for line in data.series for x, y in zip(line.x, line.y, strict=True) if y is not None]
    best = [points[at] for at in frontier_of(points)]
    axes.step(
        [x for x, _ in best], [y for _, y in best], where="pre", color=style.INK, linewidth=7, alpha=0.14, zorder=1.5
    )


def _name_loads(axes: Axes, data: ParetoData) -> None:
    """Names on the first line alone: on each they would hide the lines."""
    from matplotlib.patheffects import withStroke

    line, loads = data.series[0], data.loads[0]
    if len(line.x) > 12:
        return
    at = sorted(zip(line.x, (y or 0.0 for y in line.y), loads, strict=True))
    for i, (x, y, load) in enumerate(at):
        rises = i + 1 < len(at) and at[i + 1][1] > y  # then the line leaves to the upper right: the name goes below
        axes.annotate(
            load,
            (x, y),
            xytext=(4, -17) if rises else (7, 6),
            textcoords="offset points",
            fontsize=9.5,
            path_effects=[withStroke(linewidth=3, foreground="white")],
            zorder=5,
        )
