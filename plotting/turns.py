"""Sessions turn by turn: TTFT, and how much of each prompt came from the server's prefix cache beside what theory expects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench_tests.results.schema import PointResult
from plotting import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["TurnsData", "draw_turns", "turns_data"]

_MOST = 100  # turns that are drawn

Series = tuple[float | None, ...]


@dataclass(frozen=True)
class TurnsData:
    """A value for each turn, None where there is none; TTFT in seconds, hit rates 0 to 1."""

    point: str
    title: str
    caption: str
    simulated: bool
    turn: tuple[int, ...]
    median_ttft: Series
    p99_ttft: Series
    hit_rate: Series
    theory: Series


def turns_data(point: PointResult, title: str, caption: str) -> TurnsData | None:
    """From a result's `by_turn`; None where it has none."""
    said = point.raw.get("by_turn")
    rows = [row for row in said if isinstance(row, Mapping) and _turn(row)] if isinstance(said, list) else []
    if not rows:
        return None
    rows = sorted(rows, key=lambda row: int(row["turn"]))[:_MOST]

    def column(name: str) -> Series:
        return tuple(_number(row.get(name)) for row in rows)

    turns = tuple(int(row["turn"]) for row in rows)
    columns = [column(name) for name in ("median_ttft", "p99_ttft", "hit_rate", "theory_hit_rate")]
    return TurnsData(point.point_id, title, caption, point.simulated, turns, *columns)


def _turn(row: Mapping[str, Any]) -> bool:
    turn = row.get("turn")
    return isinstance(turn, int) and not isinstance(turn, bool) and 0 < turn < 10**6


def _number(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    return float(value) if good else None


def draw_turns(data: TurnsData, *, source: str = "") -> Figure:
    """Two rows over one axis of turns."""
    with style.house():
        figure, grid = style.figure(2, 1, width=10, height=6.6, sharex=True)
        ttft, hits = grid[:, 0]
        for values, colour, marker, label in (
            (data.median_ttft, style.BLUE, "o", "p50"),
            (data.p99_ttft, style.RED, "^", "p99"),
        ):
            ttft.plot(data.turn, _gaps(values), color=colour, marker=marker, label=label)
        ttft.set_ylabel("TTFT (s)")
        hits.plot(
            data.turn, _gaps(data.theory, 100), color=style.ORANGE, linestyle=(0, (5, 3)), marker="s", label="theory"
        )
        if any(value is not None for value in data.hit_rate):
            hits.plot(data.turn, _gaps(data.hit_rate, 100), color=style.GREEN, marker="o", label="measured")
        hits.set_ylabel("prompt tokens from\nthe prefix cache (%)")
        hits.set_xlabel("turn of the session")
        hits.xaxis.get_major_locator().set_params(integer=True)
        most = max((value for value in data.p99_ttft if value is not None), default=0.0)
        ttft.set_ylim(0, most * 1.1 or 1)
        hits.set_ylim(0, 105)
        style.legend(ttft, "TTFT")
        style.legend(hits, "hit rate")
        style.caption(
            figure, f"Turn by turn: {data.point} · {data.title}", (data.caption, source), simulated=data.simulated
        )
    return figure


def _gaps(values: Series, scale: float = 1.0) -> list[float]:
    """For matplotlib: a gap where there is no value."""
    return [math.nan if value is None else value * scale for value in values]
