"""The table of a sweep, as text that can be pasted into a ticket, and the live line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench_tests.figures import ECONOMY, LATENCIES, Figure, figures_where
from bench_tests.load.team import Progress
from bench_tests.measure.point import Measurement
from bench_tests.sweep.units import format_s

__all__ = ["COLUMNS", "columns", "gpus_words", "live_line", "point_line", "row"]


def columns(measurements: Sequence[Measurement]) -> tuple[str, ...]:
    """The headings of the table: rates are per GPU where the GPUs of all servers are known, else of the whole server."""
    per = "/GPU" if all(_gpus(m.result) for m in measurements) else ""
    named = (f.column if f.unit != "tok/s" else f"{f.column} {f.unit}{per}" for f in _figures(measurements))
    money = {str((m.result.get("cost") or {}).get("currency", "cost")) for m in measurements if m.result.get("cost")}
    unit = money.pop() if len(money) == 1 else "cost"
    return ("point", "n", *(name.replace("cost", unit) for name in named), "verdict")


def _figures(measurements: Sequence[Measurement]) -> tuple[Figure, ...]:
    """The figures that have columns; a chat's, energy and cost only where one of these has any."""
    return tuple(
        f
        for f in figures_where(column=True)
        if not ((f.latency and LATENCIES[f.latency].chat) or f.name in ECONOMY)
        or any(m.result.get(f.name) is not None for m in measurements)
    )


COLUMNS = columns(())


def gpus_words(gpus: int | None) -> str:
    """`8 GPU(s)`, or that nobody has named them."""
    return "GPUs not named (--gpus N)" if gpus is None else f"{gpus} GPU(s)"


def _gpus(result: Mapping[str, Any]) -> int | None:
    return (result.get("server") or {}).get("gpus") or None


def _shown(result: Mapping[str, Any], figure: Figure) -> str:
    value = result.get(figure.name)
    if figure.unit == "s":
        return format_s(value)
    if figure.name in ECONOMY:
        return "–" if value is None else f"{value:.3g}"
    return "–" if value is None else f"{value / (_gpus(result) or 1):,.1f}"


def row(measurement: Measurement, among: Sequence[Measurement] = ()) -> tuple[str, ...]:
    """One line of the table of these measurements, in the order of `columns`."""
    result = measurement.result
    name = str(measurement.point) + (f" run {measurement.run}" if measurement.run > 1 else "")
    word = measurement.verdict.word + (" (reused)" if measurement.kept else "")
    return (name, str(result.get("completed", 0)), *(_shown(result, figure) for figure in _figures(among)), word)


def point_line(measurement: Measurement) -> str:
    """A point's outcome on one line, for the log of a run."""
    result = measurement.result
    name, n, *_ = row(measurement)
    answer = result.get("p99_ttfat")
    figures = f"p99 TTFAT {format_s(answer)}, " if answer is not None else ""
    figures += f"p99 TTFT {format_s(result.get('p99_ttft'))}, p99 TPOT {format_s(result.get('p99_tpot'))}, n={n}"
    return f"{name}: {measurement.verdict.word}{' (reused)' if measurement.kept else ''}  {figures}"


def live_line(name: str, number: int, points: int, progress: Progress) -> str:
    """What is being measured right now, for a terminal."""
    failed = f", {progress.failed} failed" if progress.failed else ""
    medians = ""
    if progress.ttft_s is not None:
        medians = f", p50 TTFT {format_s(progress.ttft_s)}, TPOT {format_s(progress.tpot_s)}"
    done = progress.done + progress.failed
    return f"[{number}/{points}] {name}: {progress.phase} {done}/{progress.total}{failed}{medians}"
