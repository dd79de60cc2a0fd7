"""The trend of a history: a picture with its change points, and a page that holds both in one file."""

from __future__ import annotations

import base64
import html
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench_tests.compare.history.trend import Series, Trend
from bench_tests.figures import label_of
from plotting import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_history", "history_rows", "write_history"]

_MOST_LINES = 12  # points drawn beside the sweep: those that changed
_HEADINGS = ("since", "session", "figure", "of", "change", "p", "what else is another")


def history_rows(trend: Trend) -> list[tuple[str, ...]]:
    """The change points as rows of a table, the latest first."""
    rows: list[tuple[str, ...]] = []
    for change in reversed(trend.changes):
        also = change.words.partition("; ")[2]
        moved = f"{change.ratio - 1:+.1%}".replace("%", " %")
        of = change.point or "the whole sweep"
        rows.append(
            (change.session.date, change.session.id, label_of(change.metric), of, moved, f"{change.p:.1g}", also)
        )
    return rows


def draw_history(trend: Trend) -> Figure:
    """A row for each figure: the sweep as a whole over the sessions, its levels, and the points that moved beyond it."""
    wholes = [series for series in trend.series if series.point is None]
    with style.house():
        figure, grid = style.figure(max(1, len(wholes)), 1, width=13.0, height=1.4 + 3.2 * max(1, len(wholes)))
        for axes, whole in zip(grid[:, 0], wholes, strict=False):
            moved = [s for s in trend.series if s.metric == whole.metric and s.point and s.changes][:_MOST_LINES]
            for colour, series in zip(style.ordered_colours(len(moved)), moved, strict=True):
                axes.plot(_percent(series.values), color=colour, linewidth=1, alpha=0.8, label=series.point)
                for change in series.changes:
                    axes.plot([change.at], [_percent(series.values)[change.at]], marker="D", color=colour, markersize=5)
            axes.plot(
                _percent(whole.values), color=style.INK, linewidth=1, marker="o", markersize=2.5, label="whole sweep"
            )
            for start, end, level in _levels(whole):
                axes.plot([start, end], [level, level], color=style.RED, linewidth=2)
            for change in whole.changes:
                axes.axvline(change.at, color=style.RED, linewidth=1, linestyle="--")
            axes.set_ylabel(f"{label_of(whole.metric)}\nagainst its median (%)")
            axes.set_xlabel("session")
            style.legend(axes, "")
        first, last = (trend.sessions[at].date for at in (0, -1)) if trend.sessions else ("", "")
        words = (
            "Red: the levels of the whole sweep and the sessions since which they are others; diamonds: points that changed beyond it.",
        )
        style.caption(figure, f"{len(trend.sessions)} sessions, {first} to {last}", words, simulated=False)
    return figure


def _percent(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.asarray(100 * np.expm1(values))


def _levels(series: Series) -> list[tuple[int, int, float]]:
    ends = [0, *(change.at for change in series.changes), len(series.values)]
    found = []
    for start, end in itertools.pairwise(ends):
        part = series.values[start:end]
        if (~np.isnan(part)).any():
            found.append((start, end - 1, float(100 * np.expm1(np.nanmean(part)))))
    return found


def write_history(trend: Trend, folder: Path) -> list[Path]:
    """`history.png` and `history.html` in the folder; each appears whole or not at all. Raises OSError."""
    aside = folder / f".history.{os.getpid()}.png"
    try:
        style.save(draw_history(trend), aside)
        picture = base64.b64encode(aside.read_bytes()).decode()
        aside.replace(folder / "history.png")
    finally:
        aside.unlink(missing_ok=True)
    page = folder / f".history.{os.getpid()}.html"
    try:
        page.write_text(_page(trend, picture), encoding="utf-8")
        page.replace(folder / "history.html")
    finally:
        page.unlink(missing_ok=True)
    return [folder / "history.png", folder / "history.html"]


def _page(trend: Trend, picture: str) -> str:
    head = "".join(f"<th>{html.escape(word)}</th>" for word in _HEADINGS)
    rows = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in history_rows(trend)
    )
    alarms = "".join(f"<li>{html.escape(change.words)}</li>" for change in trend.alarms) or "<li>none</li>"
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>History</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        "<style>body{font:15px/1.5 system-ui,sans-serif;margin:2em;max-width:75em}table{border-collapse:collapse}"
        "td,th{border:1px solid #bbb;padding:.3em .6em;text-align:left}img{max-width:100%}</style></head><body>"
        f"<h1>History: {len(trend.sessions)} sessions</h1><h2>Changes for the worse that nobody has accepted</h2><ul>{alarms}</ul>"
        f'<img alt="the trend of each figure" src="data:image/png;base64,{picture}">'
        f"<h2>All change points</h2><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></body></html>\n"
    )
