"""The table of a sweep, as text that can be pasted into a ticket, and a point's line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench_tests.figures import ECONOMY, LATENCIES, Figure, figures_where
from bench_tests.markdown import markdown
from bench_tests.measure.point import Measurement
from bench_tests.sweep.units import format_s

__all__ = ["Table", "fitted", "gpus_words", "label", "point_line", "table"]


@dataclass(frozen=True)
class Table:
    """Headings and rows; `wanted` says of each column how much it is (0: always there)."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    wanted: tuple[int, ...]

    def __str__(self) -> str:
        return markdown(self.rows, self.headings)


def table(measurements: Sequence[Measurement], further: Sequence[Figure] = ()) -> Table:
    """The table of these runs; `further` figures have columns too.

    Rates of tokens are per GPU where the GPUs of all servers are known, else of the whole server.
    """
    per = "/GPU" if all(_gpus(m.result) for m in measurements) else ""
    figures = [*_figures(measurements), *(f for f in further if not f.column)]
    money = {str((m.result.get("cost") or {}).get("currency", "cost")) for m in measurements if m.result.get("cost")}
    unit = money.pop() if len(money) == 1 else "cost"
    asserted = {metric for m in measurements for metric in _asserted(m.result)}
    several = any(m.run > 1 for m in measurements)
    return Table(
        ("point", "n", *(_heading(f, per).replace("cost", unit) for f in figures), "verdict"),
        tuple(
            (
                label(m, several),
                str(m.result.get("completed", 0)),
                *(_shown(m.result, f) for f in figures),
                m.verdict.word + (" (reused)" if m.kept else ""),
            )
            for m in measurements
        ),
        (0, 5, *(_wanted(f, asserted, further) for f in figures), 0),
    )


def fitted(whole: Table, width: int) -> tuple[Table, list[str]]:
    """The table with as many of its columns as `width` has room for, those that matter most, and what was left out."""
    order = sorted(range(len(whole.headings)), key=lambda i: (whole.wanted[i], i))
    kept = set(order)
    found = whole
    while len(str(found).partition("\n")[0]) > width and whole.wanted[order[-1]]:
        kept.discard(order.pop())
        columns = sorted(kept)
        found = Table(
            tuple(whole.headings[i] for i in columns),
            tuple(tuple(cells[i] for i in columns) for cells in whole.rows),
            tuple(whole.wanted[i] for i in columns),
        )
    return found, [heading for i, heading in enumerate(whole.headings) if i not in kept]


def _wanted(figure: Figure, asserted: set[str], further: Sequence[Figure]) -> int:
    if figure.name in asserted:
        return 1
    if figure in further:
        return 2
    if figure.headline:
        return 3
    return 4 if figure.name == "output_throughput" else 6 if figure.latency else 7


def _asserted(result: Mapping[str, Any]) -> list[str]:
    slo = result.get("slo")
    listed = slo.get("objectives") if isinstance(slo, Mapping) else None
    return [str(one.get("metric")) for one in listed or () if isinstance(one, Mapping)]


def _heading(figure: Figure, per: str) -> str:
    if figure.unit == "tok/s":
        return f"{figure.column or figure.label} {figure.unit}{per}"
    if figure.column:
        return figure.column
    if figure.latency:
        statistic = "p50" if figure.statistic == "median" else figure.statistic
        return f"{LATENCIES[figure.latency].label} {statistic}"
    if figure.name == "request_throughput":
        return figure.unit  # as a rate of tokens is called by its unit
    return figure.label if figure.unit == "s" else f"{figure.label} {figure.unit}".rstrip()


def _figures(measurements: Sequence[Measurement]) -> tuple[Figure, ...]:
    """The figures that have columns; a chat's, energy and cost only where one of these has any."""
    return tuple(
        f
        for f in figures_where(column=True)
        if not ((f.latency and LATENCIES[f.latency].chat) or f.name in ECONOMY)
        or any(m.result.get(f.name) is not None for m in measurements)
    )


def gpus_words(gpus: int | None) -> str:
    """`8 GPUs`, or that nobody has named them."""
    return "GPUs not named (--gpus N)" if gpus is None else f"{gpus} GPU{'s' * (gpus != 1)}"


def _gpus(result: Mapping[str, Any]) -> int | None:
    return (result.get("server") or {}).get("gpus") or None


def _shown(result: Mapping[str, Any], figure: Figure) -> str:
    value = result.get(figure.name)
    if figure.unit == "s":
        return format_s(value)
    if value is None:
        return "–"
    if figure.unit == "tok/s":
        return f"{value / (_gpus(result) or 1):,.1f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def label(measurement: Measurement, several: bool = False) -> str:
    """The point, and which run of it where there are several."""
    return str(measurement.point) + (f" run {measurement.run}" if several or measurement.run > 1 else "")


def point_line(measurement: Measurement, several: bool = False, width: int | None = None) -> str:
    """A point's outcome on one line, for the log of a run; in `width` columns where that is given, with fewer figures."""
    result = measurement.result
    answer = result.get("p99_ttfat")
    reused = " (reused)" if measurement.kept else ""
    begin = f"{label(measurement, several)}: {measurement.verdict.word}{reused}"
    figures = [f"p99 TTFAT {format_s(answer)}"] if answer is not None else []
    figures += [f"p99 {name.upper()} {format_s(result.get(f'p99_{name}'))}" for name in ("ttft", "tpot")]
    figures += [f"n={result.get('completed', 0)}"]
    while figures and width is not None and len(begin) + 2 + len(", ".join(figures)) > width:
        figures.pop()
    return f"{begin}  {', '.join(figures)}".rstrip()
