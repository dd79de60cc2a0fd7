"""The runs of two sweeps as tables of logarithms: rows are points, columns runs, with what each column belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bench_tests.compare.samples import Metric, Origin, PointRuns, log_figure

__all__ = ["Column", "LogTable", "Side", "Sides", "log_table", "row_mean", "sides_of"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Column:
    """One round of a sweep: all its points were measured in one session on one start of the server."""

    session: str = ""
    start: str = ""
    round: int = 0  # within its session and start, from 0
    day: float | None = None  # days since 1970 at which it began
    node: str = ""
    version: str = ""


@dataclass(frozen=True)
class Side:
    """The columns of one sweep, and the groups (a session on one start) that they form."""

    columns: tuple[Column, ...]

    @cached_property
    def group(self) -> NDArray[np.int64]:
        """Which group each column belongs to, (C,)."""
        seen: dict[tuple[str, str], int] = {}
        return np.array([seen.setdefault((c.session, c.start), len(seen)) for c in self.columns], np.int64)

    @cached_property
    def groups(self) -> int:
        """How many groups there are."""
        return int(self.group.max()) + 1 if len(self.columns) else 0


@dataclass(frozen=True)
class Sides:
    """Both sweeps' columns."""

    cur: Side
    base: Side

    @cached_property
    def one_start(self) -> bool:
        """Whether all runs of both sides are of one start of the server and of one day: then neither differs."""
        columns = (*self.cur.columns, *self.base.columns)
        starts, days = {c.start for c in columns}, [c.day for c in columns if c.day is not None]
        return len(starts) == 1 and "" not in starts and (not days or max(days) - min(days) < 1)


@dataclass(frozen=True)
class LogTable:
    """One metric's log figures over the points that both sweeps have; NaN: none."""

    metric: Metric
    cur: Floats  # (P, columns now)
    base: Floats  # (P, columns then)
    sampling: Floats  # (P,) mean variance of a figure that n explains
    level: Floats  # (P,) the concurrency, of an open loop its rate
    size: Floats  # (P,) the input length, or 1 where a point does not say it
    summary_only: Mask  # (P,)
    sides: Sides
    allowance: Floats  # (P,) how much of |ln(now / then)| the difference of the two loads explains, at most

    def without(self, cur: Mask, base: Mask) -> LogTable:
        """The table without the columns in the masks (C,): their figures become NaN."""
        return replace(self, cur=np.where(cur, np.nan, self.cur), base=np.where(base, np.nan, self.base))

    @cached_property
    def runs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Runs of each point now and then, two of shape (P,)."""
        return (~np.isnan(self.cur)).sum(axis=1), (~np.isnan(self.base)).sum(axis=1)

    @cached_property
    def groups(self) -> tuple[Floats, Floats]:
        """Mean log figure of each point in each group, now and then: two of shape (P, G)."""
        return _by_group(self.cur, self.sides.cur), _by_group(self.base, self.sides.base)

    @cached_property
    def mean_cur(self) -> Floats:
        """Mean log figure of each point now, (P,): every group counts alike."""
        return row_mean(self.groups[0])

    @cached_property
    def mean_base(self) -> Floats:
        """Mean log figure of each point then, (P,)."""
        return row_mean(self.groups[1])

    @cached_property
    def delta(self) -> Floats:
        """ln(now / then) of each point, (P,); NaN where a side has none."""
        return np.asarray(self.mean_cur - self.mean_base)

    @cached_property
    def usable(self) -> Mask:
        """Points that have the metric on both sides, (P,)."""
        return np.isfinite(self.delta)

    @cached_property
    def per_run(self) -> Floats:
        """What the variance of one run is multiplied by in that of `delta`, (P,). Formula: Σ 1 / (G² · n_g), both sides."""
        return _per_run(self.cur, self.sides.cur) + _per_run(self.base, self.sides.base)

    @cached_property
    def per_group(self) -> Floats:
        """What the variance of one group's own part is multiplied by, (P,). Formula: 1/G now + 1/G then."""
        count = [np.maximum((~np.isnan(side)).sum(axis=1), 1) for side in self.groups]
        return np.asarray(1 / count[0] + 1 / count[1])


def row_mean(rows: Floats) -> Floats:
    """Mean of what is there in each row; NaN of nothing."""
    known = ~np.isnan(rows)
    count = known.sum(axis=1)
    return np.asarray(np.where(known, rows, 0.0).sum(axis=1) / np.where(count, count, np.nan))


def _by_group(rows: Floats, side: Side) -> Floats:
    means = [row_mean(rows[:, side.group == g]) for g in range(side.groups)]
    return np.stack(means, axis=1) if means else np.empty((len(rows), 0))


def _per_run(rows: Floats, side: Side) -> Floats:
    counts = np.stack(
        [(~np.isnan(rows[:, side.group == g])).sum(axis=1) for g in range(side.groups)] or [np.zeros(len(rows))], axis=1
    )
    there = np.maximum((counts > 0).sum(axis=1), 1)
    return np.asarray(np.where(counts > 0, 1 / np.maximum(counts, 1), 0.0).sum(axis=1) / there**2)


def sides_of(pairs: Sequence[tuple[PointRuns, PointRuns]]) -> tuple[Sides, list[NDArray[np.int64]]]:
    """The columns of (current, baseline) pairs, and for both sides which column holds which run: (P, most runs), -1: none.

    Run k of a point in a session on a start belongs to round k of them.
    """
    sides, places = [], []
    for which in (0, 1):
        columns: dict[tuple[str, str, int], Column] = {}
        found: list[list[tuple[str, str, int]]] = []
        for pair in pairs:
            seen: dict[tuple[str, str], int] = {}
            keys = []
            for run in pair[which].runs:
                o = run.origin
                k = seen[o.session, o.start] = seen.get((o.session, o.start), -1) + 1
                keys.append((o.session, o.start, k))
                columns.setdefault(keys[-1], Column(o.session, o.start, k, o.day, o.node, o.version))
            found.append(keys)
        order = {key: i for i, key in enumerate(columns)}
        place = np.full((len(pairs), max(map(len, found), default=0)), -1, np.int64)
        for i, keys in enumerate(found):
            place[i, : len(keys)] = [order[key] for key in keys]
        sides.append(Side(tuple(columns.values())))
        places.append(place)
    return Sides(*sides), places


def log_table(pairs: Sequence[tuple[PointRuns, PointRuns]], metric: Metric) -> LogTable:
    """The log figures of (current, baseline) pairs of the same points."""
    sides, places = sides_of(pairs)
    tables: list[Floats] = []
    variances: list[Floats] = []
    for which, side in ((0, sides.cur), (1, sides.base)):
        logs = np.full((len(pairs), len(side.columns)), np.nan)
        var = logs.copy()
        for i, pair in enumerate(pairs):
            for k, run in enumerate(pair[which].runs):
                logs[i, places[which][i, k]], var[i, places[which][i, k]] = log_figure(run, metric)
        tables.append(logs)
        variances.append(var)
    every = [[run for side in pair for run in side.runs] for pair in pairs]
    only = np.array([any(run.summary_only for run in runs) for runs in every], bool)
    rates = [getattr(pair[0].key, "rate", 0.0) or 1.0 for pair in pairs]  # of an open loop
    level = np.array(
        [max(rate, *(run.block for run in runs)) for rate, runs in zip(rates, every, strict=True)], np.float64
    )
    sampling = np.nan_to_num(row_mean(np.concatenate(variances, axis=1)))
    allowance = np.array([_allowance(pair, metric) for pair in pairs], np.float64)
    size = np.array([max(1, getattr(pair[0].key, "isl", 1)) for pair in pairs], np.float64)
    return LogTable(metric, tables[0], tables[1], sampling, level, size, only, sides, allowance)


# By how much ln(figure) follows the order parameter and ln(tokens per event): ten runs of three starts of one server at
# concurrency 64 (docs/statistics.md). Means and medians of TTFT follow the waves; the p99, which is the start burst, doesn't.
_FOLLOWS = {"ttft": (2.2, 0.05), "tpot": (0.45, 0.03), "e2el": (0.2, 0.035), "output_throughput": (0.2, 0.035)}
_P99_TTFT_FOLLOWS = (0.2, 0.04)
IN_STEP_DIFFERS, TOKENS_DIFFER = 0.05, 1.1  # below these the two loads are one


def mean_of(runs: Sequence[Origin], name: str) -> float | None:
    """Mean of what the runs say of `in_step` or `tokens_per_event`; None where none says it."""
    said = [value for run in runs if (value := getattr(run, name)) is not None]
    return float(np.mean(said)) if said else None


def loads_of(pair: tuple[PointRuns, PointRuns]) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """In-step figure and tokens per event of a point where they differ between the sides: (now, then), else None."""
    found: list[tuple[float, float] | None] = []
    for name in ("in_step", "tokens_per_event"):
        now, then = (mean_of([run.origin for run in side.runs], name) for side in pair)
        differ = False
        if now is not None and then is not None:
            if name == "in_step":
                differ = abs(now - then) > IN_STEP_DIFFERS
            else:
                differ = min(now, then) > 0 and max(now / then, then / now) > TOKENS_DIFFER
        found.append((now, then) if differ and now is not None and then is not None else None)
    return found[0], found[1]


def _allowance(pair: tuple[PointRuns, PointRuns], metric: Metric) -> float:
    """How far ln(figure) may follow the load. Formula: |s_R · ΔR| + |s_t · Δ ln tokens per event|."""
    waves, tokens = loads_of(pair)
    slopes = _P99_TTFT_FOLLOWS if metric.name == "p99_ttft" else _FOLLOWS[metric.quantity]
    part = abs(slopes[0] * (waves[0] - waves[1])) if waves is not None else 0.0
    return part + (abs(slopes[1] * float(np.log(tokens[0] / tokens[1]))) if tokens is not None else 0.0)
