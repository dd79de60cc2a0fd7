"""The latency distribution of one point: the share of requests (or gaps) that took at most so long."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench_tests.results.schema import PointResult
from plotting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator

    from bench_tests.load.records import Records

__all__ = ["Curve", "DistributionData", "distribution_data", "draw_distribution"]

_MOST_STEPS = 2000  # steps of a curve: finer than any screen or paper


@dataclass(frozen=True)
class Curve:
    """An ECDF: `share[i]` of the `n` values are at most `x[i]` seconds; `p50`, `p99` are numpy's linear ones."""

    metric: str
    n: int
    x: tuple[float, ...]
    share: tuple[float, ...]
    p50: float
    p99: float
    limit: float | None
    zero: float = 0.0  # share of values that are 0: gaps between events that came together


@dataclass(frozen=True)
class DistributionData:
    """What is drawn: a curve for each of TTFT, TPOT, ITL and E2EL that the point has."""

    point: str
    title: str
    caption: str
    simulated: bool
    curves: tuple[Curve, ...]


def distribution_data(point: PointResult, records: Records, title: str, caption: str) -> DistributionData:
    """Formula: share(x) = requests with a latency ≤ x / completed requests. ITL pools the gaps of all of them, those of 0 too.

    The marked percentiles are the result's own figures; those of its records where it holds none.
    """
    done = records.completed
    values = {
        "ttft": records.ttft_s()[done],
        "tpot": records.tpot_s()[done],
        "itl": records.itl_s(done),
        "e2el": records.e2el_s()[done],
    }
    curves = tuple(
        _curve(metric, kept, point)
        for metric, array in values.items()
        if len(kept := array[np.isfinite(array) & (array >= 0)])
    )
    return DistributionData(point.point_id, title, caption, point.simulated, curves)


def _curve(metric: str, values: NDArray[np.float64], point: PointResult) -> Curve:
    ordered = np.sort(values)
    n = len(ordered)
    at = np.unique(np.linspace(0, n - 1, min(n, _MOST_STEPS)).round().astype(int))
    p50, p99 = (
        own if (own := point.metrics.get(f"{statistic}_{metric}")) is not None else float(np.percentile(ordered, q))
        for statistic, q in (("median", 50), ("p99", 99))
    )
    x, share = tuple(ordered[at].tolist()), tuple(((at + 1) / n).tolist())
    return Curve(metric, n, x, share, p50, p99, point.limit(f"p99_{metric}"), float((ordered == 0).mean()))


def draw_distribution(data: DistributionData, *, source: str = "") -> Figure:
    """One panel a metric, on logarithmic time; p50, p99 and the SLO are marked."""
    with style.house():
        count = max(1, len(data.curves))
        columns = min(2, count)
        rows = -(-count // columns)
        figure, grid = style.figure(rows, columns, width=12, height=1.5 + 3.7 * rows)
        for axes, curve in zip(grid.flat, data.curves, strict=False):
            _draw_curve(axes, curve)
        for axes in list(grid.flat)[len(data.curves) :]:
            axes.set_axis_off()
        style.caption(
            figure,
            f"Latency distribution of {data.point} · {data.title}",
            (data.caption, source),
            simulated=data.simulated,
        )
    return figure


def _draw_curve(axes: Axes, curve: Curve) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    # a logarithmic axis has no 0: what is 0 is the height at which the curve enters from the left
    steps = [(x, share) for x, share in zip(curve.x, curve.share, strict=True) if x > 0] or [(1e-6, 1.0)]
    low, high = steps[0][0], steps[-1][0]
    nothing = f", {curve.zero:.1%} of them 0" if curve.zero else ""
    axes.step(
        (low / 2 if curve.zero else low, *(x for x, _ in steps)),
        (curve.zero, *(share for _, share in steps)),
        where="post",
        color=style.BLUE,
        label=f"{curve.n:,} {'gaps' if curve.metric == 'itl' else 'requests'}{nothing}",
    )
    for share, value, colour, marker in ((0.5, curve.p50, style.INK, "o"), (0.99, curve.p99, style.RED, "s")):
        axes.plot(
            [value or low / 1.15],
            [share],
            marker,
            color=colour,
            label=f"p{share * 100:.0f} = {style.seconds(value)}",
            zorder=4,
        )
    if curve.limit:
        axes.axvline(
            curve.limit, color=style.RED, linestyle=(0, (5, 3)), label=f"SLO p99 ≤ {style.seconds(curve.limit)}"
        )
        low, high = min(low, curve.limit), max(high, curve.limit)
    axes.set_xscale("log")
    axes.set_xlim(low / 1.15, high * 1.15)
    axes.xaxis.set_major_locator(_ticks(low / 1.15, high * 1.15))
    axes.xaxis.set_minor_locator(LogLocator(subs=range(1, 10)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(lambda value, _: style.seconds(value))
    axes.set_ylim(0, 1.05)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value * 100:.0f} %")
    axes.set_ylabel("share of gaps" if curve.metric == "itl" else "share of requests")
    axes.set_xlabel(f"{curve.metric.upper()} (log scale)")
    style.legend(axes, curve.metric.upper())


def _ticks(low: float, high: float) -> FixedLocator:
    """A few round places on a log axis, whatever part of a decade it spans."""
    from matplotlib.ticker import FixedLocator

    def places(steps: Sequence[float]) -> list[float]:
        return [v for e in range(-9, 7) for s in steps if low <= (v := s * 10.0**e) <= high]

    fine: Sequence[Sequence[float]] = (
        (1,),
        (1, 3),
        (1, 2, 5),
        (1, 1.5, 2, 3, 5, 7),
        tuple(i / 10 for i in range(10, 100)),
    )
    for steps in fine:
        found = places(steps)
        if len(found) >= 3:
            kept: list[float] = []
            for value in found:
                if not kept or math.log(value / kept[-1]) > 0.21 * math.log(high / low):
                    kept.append(value)
            return FixedLocator(kept)
    return FixedLocator([low * (high / low) ** share for share in (0.2, 0.5, 0.8)])
