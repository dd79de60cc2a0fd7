"""A point over time: requests running, arrivals, tokens per second, how far they are in step; warm-up, steady state and
drain shaded, the start burst's end marked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench_tests.results.schema import PointResult
from bench_tests.verdict.in_step import in_step, in_step_at
from bench_tests.verdict.waves import burst_share
from plotting import style
from plotting.server_series import ServerSeries, server_series
from plotting.server_series_draw import ROWS, draw_server

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from bench_tests.load.records import Records

__all__ = ["Phase", "TimelineData", "draw_timeline", "timeline_data"]

_BINS = 120


@dataclass(frozen=True)
class Phase:
    """A stretch of the run, seconds: `warm-up`, `steady state` or `drain`."""

    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class TimelineData:
    """Time in seconds since the first measured send; the warm-up lies before zero."""

    point: str
    title: str
    caption: str
    simulated: bool
    conc: int
    running_t: tuple[float, ...]  # where the number of running requests changes
    running: tuple[int, ...]
    bin_s: float
    bin_start: tuple[float, ...]
    arrivals: tuple[int, ...]  # requests sent in each bin
    tok_per_s: tuple[float, ...]  # output tokens in each bin / its width
    phases: tuple[Phase, ...]
    server: ServerSeries | None = None
    # of a closed loop of several streams; empty, None and "" elsewhere
    in_step: tuple[float | None, ...] = ()  # in the middle of each bin, 0 to 1; None where nothing is in flight
    burst_end_s: float | None = None  # the last first token of those that were sent at one moment
    waves: str = ""  # `94 % in step (independent streams: 13 %), start burst 10 % of requests`


def timeline_data(
    point: PointResult,
    records: Records,
    title: str,
    caption: str,
    series: dict[str, NDArray[np.float64]] | None = None,
) -> TimelineData | None:
    """None when no request was sent. A request's tokens are spread evenly over its events. `series`: of the server."""
    sent = np.isfinite(records.send_s)
    if not (sent & records.measured).any():
        return None
    zero = float(records.send_s[sent & records.measured].min())
    start = records.send_s[sent] - zero
    end = np.where(np.isfinite(records.last_s[sent]), records.last_s[sent] - zero, start)
    times = np.concatenate([start, end])
    order = np.argsort(times, kind="stable")
    running = np.cumsum(np.concatenate([np.ones(len(start), int), -np.ones(len(end), int)])[order])
    low, high = float(start.min()), float(max(end.max(), start.max() + 1e-6))
    edges = np.linspace(low, high, _BINS + 1)
    width = (high - low) / _BINS
    per_event = np.where(records.events > 0, np.maximum(records.output_tokens, 0) / np.maximum(records.events, 1), 0.0)
    weights = np.repeat(per_event, records.events)
    seen = np.isfinite(records.event_s)
    tokens, _ = np.histogram(records.event_s[seen] - zero, edges, weights=weights[seen])
    arrivals, _ = np.histogram(start, edges)
    keep = np.unique(np.linspace(0, len(times) - 1, min(len(times), 4000)).round().astype(int))
    return TimelineData(
        point.point_id,
        title,
        caption,
        point.simulated,
        point.conc,
        tuple(times[order][keep].tolist()),
        tuple(running[keep].tolist()),
        width,
        tuple(edges[:-1].tolist()),
        tuple(arrivals.tolist()),
        tuple((tokens / width).tolist()),
        _phases(point, records, zero, low, high),
        server=server_series(series, records, zero) if series else None,
        **_waves(point, records, zero, edges),
    )


def _waves(
    point: PointResult, records: Records, zero: float, edges: NDArray[np.float64]
) -> dict[str, Any]:  # fields of TimelineData
    """How far a closed loop's streams move together, and what began at one moment."""
    if point.conc < 2 or records.open_loop:
        return {}
    over_time = in_step_at(records, (edges[:-1] + edges[1:]) / 2 + zero)
    whole, share = in_step(records), burst_share(records, point.conc)
    words = [] if whole is None else [f"{whole:.0%} in step (independent streams: {point.conc**-0.5:.0%})"]
    burst_end = None
    if share:
        first = np.flatnonzero(records.measured)
        first = first[np.argsort(records.send_s[first], kind="stable")][: point.conc]
        seen = records.first_s[first]
        burst_end = float(np.nanmax(seen)) - zero if np.isfinite(seen).any() else None
        words.append(f"start burst {share:.0%} of requests")
    return {
        "in_step": tuple(float(r) if np.isfinite(r) else None for r in over_time),
        "burst_end_s": burst_end,
        "waves": ", ".join(words).replace("%", " %"),
    }


def _phases(point: PointResult, records: Records, zero: float, low: float, high: float) -> tuple[Phase, ...]:
    """The result's steady state where it has one; the drain begins when no request is sent any more."""
    found = [Phase("warm-up", low, 0.0)] if low < 0 else []
    last_send = float(np.nanmax(records.send_s[records.measured])) - zero
    if point.steady:
        start, end = point.steady[0] - zero, point.steady[1] - zero  # the file's times are on the records' clock
        found.append(Phase("steady state", max(start, low), min(end, high)))
        last_send = max(last_send, end)
    if last_send < high:
        found.append(Phase("drain", last_send, high))
    return tuple(found)


def draw_timeline(data: TimelineData, *, source: str = "") -> Figure:
    """Three rows over one time axis, a fourth with the in-step figure for a closed loop; below them, where there are the
    server's counters, TTFT and what the server said.
    """
    fills = {"warm-up": ("#fbe3b5", "///"), "steady state": ("#d3ecdf", ""), "drain": ("#dddddd", "...")}
    with style.house():
        own, below = 3 + bool(data.in_step), ROWS if data.server else 0
        height = (8.2 if own == 3 else 10.4) + 2.6 * below
        figure, grid = style.figure(own + below, 1, width=12, height=height, sharex=True)
        running, arrivals, tokens = grid[:3, 0]
        for row, axes in enumerate(grid[:, 0]):
            for phase in data.phases:
                colour, hatch = fills[phase.name]
                axes.axvspan(
                    phase.start_s,
                    phase.end_s,
                    facecolor=colour,
                    edgecolor="#bbbbbb",
                    hatch=hatch,
                    linewidth=0,
                    label=phase.name if not row else "",
                    zorder=0,
                )
            axes.set_axisbelow(False)
            if data.burst_end_s is not None and row < own:
                label = "" if row else "start burst's end"
                axes.axvline(data.burst_end_s, color="#444444", linestyle=":", linewidth=1.5, label=label)
        running.step(data.running_t, data.running, where="post", color=style.BLUE, linewidth=1.5, label="running")
        if data.conc:  # an open loop has no cap
            running.axhline(data.conc, color=style.RED, linestyle=(0, (5, 3)), linewidth=1.3, label=f"conc {data.conc}")
        running.set_ylabel("requests running")
        arrivals.stairs(
            data.arrivals, (*data.bin_start, data.bin_start[-1] + data.bin_s), fill=True, color=style.ORANGE
        )
        arrivals.set_ylabel(f"requests sent\nper {style.seconds(data.bin_s)}")
        tokens.stairs(
            data.tok_per_s, (*data.bin_start, data.bin_start[-1] + data.bin_s), color=style.GREEN, linewidth=1.5
        )
        tokens.set_ylabel("output tokens/s")
        if data.in_step:
            step = grid[3, 0]
            levels = [np.nan if r is None else r for r in data.in_step]
            step.stairs(levels, (*data.bin_start, data.bin_start[-1] + data.bin_s), color=style.BLUE, linewidth=1.5)
            step.axhline(data.conc**-0.5, color=style.RED, linestyle=(0, (5, 3)), linewidth=1.3)
            step.set_ylabel("in step, 0 to 1\n(dashed: independent)")
            step.set_ylim(top=1.02)
        grid[-1, 0].set_xlabel("time since the first measured request (s)")
        if data.server:
            draw_server(data.server, grid[own:, 0], tokens)
        for axes in (running, arrivals):
            axes.yaxis.get_major_locator().set_params(integer=True)
        for axes in grid[:, 0]:
            axes.set_ylim(bottom=0)
            axes.margins(x=0)
        style.legend(running, "point over time")
        style.caption(
            figure,
            f"Timeline of {data.point} · {data.title}",
            (data.caption, data.waves, source),
            simulated=data.simulated,
        )
    return figure
