"""The noise of one metric over a sweep: of each point from run to run, and of a whole round of points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench_tests.compare.run_noise import ASSUMED_RUN_SD
from bench_tests.compare.samples import Metric, PointRuns, log_figure
from bench_tests.verdict.pooling import FLOOR, moderate, prior_df, trend

__all__ = ["LogTable", "Rule", "SweepNoise", "log_table", "sweep_noise", "sweep_shift"]

Floats = NDArray[np.float64]
SHARED_PRIOR_DF = 8.0  # what "points are noisy independently" is worth beside the means of the rounds
SHARED_GATE = 0.02  # rounds that differ so much more than their points explain (F test) count alone
TAIL_DF = 30.0  # the p99 of few requests has longer tails than a normal logarithm: t instead of z, by simulation
SHARED_FLOOR = 0.5  # without repeats: the part that a whole run shares is assumed to be this much of the assumed noise

Rule = Literal["repeated runs", "single runs", "summary only"]


@dataclass(frozen=True)
class LogTable:
    """One metric's log figures over the points that both sweeps have: rows are points, columns rounds; NaN: none."""

    metric: Metric
    cur: Floats  # (P, rounds now)
    base: Floats  # (P, rounds then)
    sampling: Floats  # (P,) mean variance of a figure that n explains
    summary_only: NDArray[np.bool_]  # (P,)

    @cached_property
    def runs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Runs of each point now and then, two of shape (P,)."""
        return (~np.isnan(self.cur)).sum(axis=1), (~np.isnan(self.base)).sum(axis=1)

    @cached_property
    def mean_cur(self) -> Floats:
        """Mean log figure of each point now, (P,)."""
        return _mean(self.cur)

    @cached_property
    def mean_base(self) -> Floats:
        """Mean log figure of each point then, (P,)."""
        return _mean(self.base)

    @cached_property
    def delta(self) -> Floats:
        """ln(now / then) of each point, (P,); NaN where a side has none."""
        return np.asarray(self.mean_cur - self.mean_base)

    @cached_property
    def usable(self) -> NDArray[np.bool_]:
        """Points that have the metric on both sides, (P,)."""
        return np.isfinite(self.delta)


@dataclass(frozen=True)
class SweepNoise:
    """Variance of one run's log figure by point, of a round's mean, and how well both are known."""

    var: Floats  # (P,) of one run, moderated
    expected: Floats  # (P,) what the trend over the sweep expects of it
    df: Floats  # (P,) degrees of freedom of `var`
    weights: Floats  # (P,) of the points in the sweep's shift, sum 1
    round_var: float  # of a weighted round mean, from the rounds themselves
    round_df: int  # 0: no round was repeated
    independent_var: float  # of a weighted round mean if points were noisy independently of each other
    rule: Rule
    note: str


def log_table(pairs: Sequence[tuple[PointRuns, PointRuns]], metric: Metric) -> LogTable:
    """The log figures of (current, baseline) pairs of the same points."""
    sides: list[Floats] = []
    variances: list[Floats] = []
    for side in (0, 1):
        width = max((len(pair[side].runs) for pair in pairs), default=0)
        logs, var = np.full((len(pairs), width), np.nan), np.full((len(pairs), width), np.nan)
        for i, pair in enumerate(pairs):
            for k, run in enumerate(pair[side].runs):
                logs[i, k], var[i, k] = log_figure(run, metric)
        sides.append(logs)
        variances.append(var)
    only = np.array([any(run.summary_only for side in pair for run in side.runs) for pair in pairs], bool)
    sampling = np.nan_to_num(_mean(np.concatenate(variances, axis=1)))
    return LogTable(metric, sides[0], sides[1], sampling, only)


def _mean(rows: Floats) -> Floats:
    known = ~np.isnan(rows)
    count = known.sum(axis=1)
    return np.asarray(np.where(known, rows, 0.0).sum(axis=1) / np.where(count, count, np.nan))


def sweep_noise(figures: LogTable) -> SweepNoise:
    """Measure the noise of a metric over the sweep, or assume it where no point was repeated."""
    use = figures.usable
    n_cur, n_base = figures.runs
    df = np.where(use, np.maximum(n_cur - 1, 0) + np.maximum(n_base - 1, 0), 0).astype(np.float64)
    squares = sum(np.nansum((side - _mean(side)[:, None]) ** 2, axis=1) for side in (figures.cur, figures.base))
    s2, total_df = np.asarray(squares) / np.maximum(df, 1), float(df.sum())
    if total_df:
        expected = trend(s2, df, figures.sampling)
        d0 = prior_df(s2, df, expected)
        var = moderate(s2, df, expected, d0)
    else:
        var = expected = _assumed(figures)
    weights = np.where(use, 1 / expected, 0.0)
    weights /= weights.sum()
    independent = float((weights**2 * expected).sum())
    round_var, round_df = _round_variance(figures, weights)
    point_df = np.full(len(df), math.inf)
    if total_df:
        # The pooled variance is only as good as its parts: a shared part is seen once a round, however many points.
        shared = max(0.0, round_var - independent) / max(1 - float((weights**2).sum()), 1e-9) if round_df else 0.0
        share = np.minimum(1.0, shared / expected)
        pooled_df = 1 / (share**2 / max(round_df, 1) + (1 - share) ** 2 / total_df)
        point_df = np.minimum(d0 + df, pooled_df)  # Satterthwaite's
    if (figures.metric.q or 0) > 0.9:
        point_df = np.minimum(point_df, TAIL_DF)
    rule: Rule = "repeated runs" if total_df else "summary only" if figures.summary_only[use].any() else "single runs"
    note = _note(figures.metric, rule, math.sqrt(float(np.median(expected[use]))), round_var - independent)
    return SweepNoise(var, expected, point_df, weights, round_var, round_df, independent, rule, note)


def _assumed(figures: LogTable) -> Floats:
    """Variance of one run without repeats: the assumed noise, or the scatter of the points' changes if that is more."""
    assumed = ASSUMED_RUN_SD[figures.metric.quantity] ** 2
    delta, sampling = figures.delta[figures.usable], figures.sampling[figures.usable]
    if len(delta) >= 8:
        scatter = 1.4826 * float(np.median(np.abs(delta - np.median(delta))))
        assumed = max(assumed, scatter**2 / 2 - float(np.median(sampling)))  # a difference holds two runs
    return np.maximum(assumed + figures.sampling, FLOOR)


def _round_variance(figures: LogTable, weights: Floats) -> tuple[float, int]:
    """Variance of the weighted mean of a round, and its degrees of freedom; of rounds that have all their points."""
    squares, df, use = 0.0, 0, weights > 0
    for side in (figures.cur, figures.base):
        rounds = side[use]
        rounds = rounds[:, ~np.isnan(rounds).any(axis=0)]
        if rounds.shape[1] > 1:
            means = weights[use] @ rounds
            squares += float(((means - means.mean()) ** 2).sum())
            df += rounds.shape[1] - 1
    return (squares / df if df else 0.0), df


def sweep_shift(figures: LogTable, noise: SweepNoise) -> tuple[float, float, float]:
    """The sweep's shift as a whole: (weighted mean of ln(now / then), its standard error, degrees of freedom).

    A point that moved alone is no shift of the sweep: from five points on, each point's part is cut at 2.5 standard
    errors from their median. What a whole run shares is only seen between rounds, and few rounds say little: when they
    differ by more than their points explain (F test, SHARED_GATE), rounds alone count; else their variance is drawn
    towards that of independently noisy points, worth SHARED_PRIOR_DF.
    Formula: var = (d0·independent + df·rounds) / (d0 + df).
    """
    from scipy.special import fdtrc

    use = figures.usable
    n_cur, n_base = figures.runs
    delta = figures.delta[use]
    if len(delta) >= 5:
        reach = 2.5 * np.sqrt(noise.expected[use] * (1 / n_cur[use] + 1 / n_base[use]))
        delta = np.clip(delta, np.median(delta) - reach, np.median(delta) + reach)
    moved = float(noise.weights[use] @ delta)
    split = 1 / float(n_cur[use].mean()) + 1 / float(n_base[use].mean())
    if not noise.round_df:
        shared = (SHARED_FLOOR * ASSUMED_RUN_SD[figures.metric.quantity]) ** 2
        return moved, math.sqrt((noise.independent_var + shared) * split), float(np.median(noise.df[use]))
    if float(fdtrc(noise.round_df, 1e6, noise.round_var / noise.independent_var)) < SHARED_GATE:
        return moved, math.sqrt(noise.round_var * split), float(noise.round_df)
    df = SHARED_PRIOR_DF + noise.round_df
    var = (SHARED_PRIOR_DF * noise.independent_var + noise.round_df * noise.round_var) / df
    return moved, math.sqrt(var * split), df


def _note(metric: Metric, rule: Rule, typical: float, shared_var: float) -> str:
    if rule == "repeated runs":
        shared = math.sqrt(max(0.0, shared_var))
        return f"{metric.name}: measured noise: one run {typical:.1%}, a whole round {shared:.1%} beyond its points"
    assumed = ASSUMED_RUN_SD[metric.quantity]
    lacking = ""
    if rule == "summary only":
        lacking = "the requests are not in these files, their spread is taken from median and p99; "
    return (
        f"{metric.name}: weaker rule, no point was run twice: {lacking}noise between runs is assumed {assumed:.0%}, "
        f"a part that a whole run shares {SHARED_FLOOR * assumed:.0%}; measure both sides with --repeat 3"
    )
