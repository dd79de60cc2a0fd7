"""The SLA frontier: for each ISL, the best throughput that still keeps its p99 within a tier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plotting import style
from plotting.group import Cell, Group, isl_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Band", "FrontierData", "FrontierPanel", "chosen_tiers", "draw_frontier", "frontier_data", "limits_of"]

_MOST_GREY = 4000  # beyond this a scatter says no more and an SVG grows without end


@dataclass(frozen=True)
class Band:
    """One tier: `best[i]` tok/s/GPU at the panel's `isls[i]`; None where no point meets the tier."""

    limit_s: float
    label: str
    best: tuple[float | None, ...]


@dataclass(frozen=True)
class FrontierPanel:
    """Prefill (input tokens, p99 TTFT) or Decode (output tokens, p99 TPOT) of one group."""

    side: str
    metric: str
    isls: tuple[int, ...]
    points: tuple[tuple[int, float], ...]
    bands: tuple[Band, ...]


@dataclass(frozen=True)
class FrontierData:
    """What is drawn: one row a group, each with its two panels."""

    rows: tuple[tuple[str, FrontierPanel, FrontierPanel], ...]
    per_gpu: tuple[bool, ...]
    captions: tuple[str, ...]
    simulated: bool
    tiers_from: str


def frontier_data(groups: Sequence[Group], tiers: Mapping[str, Sequence[float]] | None = None) -> FrontierData:
    """Formula: best(ISL, tier) = max throughput per GPU over the points with that ISL whose p99 ≤ tier.

    `tiers` in seconds by `ttft` and `tpot`; else the files' own, else three round ones chosen from the data.
    """
    given = tiers or {}
    rows = []
    # one set of limits for all rows: equal colours are equal promises
    limits_by = {metric: limits_of(groups, metric, given) for metric in ("ttft", "tpot")}
    sources = {source for _, source in limits_by.values()}
    for group in groups:
        panels = []
        for side, name, metric in (("input", "Prefill", "ttft"), ("output", "Decode", "tpot")):
            limits, _ = limits_by[metric]
            panels.append(_panel(group, side, f"{name}", metric, limits))
        rows.append((group.title, panels[0], panels[1]))
    return FrontierData(
        rows=tuple(rows),
        per_gpu=tuple(group.gpus is not None for group in groups),
        captions=tuple(group.caption for group in groups),
        simulated=any(group.simulated for group in groups),
        tiers_from="; ".join(sorted(sources)),
    )


def limits_of(groups: Sequence[Group], metric: str, given: Mapping[str, Sequence[float]]) -> tuple[list[float], str]:
    """The tiers of `ttft` or `tpot` that all `groups` are held against, seconds, and where they are from."""
    if given.get(metric):
        return sorted(given[metric]), "tiers as asked for"
    named = {limit for group in groups for limit in group.tiers.get(metric, ())}
    if named:
        return sorted(named), "tiers of the profile"
    values = [v for group in groups for cell in group.cells if (v := cell.metric(f"p99_{metric}")) is not None]
    return chosen_tiers(values), "tiers chosen from the data"


def chosen_tiers(values: Sequence[float]) -> list[float]:
    """Three round limits (1, 2, 3, 5, 7.5 × 10ⁿ) nearest above the 20th, 45th and 70th percentile of `values`."""
    ordered = sorted(v for v in values if v > 0)
    if not ordered:
        return []
    found: set[float] = set()
    for share in (0.20, 0.45, 0.70):
        value = ordered[min(len(ordered) - 1, int(share * len(ordered)))]
        ten = 10.0 ** math.floor(math.log10(value))
        found.add(next(float(f"{step * ten:.6g}") for step in (1, 2, 3, 5, 7.5, 10) if step * ten >= value * 0.9999))
    return sorted(found)


def _panel(group: Group, side: str, name: str, metric: str, limits: Sequence[float]) -> FrontierPanel:
    isls = tuple(sorted({cell.isl for cell in group.cells}))
    grey = [(cell.isl, y) for cell in group.cells if (y := cell.throughput(side)) is not None]
    by_isl: dict[int, list[Cell]] = {}
    for cell in group.cells:
        by_isl.setdefault(cell.isl, []).append(cell)
    bands = []
    for limit in limits:
        best = tuple(_best(by_isl[isl], side, f"p99_{metric}", limit) for isl in isls)
        label = f"≤ {style.seconds(limit)}"
        if metric == "tpot":
            label += f"  (≥ {1 / limit:.3g} tok/s/user)"
        bands.append(Band(limit, label, best))
    step = max(1, math.ceil(len(grey) / _MOST_GREY))
    return FrontierPanel(name, metric, isls, tuple(grey[::step]), tuple(bands))


def _best(of: Sequence[Cell], side: str, metric: str, limit: float) -> float | None:
    within = [
        y
        for cell in of
        if (value := cell.metric(metric)) is not None and value <= limit and (y := cell.throughput(side)) is not None
    ]
    return max(within, default=None)


def draw_frontier(data: FrontierData, *, source: str = "") -> Figure:
    """One row a group: Prefill at the left, Decode at the right."""
    rows = len(data.rows)
    with style.house():
        figure, grid = style.figure(rows, 2, width=13.5, height=1.3 + 4.4 * rows)
        for at, (title, *panels) in enumerate(data.rows):
            for axes, panel in zip(grid[at], panels, strict=True):
                _draw_panel(axes, panel, per_gpu=data.per_gpu[at])
                prefix = f"{style.plain(title, 60)}\n" if rows > 1 else ""
                axes.set_title(f"{prefix}{panel.side}", loc="left")
        drawn = sum(len(panels[1].points) for _, *panels in data.rows)
        heading = "SLA frontier: best throughput within each tier"
        notes = (
            *data.captions,
            f"Grey: {drawn} measured points. A gap: no point meets the tier. Limits: {data.tiers_from}. y from 0.",
            source,
        )
        style.caption(
            figure, f"{heading} · {data.rows[0][0]}" if rows == 1 else heading, notes, simulated=data.simulated
        )
    return figure


def _draw_panel(axes: Axes, panel: FrontierPanel, *, per_gpu: bool) -> None:
    colours = style.ordered_colours(len(panel.bands))
    if len(panel.isls) == 1:
        _draw_bars(axes, panel, colours, per_gpu=per_gpu)
        return
    # the loosest tier first: each tighter one is painted over the part that it also reaches
    for i in reversed(range(len(panel.bands))):
        _draw_band(axes, panel.isls, panel.bands[i], colours[i], style.MARKERS[i % len(style.MARKERS)])
    if panel.points:
        x, y = zip(*panel.points, strict=True)
        axes.scatter(x, y, s=20, color=style.GREY, edgecolor="white", linewidth=0.5, zorder=2, label="every point")
    style.token_axis(axes, panel.isls)
    axes.set_ylim(bottom=0)
    axes.margins(y=0.08)
    axes.set_ylabel(style.throughput_label("input" if panel.metric == "ttft" else "output", per_gpu=per_gpu))
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: (labels[i] == "every point", -i))
    made = style.legend(
        axes, f"p99 {panel.metric.upper()}", handles=[handles[i] for i in order], labels=[labels[i] for i in order]
    )
    if made and not any(value is not None for band in panel.bands for value in band.best):
        axes.text(0.5, 0.96, "no point meets any tier", transform=axes.transAxes, ha="center", va="top")


def _draw_bars(axes: Axes, panel: FrontierPanel, colours: Sequence[str], *, per_gpu: bool) -> None:
    """One ISL has no course: a bar a tier, every point beside them."""
    for i, band in enumerate(panel.bands):
        value = band.best[0]
        axes.bar(i, value or 0, width=0.62, color=_tint(colours[i]), edgecolor=colours[i], linewidth=1.6, zorder=2)
        axes.annotate(
            "none" if value is None else style.amount(value), (i, value or 0), xytext=(0, 4), textcoords="offset points",
            ha="center", fontsize=11,
        )  # fmt: skip
    rest = len(panel.bands)
    axes.scatter([rest] * len(panel.points), [y for _, y in panel.points], s=26, color=style.GREY, zorder=3)
    axes.set_xticks(
        range(rest + 1), [*(band.label.replace("  ", "\n") for band in panel.bands), "every point"], fontsize=9.5
    )
    axes.set_xlim(-0.6, rest + 0.6)
    axes.set_xlabel(f"p99 {panel.metric.upper()} at {isl_words(panel.isls[0])}")
    axes.set_ylim(bottom=0)
    axes.margins(y=0.14)
    axes.set_ylabel(style.throughput_label("input" if panel.metric == "ttft" else "output", per_gpu=per_gpu))


def _draw_band(axes: Axes, isls: Sequence[int], band: Band, colour: str, marker: str) -> None:
    y = [math.nan if value is None else value for value in band.best]
    met = sum(value is not None for value in band.best)
    label = band.label if met else f"{band.label}: none"
    axes.plot(isls, y, color=colour, marker=marker, markersize=6, label=label, zorder=3)
    axes.fill_between(isls, 0, y, color=_tint(colour), linewidth=0, zorder=1.5)
    # a value between two gaps has no width of its own: a thin post keeps its band visible
    for i, value in enumerate(band.best):
        left = i == 0 or band.best[i - 1] is None
        right = i == len(isls) - 1 or band.best[i + 1] is None
        if value is not None and left and right:
            axes.vlines(isls[i], 0, value, color=_tint(colour), linewidth=7, zorder=1.5)


def _tint(colour: str) -> tuple[float, float, float]:
    """The colour as a light, opaque paint, so that overlapping bands do not mix."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(colour)
    return (1 - 0.38 * (1 - red), 1 - 0.38 * (1 - green), 1 - 0.38 * (1 - blue))
