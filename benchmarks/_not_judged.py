"""How often a comparison ends as not judged (exit code 12), and what `[regression] blind` would have to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench_tests.compare.judge import DEFAULT_THRESHOLDS, Judged, judge_tables
from bench_tests.compare.samples import METRICS
from benchmarks._scenarios import KEYS, Scenario, pair

__all__ = ["CELLS", "Cell", "needed", "rows_of_cells"]

NOISE = ((0.005, 0.02), (0.01, 0.04), (0.02, 0.08))  # of TPOT and TTFT from run to run
DAY = 0.005
# rounds now, rounds a baseline's day, days of the baseline
MEASURED = ((1, 1, 1), (3, 3, 1), (5, 5, 1), (10, 10, 1), (3, 3, 3), (3, 3, 10), (5, 5, 3), (10, 10, 3), (5, 5, 10))


@dataclass(frozen=True)
class Cell:
    """Pairs of sweeps in which nothing changed."""

    scenario: Scenario
    pairs: int
    seed: int


CELLS = tuple(
    Scenario("", runs=(now, then), days=days, day=DAY, tpot=tpot, ttft=ttft)
    for tpot, ttft in NOISE
    for now, then, days in MEASURED
)


def largest(judged: Judged) -> float:
    """The smallest `blind` with which all is judged: of all that is held to it, the most thresholds that would stay unseen."""
    sweep = {c.metric for c in judged.overall}
    asked = [c for c in judged.changes if not (METRICS[c.metric].tail and c.metric in sweep)]
    return max(c.visible / DEFAULT_THRESHOLDS[c.metric] for c in (*judged.overall, *asked))


def needed(cell: Cell) -> list[tuple[float, float]]:
    """`blind` that judges all, for each pair: with the default figures, and without throughput."""
    rng = np.random.default_rng(cell.seed)
    got = []
    for _ in range(cell.pairs):
        tables, _ = pair(rng, cell.scenario)
        fewer = {name: table for name, table in tables.items() if name != "output_throughput"}
        got.append((largest(judge_tables(tables, KEYS)), largest(judge_tables(fewer, KEYS))))
    return got


def rows_of_cells(cells: Sequence[tuple[Scenario, list[tuple[float, float]]]]) -> list[list[str]]:
    """Rows of the table."""
    rows = []
    for s, got in cells:
        values = np.array(got)
        most = np.quantile(values, 0.95, axis=0)
        judged = (values <= 3).mean(axis=0)
        rows.append(
            [
                f"{100 * s.tpot:g} %, {100 * s.ttft:g} %",
                f"{s.runs[0]} against {s.runs[1]}{f' on each of {s.days} days' if s.days > 1 else ''}",
                str(len(got)),
                *(f"{100 * share:.0f} %, {blind:.1f}" for share, blind in zip(judged, most, strict=True)),
            ]
        )
    return rows
