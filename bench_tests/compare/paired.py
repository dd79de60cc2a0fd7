"""Two live servers, measured in turn: what their paired differences say, whatever the day does to both.

A round measures a point four times, A B B A (the next one B A A B): a machine that drifts in a straight line has moved both
sides alike. What is left is the scatter of the rounds' differences, and that is all that is used: nothing is assumed of days
or starts, and nothing is said of the next start of either server.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench_tests.compare.change import Change, ChangeVerdict, SweepComparison
from bench_tests.compare.judge import (
    DEFAULT_THRESHOLDS,
    OVERALL_SHARE,
    POINTS_PART,
    TAILS_PART,
    needed,
    two_sided,
)
from bench_tests.compare.pooled import add_variances, hommel, moderate, prior_df, trend, weighted_holm
from bench_tests.compare.samples import METRICS, Metric, PointRuns, log_figure
from bench_tests.compare.sweep_noise import ASSUMED_DF, Rule, assumed
from bench_tests.figures import label_of

__all__ = ["ORDERS", "compare_paired"]

Floats = NDArray[np.float64]
ORDERS = ("ABBA", "BAAB")  # of the rounds by turns
ROUND_PRIOR_DF = 4.0  # what "points differ independently" is worth beside the rounds' means


@dataclass(frozen=True)
class _Table:
    """ln(B / A) of each point (row) and round (column), NaN where a run is missing; and the sides' means."""

    metric: Metric
    differences: Floats  # (P, R)
    a: Floats  # (P,) mean ln of A
    b: Floats

    @property
    def usable(self) -> NDArray[np.bool_]:
        return np.asarray((~np.isnan(self.differences)).any(axis=1))


def compare_paired(
    a: Sequence[PointRuns],
    b: Sequence[PointRuns],
    levels: Mapping[Hashable, tuple[float, float]] | None = None,
    thresholds: Mapping[str, float] = DEFAULT_THRESHOLDS,
    alpha: float = 0.01,
    blind: float = 3.0,
) -> SweepComparison:
    """Is B slower than A? `a`, `b`: the runs of each point in the order of the rounds, two a round; `current` is B.

    `levels`: of each point its concurrency and ISL, by which its noise goes. The rest as compare_sweeps has it. A sweep of one
    point is a sweep too. Formula: a round's difference is the mean of ln of its two runs of B less that of A.
    """
    ours, theirs = {point.key: point for point in b}, {point.key: point for point in a}
    keys = [key for key in ours if key in theirs]
    tables = [_table([(theirs[key], ours[key]) for key in keys], METRICS[name]) for name in thresholds]
    level = np.array([(levels or {}).get(key, (1.0, 1.0)) for key in keys]).reshape(len(keys), 2)
    figures = [_Figure(table, level, thresholds[table.metric.name]) for table in tables if table.usable.any()]
    overall = _ask_sweep(figures, alpha * (1 - POINTS_PART), blind)
    changes = _ask_points(figures, keys, alpha * POINTS_PART, blind)
    nothing = [f"{t.metric.name}: not compared, no point has it on both sides" for t in tables if not t.usable.any()]
    return SweepComparison(
        tuple(changes),
        tuple(overall),
        tuple(key for key in theirs if key not in ours),
        tuple(key for key in ours if key not in theirs),
        (*nothing, *(figure.words for figure in figures)),
        (
            "A and B were measured in turn (ABBA): the difference is of these two servers as they run now, not of their next start",
        ),
    )


def _table(pairs: Sequence[tuple[PointRuns, PointRuns]], metric: Metric) -> _Table:
    rounds = max((min(len(a.runs), len(b.runs)) // 2 for a, b in pairs), default=0)
    logs = np.full((2, len(pairs), rounds, 2), np.nan)
    for place, pair in enumerate(pairs):
        for side, point in enumerate(pair):
            for number, run in enumerate(point.runs[: 2 * rounds]):
                logs[side, place, number // 2, number % 2] = log_figure(run, metric)[0]
    means = logs.mean(axis=3)  # a round with a run that is missing is no round
    differences = means[1] - means[0]
    means = np.where(np.isnan(differences), np.nan, means)
    count = np.maximum((~np.isnan(differences)).sum(axis=1), 1)
    a, b = (np.nansum(side, axis=1) / count for side in means)
    return _Table(metric, differences, a, b)


class _Figure:
    """A figure over the sweep: what each point and the sweep moved by, and how well that is known."""

    def __init__(self, table: _Table, level: Floats, factor: float) -> None:
        self.table, self.factor, self.metric = table, factor, table.metric
        self.at = np.flatnonzero(table.usable)
        found = table.differences[self.at]
        self.rounds = (~np.isnan(found)).sum(axis=1).astype(float)
        self.moved = np.nansum(found, axis=1) / self.rounds
        left = np.where(np.isnan(found), 0.0, found - self.moved[:, None])
        df = self.rounds - 1
        self.rule: Rule = "repeated runs" if df.any() else "single runs"
        if df.any():
            s2 = (left**2).sum(axis=1) / np.maximum(df, 1)
            expected = trend(s2, df, level[self.at, 0], level[self.at, 1])
            # what is expected of a point alone is its own scatter again, and worth nothing beside it
            d0 = prior_df(s2, df, expected) if (df > 0).sum() > 1 else 0.0
            one, self.df = moderate(s2, df, expected, d0), d0 + df
        else:
            one = expected = np.full(len(self.at), assumed(self.metric.quantity).run ** 2)
            self.df = np.full(len(self.at), ASSUMED_DF)
        self.var = one / self.rounds
        self.one = one
        self.weights = self.rounds / expected / (self.rounds / expected).sum()
        self.sweep = float(self.weights @ self.moved)
        self.sweep_var, self.sweep_df = self._of_sweep(left, df)

    def _of_sweep(self, left: Floats, df: Floats) -> tuple[float, float]:
        """Variance of the sweep's move: the points' own, and what a round's differences share over the points."""
        own = float((self.weights**2 * self.var).sum())
        total_df = float(df.sum()) + float(np.median(self.df - df))
        count = int(self.rounds.max())
        if count < 2 or len(self.at) < 2:
            return own, total_df if len(self.at) > 1 else float(self.df[0])
        one = float((self.weights**2 * self.one).sum())  # a round's mean, by its points' own noise
        means = self.weights @ left
        rounds = float((means**2).sum()) / (count - 1)
        shared = max(0.0, (ROUND_PRIOR_DF * one + (count - 1) * rounds) / (ROUND_PRIOR_DF + count - 1) - one) / count
        var, all_df = add_variances([(own, total_df), (shared, ROUND_PRIOR_DF + count - 1)])
        return float(var), float(all_df)

    @property
    def words(self) -> str:
        spread = f"{float(np.median(np.sqrt(self.one))):.1%}".replace("%", " %")
        measured = "measured" if self.rule == "repeated runs" else "assumed: one round each; use --repeat 5"
        return f"{label_of(self.metric.name)}: a round's difference scatters by {spread}, {measured}"

    def change(
        self, point: Hashable | None, moved: float, var: float, df: float, p: float, adjusted: float, budget: float, edge: float,
        share: float, rounds: int, ends: tuple[float, float],
    ) -> Change:  # fmt: skip
        """The answer to one question."""
        from scipy.special import stdtrit

        half = float(stdtrit(min(df, 1e9), 0.975)) * math.sqrt(var)
        verdict: ChangeVerdict = "unclear"
        if adjusted <= budget and abs(moved) > edge:
            verdict = "regression" if (moved > 0) != self.metric.higher_is_better else "improvement"
        elif abs(moved) + half <= math.log1p(self.factor):
            verdict = "same"
        visible = float(needed(share, 0.0, var, df, edge))
        ratio, low, high = (math.exp(x) for x in (moved, moved - half, moved + half))
        return Change(
            point, self.metric.name, ends[1], ends[0], ratio, low, high, p, adjusted, verdict, self.rule, (2 * rounds, 2 * rounds),
            visible, False, self.metric.higher_is_better,
        )  # fmt: skip


def _ask_sweep(figures: Sequence[_Figure], alpha: float, blind: float) -> list[Change]:
    p = np.array([float(two_sided(f.sweep, 0.0, f.sweep_var, f.sweep_df)) for f in figures])
    tail = np.array([f.metric.tail for f in figures], bool)
    adjusted = p.copy()
    parts = {True: TAILS_PART if not tail.all() else 1.0, False: 1 - TAILS_PART if tail.any() else 1.0}
    for kind in (True, False):
        of = tail == kind
        if of.any():
            found = weighted_holm(p[of], np.ones(int(of.sum()))) if kind else hommel(p[of])
            adjusted[of] = np.minimum(1.0, found / parts[kind])
    out = []
    for place, f in enumerate(figures):
        share = 2 * alpha * parts[bool(tail[place])] / int((tail == tail[place]).sum())
        change = f.change(
            None, f.sweep, f.sweep_var, f.sweep_df, float(p[place]), float(adjusted[place]), 2 * alpha,
            math.log1p(OVERALL_SHARE * f.factor), share, int(f.rounds.min()), (math.nan, math.nan),
        )  # fmt: skip
        out.append(_seen(change, f, blind))
    return out


def _ask_points(figures: Sequence[_Figure], keys: Sequence[Hashable], alpha: float, blind: float) -> list[Change]:
    if not figures:
        return []
    p = np.concatenate([two_sided(f.moved, 0.0, f.var, f.df) for f in figures])
    weights = np.concatenate([np.full(len(f.at), f.metric.weight) for f in figures])
    adjusted = weighted_holm(p, weights)
    out: list[Change] = []
    for f in figures:
        edge = math.log1p(f.factor)
        share = 2 * alpha * f.metric.weight / float(weights.sum())
        for k, i in enumerate(f.at.tolist()):
            ends = (math.exp(float(f.table.a[i])), math.exp(float(f.table.b[i])))
            place = len(out)
            change = f.change(
                keys[i], float(f.moved[k]), float(f.var[k]), float(f.df[k]), float(p[place]), float(adjusted[place]),
                2 * alpha, edge, share, int(f.rounds[k]), ends,
            )  # fmt: skip
            # a p99 of one point sees little: what may stay unseen is asked of the sweep's
            out.append(change if f.metric.tail else _seen(change, f, blind))
    return out


def _seen(change: Change, figure: _Figure, blind: float) -> Change:
    return replace(change, blind=change.visible > blind * figure.factor)
