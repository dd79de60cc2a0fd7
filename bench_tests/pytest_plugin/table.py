"""The table of a sweep, as text that can be pasted into a ticket, and the live line. Knows measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench_tests.load.team import Progress
from bench_tests.measure.point import Measurement
from bench_tests.sweep.units import format_s

__all__ = ["COLUMNS", "live_line", "markdown", "point_line", "row"]

COLUMNS = ("point", "n", "TTFT p50", "TTFT p99", "TPOT p50", "TPOT p99", "in tok/s/GPU", "out tok/s/GPU", "verdict")


def _per_gpu(result: Mapping[str, Any], key: str) -> str:
    value = result.get(key)
    gpus = (result.get("server") or {}).get("gpus") or 1
    return "–" if value is None else f"{value / gpus:,.1f}"


def row(measurement: Measurement) -> tuple[str, ...]:
    """One line of the table, in the order of COLUMNS."""
    result = measurement.result
    name = str(measurement.point) + (f" run {measurement.run}" if measurement.run > 1 else "")
    times = (format_s(result.get(key)) for key in ("median_ttft", "p99_ttft", "median_tpot", "p99_tpot"))
    word = measurement.verdict.word + (" (kept)" if measurement.kept else "")
    return (
        name,
        str(result.get("completed", 0)),
        *times,
        _per_gpu(result, "input_throughput"),
        _per_gpu(result, "output_throughput"),
        word,
    )


def markdown(rows: Sequence[Sequence[str]], columns: Sequence[str] = COLUMNS) -> str:
    """A Markdown table whose columns line up in plain text as well."""
    widths = [max(3, *(len(line[i]) for line in (columns, *rows))) for i in range(len(columns))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            c.ljust(w) if i in (0, len(columns) - 1) else c.rjust(w)
            for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[i] if i in (0, len(columns) - 1) else "-" * (widths[i] - 1) + ":" for i in range(len(columns))]
    return "\n".join([line(columns), f"| {' | '.join(rule)} |", *map(line, rows)])


def point_line(measurement: Measurement) -> str:
    """A point's outcome on one line, for the log of a run."""
    result = measurement.result
    name, n, *_ = row(measurement)
    figures = f"p99 TTFT {format_s(result.get('p99_ttft'))}, p99 TPOT {format_s(result.get('p99_tpot'))}, n={n}"
    return f"{name}: {measurement.verdict.word}{' (kept)' if measurement.kept else ''}  {figures}"


def live_line(name: str, number: int, points: int, progress: Progress) -> str:
    """What is being measured right now, for a terminal."""
    failed = f", {progress.failed} failed" if progress.failed else ""
    medians = ""
    if progress.ttft_s is not None:
        medians = f", p50 TTFT {format_s(progress.ttft_s)}, TPOT {format_s(progress.tpot_s)}"
    done = progress.done + progress.failed
    return f"[{number}/{points}] {name}: {progress.phase} {done}/{progress.total}{failed}{medians}"
