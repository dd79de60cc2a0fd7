"""What all points of a sweep share: its shift as a whole, with what rounds, sessions, starts and days do to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench_tests.compare.pooled import add_variances
from bench_tests.compare.sweep_noise import ASSUMED_DF, PointNoise, assumed, weighted_rounds
from bench_tests.compare.table import LogTable, Side, row_mean

__all__ = ["Shift", "sweep_shift"]

Floats = NDArray[np.float64]
ROUND_PRIOR_DF = 4.0  # what "points are noisy independently" is worth beside the means of the rounds
REACH = 2.5  # a point further from the median than so many standard errors counts as one there


@dataclass(frozen=True)
class Shift:
    """The sweep's shift on the log scale, and the parts of its variance."""

    moved: float  # weighted mean of ln(now / then)
    load: float  # how much of it the difference of the loads explains, at most
    var: float
    df: float
    own: float  # the part of `var` that the points' own noise makes
    shared: float  # the part that rounds, sessions, starts and days make
    shared_df: float
    session_sd: float  # of one session or start, shared by all points
    measured: int  # degrees of freedom of that from the groups themselves; 0: it is assumed
    weights: Floats  # (P,) sum 1
    clipped: Floats  # (P,) ln(now / then) as it went into the mean


def sweep_shift(table: LogTable, noise: PointNoise, own: Floats) -> Shift:
    """The shift of a metric. `own`: variance of each point's ln(now / then) by its own noise, (P,).

    A point that moved alone is no shift: from five points on each one's part is cut at REACH from their median. What a
    round shares is seen between rounds, what a session, start or day shares between those alone; each is drawn towards
    what is assumed of it and what rounds show. Formula: var = Σ w²·own + (d0·(assumed + rounds) + df·groups) / (d0 + df).
    """
    use = table.usable
    # by what is expected of a point, not by its own variance, which goes with its mean where the noise is skewed
    weights = np.where(use, 1 / (noise.expected * table.per_run), 0.0)
    weights = weights / weights.sum()
    delta = np.where(use, table.delta, 0.0)
    if use.sum() >= 5:
        reach, middle = REACH * np.sqrt(own), float(np.median(delta[use]))
        delta = np.where(use, np.clip(delta, middle - reach, middle + reach), 0.0)
    own_var = float((weights[use] ** 2 * own[use]).sum())
    one_run = float((weights[use] ** 2 * noise.var[use]).sum())  # a round's mean, by its points' own noise
    rounds, round_df = _between_rounds(table, weights)
    shared_round = max(0.0, (ROUND_PRIOR_DF * one_run + round_df * rounds) / (ROUND_PRIOR_DF + round_df) - one_run)
    per_group = float(weights @ table.per_group)
    take = assumed(table.metric.quantity)
    # rounds that differ as a whole walk: how far they go from one session to the next, more rounds do not average away
    prior = (take.session if table.sides.one_start else take.start) ** 2 + shared_round
    groups, group_df = _between_groups(table, weights)
    group = (ASSUMED_DF * prior + group_df * groups) / (ASSUMED_DF + group_df)
    parts = [(group * per_group, ASSUMED_DF + group_df)]
    shared, shared_df = (float(x) for x in add_variances(parts))
    own_df = max(noise.total_df, float(np.median(noise.df[use])))
    var, df = (float(x) for x in add_variances([*parts, (own_var, own_df)]))
    load = float(weights @ table.allowance)
    return Shift(
        float(weights @ delta), load, var, df, own_var, shared, shared_df, math.sqrt(group), group_df, weights, delta
    )


def _between_rounds(table: LogTable, weights: Floats) -> tuple[float, int]:
    """Variance of the weighted mean of a round about its group's, and its degrees of freedom."""
    squares, df = 0.0, 0
    sides: tuple[tuple[Floats, Side], ...] = ((table.cur, table.sides.cur), (table.base, table.sides.base))
    for rows, side in sides:
        for g in range(side.groups):
            block = rows[:, side.group == g]
            block = block[:, ~np.isnan(block[table.usable]).all(axis=0)]
            if block.shape[1] > 1:
                left = np.where(table.usable[:, None], block - row_mean(block)[:, None], np.nan)
                means = weighted_rounds(left, weights)
                squares += float(((means - means.mean()) ** 2).sum())
                df += block.shape[1] - 1
    return (squares / df if df else 0.0), df


def _between_groups(table: LogTable, weights: Floats) -> tuple[float, int]:
    """Variance of the weighted mean of a group (a session on a start) within its side, and its degrees of freedom."""
    squares, df = 0.0, 0
    for groups in table.groups:
        groups = groups[:, ~np.isnan(groups[table.usable]).all(axis=0)]
        if groups.shape[1] > 1:
            left = np.where(table.usable[:, None], groups - row_mean(groups)[:, None], np.nan)
            means = weighted_rounds(left, weights)
            squares += float(((means - means.mean()) ** 2).sum())
            df += groups.shape[1] - 1
    return (squares / df if df else 0.0), df
