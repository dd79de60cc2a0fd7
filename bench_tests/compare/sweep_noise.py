"""The noise of one metric at each point of a sweep: measured between the rounds of one start, or assumed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench_tests.compare.pooled import FLOOR, moderate, prior_df, trend
from bench_tests.compare.table import LogTable, Side, row_mean

__all__ = ["ASSUMED_DF", "Assumed", "PointNoise", "Rule", "assumed", "group_noise", "point_noise", "weighted_rounds"]

Floats = NDArray[np.float64]
Rule = Literal["repeated runs", "single runs", "summary only"]
ASSUMED_DF = 4.0  # an assumption counts as much as five repetitions would
SINGLE_DF = 3.0  # of a single run, which has no other to be held against: nobody knows how long its tails are
PAIR_DF = 12.0  # of two, where one that strays is half of the mean
TAIL_DF = 8.0  # a run, of the side with fewer: the p99 of few requests has longer tails than a normal logarithm
SHARED_POINTS = 3  # from so many points on, what a round shares is told from what its points do


@dataclass(frozen=True)
class Assumed:
    """Standard deviations of a log figure that a comparison takes where it has no repetition to measure them."""

    run: float  # of one run of a point at a low concurrency
    busy: float  # the same at 64
    start: float  # of a start or day, shared by all points
    start_point: float  # of a start or day, by point
    session: float  # of a session within one start, shared by all points


# From ten runs of three starts of one server on an H100, and ten days of simulated ones (docs/statistics.md). A start
# or day moves throughput and TPOT by 1.2 % or so, with the tails that 4 degrees of freedom give.
_ASSUMED = {
    "ttft": Assumed(0.08, 0.08, 0.018, 0.01, 0.006),
    "tpot": Assumed(0.01, 0.025, 0.012, 0.002, 0.0033),
    "e2el": Assumed(0.01, 0.02, 0.012, 0.002, 0.0033),
    "output_throughput": Assumed(0.01, 0.02, 0.012, 0.002, 0.0033),
}


def assumed(quantity: str) -> Assumed:
    """What is assumed of a quantity ("ttft", "tpot", "e2el", "output_throughput"). KeyError for an unknown one."""
    return _ASSUMED[quantity]


@dataclass(frozen=True)
class PointNoise:
    """Variance of one run's log figure by point, without what a whole round shares, and how well it is known."""

    var: Floats  # (P,) of one run
    expected: Floats  # (P,) what the trend over the concurrency expects of it
    df: Floats  # (P,) degrees of freedom of `var`
    total_df: float  # of all points together; 0: no point was repeated
    rule: Rule


def point_noise(table: LogTable) -> PointNoise:
    """Measure the noise over the sweep, or take it from the scatter of the points' changes, or assume it."""
    s2, df = _within(table, np.ones(len(table.delta)))
    if df.sum() >= 1:
        s2, df = _within(table, 1 / trend(s2, df, table.level, table.size))
        expected = trend(s2, df, table.level, table.size)
        d0 = prior_df(s2, df, expected)
        var, point_df = moderate(s2, df, expected, d0), np.asarray(df + d0)
        # the pooled variance is only as good as its parts
        point_df = np.minimum(point_df, max(float(df.sum()), 1.0))
        rule: Rule = "repeated runs"
    else:
        var = expected = _single(table)
        point_df = np.full(len(var), SINGLE_DF)
        rule = "summary only" if table.summary_only[table.usable].any() else "single runs"
    fewest = np.maximum(np.minimum(*table.runs), 1)
    if table.metric.tail:  # skewed: a variance that happens to be small goes with a mean that happens to be low
        var = np.maximum(var, expected)
        point_df = np.minimum(point_df, TAIL_DF * fewest)
    point_df = np.minimum(point_df, np.select([fewest == 1, fewest == 2], [SINGLE_DF, PAIR_DF], np.inf))
    return PointNoise(var, expected, point_df, float(df.sum()), rule)


def _blocks(table: LogTable) -> Iterator[Floats]:
    """The runs of each group, (P, n); where no group has two, the groups themselves as if they were runs."""
    sides: tuple[tuple[Floats, Side], ...] = ((table.cur, table.sides.cur), (table.base, table.sides.base))
    blocks = [rows[:, side.group == g] for rows, side in sides for g in range(side.groups)]
    if any(((~np.isnan(block)).sum(axis=1) > 1).any() for block in blocks):
        yield from blocks
    else:
        yield from table.groups


def _within(table: LogTable, weights: Floats) -> tuple[Floats, Floats]:
    """Variance of each point between the runs of a group, (P,), and its degrees of freedom, (P,).

    What a round shares over the points is taken off first, weighted by `weights`, and its degrees of freedom with it.
    """
    squares, df = np.zeros(len(weights)), np.zeros(len(weights))
    use = table.usable
    for block in _blocks(table):
        known = ~np.isnan(block) & use[:, None]
        count = known.sum(axis=1)
        left = np.where(known & (count > 1)[:, None], block - row_mean(block)[:, None], np.nan)
        points = int((count > 1).sum())
        if points >= SHARED_POINTS:
            left = left - weighted_rounds(left, weights)[None, :]
            left = left - row_mean(left)[:, None]
        lost = 1 / points if points >= SHARED_POINTS else 0.0
        squares += np.nansum(left**2, axis=1)
        df += np.maximum(count - 1, 0) * (1 - lost)
    return squares / np.maximum(df, 1e-9), df


def weighted_rounds(left: Floats, weights: Floats) -> Floats:
    """Weighted mean of each column over the points that it has, (C,); NaN of an empty one. `left`: (P, C)."""
    w = np.where(np.isnan(left), 0.0, weights[:, None])
    total = w.sum(axis=0)
    return np.asarray(np.nansum(w * np.nan_to_num(left), axis=0) / np.where(total > 0, total, np.nan))


def _single(table: LogTable) -> Floats:
    """Variance of one run without repeats, (P,): the assumed noise, or the scatter of the changes if that is more.

    Formula: scatter: ((ln(now / then) − its median)² of the other points, by concurrency, from 8 points on) / (1/G now +
    1/G then).
    """
    take, use = assumed(table.metric.quantity), table.usable
    share = np.clip(np.log(np.maximum(table.level, 1)) / math.log(64), 0, 1)
    var = (take.run * (1 - share) + take.busy * share) ** 2 + table.sampling
    if use.sum() >= 8:
        off = np.where(use, table.delta - np.median(table.delta[use]), 0.0)
        for i in np.flatnonzero(use):
            others = (use & (np.arange(len(use)) != i)).astype(np.float64)
            var[i] = max(var[i], trend(off**2 / table.per_run, others, table.level, table.size)[i])
    return np.maximum(var, FLOOR)


def group_noise(table: LogTable, noise: PointNoise, weights: Floats) -> tuple[float, float]:
    """Variance of what a session or start does to single points, beyond what all share, and its degrees of freedom.

    Formula: (d0·assumed² + df·measured) / (d0 + df); measured: mean over the points of what their groups' means vary by,
    less what their runs explain.
    """
    take = assumed(table.metric.quantity)
    prior = (take.start_point / (3 if table.sides.one_start else 1)) ** 2
    excess, total = 0.0, 0
    for groups, rows in zip(table.groups, (table.cur, table.base), strict=True):
        known = ~np.isnan(groups) & table.usable[:, None]
        count = known.sum(axis=1)
        if noise.rule != "repeated runs" or groups.shape[1] < 2 or (count > 1).sum() < SHARED_POINTS:
            continue
        left = np.where(known & (count > 1)[:, None], groups - row_mean(groups)[:, None], np.nan)
        left = left - weighted_rounds(left, weights)[None, :]
        left = left - row_mean(left)[:, None]
        runs = np.maximum((~np.isnan(rows)).sum(axis=1), 1) / np.maximum(count, 1)
        df = float((count - 1)[count > 1].sum())
        excess += float(np.nansum(left**2)) - float((np.maximum(count - 1, 0) * noise.var / runs).sum())
        total += int(df)
    measured = max(0.0, excess / total) if total else 0.0
    return (ASSUMED_DF * prior + total * measured) / (ASSUMED_DF + total), ASSUMED_DF + total
