"""The questions that a comparison asks, and how they are answered: two families, points and the sweep, each corrected."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bench_tests.compare.change import Change, ChangeVerdict
from bench_tests.compare.following import Following, following
from bench_tests.compare.pooled import add_variances, hommel, weighted_holm
from bench_tests.compare.samples import Metric
from bench_tests.compare.shift import Shift, sweep_shift
from bench_tests.compare.stray import Stray, set_aside
from bench_tests.compare.sweep_noise import PointNoise, group_noise, point_noise
from bench_tests.compare.table import LogTable
from bench_tests.sweep.settings import Regression

__all__ = ["DEFAULT_THRESHOLDS", "FigureOfSweep", "Judged", "judge_tables", "needed", "two_sided"]

Floats = NDArray[np.float64]
DEFAULT_THRESHOLDS: Mapping[str, float] = Regression().counts()
POINTS_PART = 0.4  # of the error budget goes to the points' questions, the rest to the sweep's
TAILS_PART = 0.1  # of the sweep's part: its p99s; the rest: figures that move together (Hommel)
OVERALL_SHARE = 0.2  # the sweep's shift counts from this share of a point's threshold: 1 % TPOT, 2 % TTFT
FEWEST_OTHERS = 2  # so many other points show what a sweep shares
Z95 = 1.6449  # a change that is found 95 times in 100 lies so many standard errors beyond what counts


@dataclass(frozen=True)
class FigureOfSweep:
    """A metric over the sweep, ready to be asked."""

    table: LogTable
    noise: PointNoise
    follow: Following  # whether a point's rounds follow each other
    own: Floats  # (P,) variance of ln(now / then) by a point's own noise, with that
    own_df: Floats
    shift: Shift
    factor: float  # beyond which a point's change counts

    @property
    def metric(self) -> Metric:
        return self.table.metric

    def worse(self, moved: float) -> bool:
        """Whether a move on the log scale is one to the worse."""
        return (moved > 0) != self.metric.higher_is_better


def _figure(table: LogTable, factor: float) -> FigureOfSweep:
    noise = point_noise(table)
    weights = np.where(table.usable, 1 / noise.expected, 0.0)
    group, group_df = group_noise(table, noise, weights / weights.sum())
    runs = noise.var * table.per_run
    follow = following(table, noise, runs + group * table.per_group, runs)
    run_df = 1 / (1 / noise.df + 1 / follow.df)
    own, own_df = add_variances([(runs * follow.factor, run_df), (group * table.per_group, group_df)])
    return FigureOfSweep(table, noise, follow, own, own_df, sweep_shift(table, noise, own), factor)


@dataclass(frozen=True)
class Judged:
    """The answers to a comparison's questions, and what they rest on."""

    changes: tuple[Change, ...]
    overall: tuple[Change, ...]
    strays: tuple[Stray, ...]
    figures: tuple[FigureOfSweep, ...]


def judge_tables(
    tables: Mapping[str, LogTable],
    keys: Sequence[Hashable],
    thresholds: Mapping[str, float] = DEFAULT_THRESHOLDS,
    alpha: float = 0.01,
    blind: float = 3.0,
) -> Judged:
    """Judge tables of log figures, one a metric, whose rows are the points `keys`. The rest as compare_sweeps has it."""
    kept, strays = set_aside(tables)
    figures = [_figure(table, thresholds[name]) for name, table in kept.items() if table.usable.any()]
    whole = [figure for figure in figures if figure.table.usable.sum() > 1]
    overall = _ask_sweep(whole, alpha * (1 - POINTS_PART), blind) if whole else []
    changes = _ask_points(figures, keys, {c.metric: c for c in overall}, alpha, blind)
    return Judged(tuple(changes), tuple(overall), strays, tuple(figures))


def two_sided(moved: Floats | float, load: Floats | float, var: Floats | float, df: Floats | float) -> Floats:
    """p of a move on the log scale of which the difference of the loads may explain as much as `load`."""
    from scipy.special import stdtr

    return np.asarray(2 * stdtr(np.minimum(df, 1e9), -np.maximum(0.0, np.abs(moved) - load) / np.sqrt(var)))


def needed(p: float, load: Floats | float, var: Floats | float, df: Floats | float, edge: float) -> Floats:
    """The smallest slowdown (0.09: 9 %) that is found with a chance of 95 %: beyond the edge and the test, and noise."""
    from scipy.special import stdtrit

    crit = load + stdtrit(np.minimum(df, 1e9), 1 - p / 2) * np.sqrt(var)
    return np.asarray(np.expm1(np.minimum(np.maximum(crit, edge) + Z95 * np.sqrt(var), 50.0)))


def _ask_sweep(figures: Sequence[FigureOfSweep], alpha: float, blind: float) -> list[Change]:
    p = np.array([float(two_sided(f.shift.moved, f.shift.load, f.shift.var, f.shift.df)) for f in figures])
    tail = np.array([f.metric.tail for f in figures])
    adjusted = p.copy()
    parts = {True: TAILS_PART if not tail.all() else 1.0, False: 1 - TAILS_PART if tail.any() else 1.0}
    for kind in (True, False):
        of = tail == kind
        if of.any():
            adjusted[of] = np.minimum(
                1.0, (weighted_holm(p[of], np.ones(of.sum())) if kind else hommel(p[of])) / parts[kind]
            )
    out = []
    for i, f in enumerate(figures):
        share = 2 * alpha * parts[bool(tail[i])] / int((tail == tail[i]).sum())
        edge = math.log1p(OVERALL_SHARE * f.factor)
        visible = float(needed(share, f.shift.load, f.shift.var, f.shift.df, edge))
        runs = tuple(int(n[f.table.usable].min()) for n in f.table.runs)
        counts = adjusted[i] <= 2 * alpha and abs(f.shift.moved) > edge
        out.append(_change(None, f, f.shift.moved, f.shift.load, f.shift.var, f.shift.df, float(p[i]), float(adjusted[i]), counts,
                           (runs[0], runs[1]), math.nan, math.nan, visible, visible > blind * f.factor))  # fmt: skip
    return out


@dataclass(frozen=True)
class _Asked:
    """What was asked of the points by one figure, (usable points,) each."""

    of: FigureOfSweep
    at: NDArray[np.int64]
    p: Floats  # did it move beyond the others, or with a sweep that moved beyond what starts and days do?
    off_var: Floats  # of its distance to the others
    off_df: Floats
    total_var: Floats  # of its whole change
    total_df: Floats


def _asked(f: FigureOfSweep, sweep: Change | None) -> _Asked:
    shift, at = f.shift, np.flatnonzero(f.table.usable)
    delta, own, own_df, load = f.table.delta[at], f.own[at], f.own_df[at], f.table.allowance[at]
    total_var, total_df = add_variances([(own, own_df), (shift.shared, shift.shared_df)])
    off, off_var, off_df = delta, total_var, total_df
    if len(at) > FEWEST_OTHERS:
        w = shift.weights[at]
        off = delta - (shift.moved - w * shift.clipped[at]) / (1 - w)
        rest = np.maximum(0.0, shift.own - w**2 * own) / (1 - w) ** 2
        off_var, off_df = add_variances([(own, own_df), (rest, max(shift.df, f.noise.total_df, 1.0))])
    p = two_sided(off, load, off_var, off_df)
    p = np.where((np.abs(off) <= math.log1p(f.factor)) | ((off > 0) != (delta > 0)), 1.0, p)
    if sweep is not None and sweep.verdict in ("regression", "improvement"):
        with_it = (delta > 0) == (shift.moved > 0)  # the sweep's shift stands: it is this point's
        p = np.where(with_it, np.minimum(p, two_sided(delta, load, own, own_df)), p)
    return _Asked(f, at, p, off_var, off_df, total_var, total_df)


def _ask_points(
    figures: Sequence[FigureOfSweep], keys: Sequence[Hashable], slow: Mapping[str, Change], alpha: float, blind: float
) -> list[Change]:
    """The changes of all points by all figures."""
    if not figures:
        return []
    asked = [_asked(f, slow.get(f.metric.name)) for f in figures]
    weights = np.concatenate([np.full(len(a.at), a.of.metric.weight) for a in asked])
    adjusted = weighted_holm(np.concatenate([a.p for a in asked]), weights)
    budget = 2 * alpha * (POINTS_PART if slow else 1.0)
    out: list[Change] = []
    for a in asked:
        f, at = a.of, a.at
        p_all = adjusted[len(out) : len(out) + len(at)].tolist()
        moved, load, edge = f.table.delta[at], f.table.allowance[at], math.log1p(f.factor)
        p_one = two_sided(moved, load, a.total_var, a.total_df).tolist()
        visible = needed(budget * f.metric.weight / float(weights.sum()), load, a.off_var, a.off_df, edge)
        # a p99 of one point among many sees little: what may stay unseen is asked of the sweep's
        dark = (visible > blind * f.factor) & (not (f.metric.tail and f.metric.name in slow))
        now, then = np.exp(f.table.mean_cur[at]).tolist(), np.exp(f.table.mean_base[at]).tolist()
        for k, i in enumerate(at.tolist()):
            runs = int(f.table.runs[0][i]), int(f.table.runs[1][i])
            counts = p_all[k] <= budget and abs(moved[k]) > edge
            out.append(_change(keys[i], f, float(moved[k]), float(load[k]), float(a.total_var[k]), float(a.total_df[k]),
                               p_one[k], p_all[k], bool(counts), runs, now[k], then[k], float(visible[k]),
                               bool(dark[k])))  # fmt: skip
    return out


@lru_cache(maxsize=4096)
def _t975(df: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(min(df, 1e9), 0.975))


def _change(
    point: Hashable | None, f: FigureOfSweep, moved: float, load: float, var: float, df: float, p: float, adjusted: float, counts: bool,
    runs: tuple[int, int], now: float, then: float, visible: float, blind: bool,
) -> Change:  # fmt: skip
    half = _t975(df) * math.sqrt(var) + load
    low, high, edge = moved - half, moved + half, math.log1p(f.factor)
    verdict: ChangeVerdict = "unclear"
    if counts:
        verdict = "regression" if f.worse(moved) else "improvement"
    elif -edge <= low and high <= edge:
        verdict = "same"
    ratio, low, high = (math.exp(min(x, 50.0)) for x in (moved, low, high))
    return Change(point, f.metric.name, now, then, ratio, low, high, p, adjusted, verdict, f.noise.rule, runs, visible,
                  blind, f.metric.higher_is_better)  # fmt: skip
