"""One sweep against an earlier one: which points changed, and whether the sweep as a whole did.

A regression needs two conditions: worse by more than a factor, and statistically different with the noise of rounds,
sessions and starts taken into account, corrected over the whole sweep. What a comparison has no repetition of (another
start, another day) is in none of its differences, so it is assumed, and more rounds of one day make it no surer.
A shift that all points share is one question, asked once; a point is asked how it moved beyond the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench_tests.compare.change import Change, SweepComparison
from bench_tests.compare.context import context_lines, noise_lines
from bench_tests.compare.judge import DEFAULT_THRESHOLDS, judge_tables
from bench_tests.compare.samples import METRICS, PointRuns, RunSample
from bench_tests.compare.table import log_table

__all__ = ["DEFAULT_THRESHOLDS", "Change", "PointRuns", "RunSample", "SweepComparison", "compare_sweeps"]


def compare_sweeps(
    current: Sequence[PointRuns],
    baseline: Sequence[PointRuns],
    thresholds: Mapping[str, float] = DEFAULT_THRESHOLDS,
    alpha: float = 0.01,
    blind: float = 3.0,
) -> SweepComparison:
    """Compare two sweeps, point by point and as a whole.

    `thresholds`: by METRICS' name, the factor beyond which a change counts (0.05: worse than 1.05 times, the same for
    the better; a throughput below 1 / 1.05); only these metrics are compared. `alpha`: when nothing changed, the chance
    of any false regression is at most `alpha`; POINTS_PART of it belongs to the points' questions and the rest to the
    sweep's. `blind`: how many times its threshold a change of a figure may stay unseen. Points of one side only are
    listed, not judged. Raises KeyError for an unknown metric, ValueError for a point that comes twice.
    """
    ours, theirs = {point.key: point for point in current}, {point.key: point for point in baseline}
    if len(ours) < len(current) or len(theirs) < len(baseline):
        raise ValueError("a point comes twice in one sweep: give all its runs in one PointRuns")
    keys = [key for key in ours if key in theirs]
    pairs = [(ours[key], theirs[key]) for key in keys]
    tables = {name: log_table(pairs, METRICS[name]) for name in thresholds}
    judged = judge_tables(tables, keys, thresholds, alpha, blind)
    nothing = [
        f"{name}: not compared, no point has it on both sides" for name, t in tables.items() if not t.usable.any()
    ]
    return SweepComparison(
        judged.changes,
        judged.overall,
        tuple(key for key in theirs if key not in ours),
        tuple(key for key in ours if key not in theirs),
        (*nothing, *noise_lines(judged)),
        tuple(context_lines(pairs, judged)),
    )
