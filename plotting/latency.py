"""TTFT and TPOT, p50 and p99 with their intervals, against concurrency; the SLO as a line, the verdict marked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plotting import style
from plotting.group import Group, isl_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["LatencyData", "LatencyLine", "LatencyPanel", "draw_latency", "latency_data", "latency_unit"]


@dataclass(frozen=True)
class LatencyLine:
    """One statistic over the loads, seconds; `low` and `high` are its interval, None where there is none."""

    name: str
    y: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


@dataclass(frozen=True)
class LatencyPanel:
    """TTFT or TPOT: p50 and p99 with their limits, seconds, at the data's loads."""

    metric: str
    lines: tuple[LatencyLine, ...]
    limits: tuple[tuple[str, tuple[float | None, ...]], ...]


@dataclass(frozen=True)
class LatencyData:
    """What is drawn for one ISL of a group."""

    title: str
    caption: str
    simulated: bool
    isl: int
    levels: tuple[float, ...]
    loads: tuple[str, ...]
    axis: str
    verdicts: tuple[str, ...]
    panels: tuple[LatencyPanel, LatencyPanel]
    interval_kind: str


def latency_data(group: Group, isl: int) -> LatencyData:
    """The cells of `isl` in the order of concurrency, or rate."""
    of = sorted((cell for cell in group.cells if cell.isl == isl), key=lambda cell: cell.level)
    panels = []
    for metric in ("ttft", "tpot"):
        lines, limits = [], []
        for name, key in (("p50", f"median_{metric}"), ("p99", f"p99_{metric}")):
            spans = [cell.interval(key) for cell in of]
            lines.append(
                LatencyLine(
                    name,
                    tuple(cell.metric(key) for cell in of),
                    tuple(s[0] if s else None for s in spans),
                    tuple(s[1] if s else None for s in spans),
                )
            )
            each = tuple(min((v for r in cell.runs if (v := r.limit(key))), default=None) for cell in of)
            if any(each):
                limits.append((name, each))
        panels.append(LatencyPanel(metric, tuple(lines), tuple(limits)))
    repeated = any(len(cell.measured) > 1 for cell in of)
    drawn = any(v is not None for panel in panels for line in panel.lines for v in line.low)
    kind = "lowest to highest run" if repeated else "95 % interval within the run"
    return LatencyData(
        group.title,
        group.caption,
        group.simulated,
        isl,
        tuple(cell.level for cell in of),
        tuple(group.levels[cell.level] for cell in of),
        group.axis,
        tuple(cell.verdict for cell in of),
        (panels[0], panels[1]),
        kind if drawn else "",
    )


def draw_latency(data: LatencyData, *, source: str = "") -> Figure:
    """TTFT at the left, TPOT at the right; logarithmic concurrency, so that doublings are equally far apart."""
    with style.house():
        figure, grid = style.figure(1, 2, width=13.5, height=5.7)
        for axes, panel in zip(grid[0], data.panels, strict=True):
            _draw_panel(axes, data, panel)
        bars = f"Bars: {data.interval_kind}." if data.interval_kind else "No intervals in these files."
        if any(v == math.inf for panel in data.panels for line in panel.lines for v in line.high):
            bars += " An arrow: too few requests to say how high the interval reaches."
        marks = "Under the axis: the point's verdict." if any(v != "measured" for v in data.verdicts) else ""
        style.caption(
            figure,
            f"Latency against {data.axis.partition(' ')[0]}, {isl_words(data.isl)} · {data.title}",
            (data.caption, f"{bars} {marks}", source),
            simulated=data.simulated,
        )
    return figure


def _draw_panel(axes: Axes, data: LatencyData, panel: LatencyPanel) -> None:
    scale, unit = latency_unit(panel)
    x = range(len(data.loads))  # evenly spaced: the grid of concurrencies is a list of choices, not a measure
    for line, colour, marker in zip(panel.lines, (style.BLUE, style.RED), ("o", "s"), strict=True):
        y = [math.nan if v is None else v * scale for v in line.y]
        axes.plot(x, y, color=colour, marker=marker, label=f"{line.name} {panel.metric.upper()} ({unit})")
    top = max(
        (v * scale for line in panel.lines for v in (*line.y, *line.high) if v is not None and v < math.inf),
        default=1.0,
    )
    limits_top = [v * scale for _, values in panel.limits for v in values if v is not None]
    # a far-away SLO must not flatten the curve: then it lies above the picture, and the legend says where
    top = max([top, *(v for v in limits_top if v < 3 * top)])
    for name, limits in panel.limits:
        colour = style.RED if name == "p99" else style.BLUE
        known = [v for v in limits if v is not None]
        label = f"SLO {name} ≤ {style.seconds(known[0])}" if len(set(known)) == 1 else f"SLO of the {name} ({unit})"
        if min(known) * scale > top * 1.1:
            label += " (above)"
        for start, stop, value in _stretches(limits):
            axes.hlines(
                value * scale, start - 0.5, stop + 0.5, color=colour, linestyle=(0, (5, 3)), linewidth=1.6, label=label
            )
            label = "_"
    axes.set_ylim(0, top * 1.1)
    for line, colour in zip(panel.lines, (style.BLUE, style.RED), strict=True):
        for at, (low, high) in enumerate(zip(line.low, line.high, strict=True)):
            if low is None or high is None:
                continue
            ends = [low * scale, min(high * scale, top * 1.1)]
            axes.plot([at, at], ends, color=colour, linewidth=1.6)
            axes.plot([at], ends[:1], "_", color=colour, markersize=11)
            # an open end leaves through the top of the picture as an arrow
            axes.plot(
                [at],
                ends[1:],
                "_" if high < math.inf else "^",
                color=colour,
                markersize=11 if high < math.inf else 7,
                clip_on=False,
            )
    labels = [
        f"{load}\n{_MARK.get(verdict, '')}".rstrip() for load, verdict in zip(data.loads, data.verdicts, strict=True)
    ]
    step = math.ceil(len(labels) / 12)
    axes.set_xticks(list(x)[::step], labels[::step])
    for text, verdict in zip(axes.get_xticklabels(), data.verdicts[::step], strict=True):
        if verdict in ("FAILED", "ERROR"):
            text.set_color(style.RED if verdict == "FAILED" else "#555555")
            text.set_fontweight("bold")
    axes.set_xlim(-0.6, len(data.loads) - 0.4)
    axes.set_xlabel(data.axis)
    axes.set_ylabel(f"{panel.metric.upper()} ({unit})")
    style.legend(axes, panel.metric.upper(), loc="upper left", bbox_to_anchor=(1.0, 1.02))


def latency_unit(panel: LatencyPanel) -> tuple[float, str]:
    """The factor and the name of the panel's unit: seconds, or milliseconds for TPOT and for a TTFT below one second."""
    values = [v for line in panel.lines for v in line.y if v is not None]
    return (1.0, "s") if panel.metric == "ttft" and max(values, default=1.0) >= 1 else (1000.0, "ms")


def _stretches(limits: tuple[float | None, ...]) -> list[tuple[int, int, float]]:
    """(first, last, limit) for neighbours with the same limit, so that a dashed line is one line."""
    found: list[tuple[int, int, float]] = []
    for at, value in enumerate(limits):
        if value is None:
            continue
        if found and found[-1][1] == at - 1 and found[-1][2] == value:
            found[-1] = (found[-1][0], at, value)
        else:
            found.append((at, at, value))
    return found


_MARK = {"PASSED": "pass", "FAILED": "FAIL", "ERROR": "ERROR", "open": "open"}
