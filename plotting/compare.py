"""Two or more runs against the first: the ratio of each point's figures with its interval, regressions marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from plotting import style
from plotting.group import Cell, cells, dates
from plotting.model import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COMPARED", "CompareData", "Ratio", "compare_data", "draw_compare", "ratio_interval"]

#: metric, its name in the picture, and whether more of it is worse
COMPARED = (("p99_ttft", "p99 TTFT", True), ("p99_tpot", "p99 TPOT", True), ("output", "output throughput", False))
_MOST_ROWS = 64
# two-sided 95 % quantiles of Student's t for 1 ... 10 degrees of freedom; beyond that the last is close enough
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Ratio:
    """One figure of one point of one run over the base run's.

    `state`: `worse` or `better` (beyond the threshold, and the interval excludes 1), `worse?` or `better?` (beyond it,
    but the files hold no interval to test with), `same`.
    """

    run: str
    metric: str
    isl: int
    osl: int
    conc: int
    base: float
    value: float
    ratio: float
    interval: tuple[float, float] | None
    state: str


@dataclass(frozen=True)
class CompareData:
    """All ratios, in the order of the points; `points` are the rows; `unmatched` counts points of one run alone."""

    base: str
    runs: tuple[str, ...]
    captions: tuple[str, ...]
    simulated: bool
    threshold: float
    points: tuple[tuple[int, int, int], ...]
    ratios: tuple[Ratio, ...]
    unmatched: int

    @property
    def regressions(self) -> int:
        """How many figures are worse, tested by their intervals."""
        return sum(ratio.state == "worse" for ratio in self.ratios)


def compare_data(base: Results, others: Sequence[Results], threshold: float = 0.05) -> CompareData:
    """Match the points by ISL, OSL and concurrency. Formula: ratio = figure of the run / figure of the base run.

    A regression needs two conditions: beyond `threshold` (a share, 0.05 = 5 %) and an interval that excludes 1.
    """
    names = _names([base, *others])
    before = {(c.isl, c.osl, c.conc): c for c in cells(base.points)}
    ratios: list[Ratio] = []
    matched: set[tuple[int, int, int]] = set()
    every = set(before)
    for name, other in zip(names[1:], others, strict=True):
        for cell in cells(other.points):
            key = (cell.isl, cell.osl, cell.conc)
            every.add(key)
            found = [
                r for metric in COMPARED if key in before and (r := _ratio(name, metric, before[key], cell, threshold))
            ]
            matched |= {key} if found else set()
            ratios += found
    ratios.sort(key=lambda r: (r.isl, r.osl, r.conc))
    return CompareData(
        base=names[0],
        runs=tuple(names[1:]),
        captions=tuple(_caption(name, run) for name, run in zip(names, [base, *others], strict=True)),
        simulated=any(point.simulated for run in [base, *others] for point in run.points),
        threshold=threshold,
        points=tuple(sorted(matched)),
        ratios=tuple(ratios),
        unmatched=len(every - matched),
    )


def _names(runs: Sequence[Results]) -> list[str]:
    """Each folder by its own name, by more of its path where two have the same."""
    paths = [run.folder.absolute() for run in runs]
    short = [path.name for path in paths]
    return [n if short.count(n) == 1 else "/".join(p.parts[-2:]) for n, p in zip(short, paths, strict=True)]


def _caption(name: str, run: Results) -> str:
    models = sorted({point.model for point in run.points})
    engines = sorted({f"{p.engine} {p.engine_version}".strip() for p in run.points})
    gpus = sorted({point.gpus for point in run.points if point.gpus})
    counts = [point.n for point in run.points if point.n]
    hardware = f"{' or '.join(map(str, gpus))} GPUs" if gpus else "GPUs not stated"
    sample = f"n = {min(counts)} to {max(counts)} requests" if counts else "n not stated"
    what = f"{', '.join(models[:3])} · {', '.join(engines[:3])}"
    return f"{name}: {what} · {hardware} · {dates(run.points)} · {len(run.points)} results, {sample}"


def _figure(cell: Cell, metric: str) -> float | None:
    return cell.throughput(metric) if metric == "output" else cell.metric(metric)


def _ratio(run: str, metric: tuple[str, str, bool], before: Cell, after: Cell, threshold: float) -> Ratio | None:
    key, _, more_is_worse = metric
    old, new = _figure(before, key), _figure(after, key)
    if not old or not new:
        return None
    interval = ratio_interval(old, _spread(before, key), new, _spread(after, key))
    ratio = new / old
    beyond = abs(math.log(ratio)) > math.log1p(threshold)
    apart = interval is None or not interval[0] <= 1 <= interval[1]
    state = "same"
    if beyond and apart:
        state = ("worse" if (ratio > 1) == more_is_worse else "better") + ("?" if interval is None else "")
    return Ratio(run, key, after.isl, after.osl, after.conc, old, new, ratio, interval, state)


def _spread(cell: Cell, metric: str) -> tuple[float, float] | None:
    """A 95 % interval: between the runs where the point was repeated, else the file's own within its one run."""
    if len(cell.measured) == 1:
        own = cell.measured[0].intervals.get(metric)
        return own
    logs = [
        math.log(v)
        for run in cell.measured
        if (v := run.throughput(metric) if metric == "output" else run.metrics.get(metric))
    ]
    if len(logs) < 2:
        return None
    half = _T95[min(len(logs) - 1, len(_T95)) - 1] * stdev(logs) / math.sqrt(len(logs))
    return math.exp(fmean(logs) - half), math.exp(fmean(logs) + half)


def ratio_interval(
    old: float, of_old: tuple[float, float] | None, new: float, of_new: tuple[float, float] | None
) -> tuple[float, float] | None:
    """The 95 % interval of new/old from those of both (independent), or None when one of them has none.

    Formula (MOVER, on logarithms): lower = log r − √(log²(new/new_low) + log²(old_high/old)), upper alike.
    """
    if of_old is None or of_new is None:
        return None
    centre = math.log(new / old)
    down = math.hypot(_log(new, of_new[0]), _log(of_old[1], old))
    up = math.hypot(_log(of_new[1], new), _log(old, of_old[0]))
    return math.exp(centre - down), math.exp(centre + up)


def _log(high: float, low: float) -> float:
    """log(high / low), at least 0; infinite where an end is open."""
    return math.inf if high == math.inf or low <= 0 else max(0.0, math.log(high / low))


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
        grid[0][0].set_yticks(range(len(rows)), [f"ISL {i:,} · OSL {o:,} · conc {c}" for i, o, c in rows], fontsize=9.5)
        grid[0][0].set_ylim(len(rows) - 0.4, -0.6)
        _legend(grid[0][0], data)
        missing = f"Points in one run alone, not compared: {data.unmatched}." if data.unmatched else ""
        note = (
            f"Marked: beyond {data.threshold:.0%} and, where files hold intervals, the 95 % interval excludes 1. "
            f"Hollow: beyond it, but no interval to test with. {missing}"
        )
        more = f"{len(rows)} of {len(data.points)} points: those that changed most. " if left else ""
        style.caption(
            figure,
            f"{' and '.join(data.runs)} against {data.base} (base)",
            (*data.captions, more + note, source),
            simulated=data.simulated,
        )
    return figure


def _rows(data: CompareData) -> tuple[list[tuple[int, int, int]], int]:
    if len(data.points) <= _MOST_ROWS:
        return list(data.points), 0
    change: dict[tuple[int, int, int], float] = {}
    for r in data.ratios:
        key = (r.isl, r.osl, r.conc)
        change[key] = max(change.get(key, 0.0), abs(math.log(r.ratio)))
    most = sorted(change, key=lambda key: -change[key])[:_MOST_ROWS]
    return sorted(most), len(data.points) - _MOST_ROWS


_STATE = {
    "worse": (style.RED, True),
    "worse?": (style.RED, False),
    "better": (style.BLUE, True),
    "better?": (style.BLUE, False),
    "same": (style.GREY, True),
}


def _draw_panel(axes: Axes, data: CompareData, rows: Sequence[tuple[int, int, int]], metric: str) -> None:
    at = {key: row for row, key in enumerate(rows)}
    axes.axvspan(1 / (1 + data.threshold), 1 + data.threshold, color="#eeeeee", zorder=0)
    axes.axvline(1, color=style.INK, linewidth=1.2, zorder=1)
    for r in data.ratios:
        if r.metric != metric or (r.isl, r.osl, r.conc) not in at:
            continue
        run = data.runs.index(r.run)
        y = at[r.isl, r.osl, r.conc] + (run - (len(data.runs) - 1) / 2) * 0.7 / max(1, len(data.runs))
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
