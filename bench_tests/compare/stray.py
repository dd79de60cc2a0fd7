"""Rounds, and days of a baseline, that stray from the others of their kind: named, and set aside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench_tests.compare.pooled import trend
from bench_tests.compare.sweep_noise import ASSUMED_DF, assumed, weighted_rounds
from bench_tests.compare.table import Column, LogTable, Side, row_mean

__all__ = ["Stray", "set_aside"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
FEWEST_POINTS = 3  # one point that strays is a run of its own, whose noise its variance holds
# By simulation of the largest of the rounds of both sides, normal rounds whose sd is up to five times the assumed one:
# a round that does not stray is set aside in at most 1 % of comparisons.
FAR, FAR_OF_FIVE = 15.0, 9.0


@dataclass(frozen=True)
class Stray:
    """A round or a group (a day, a start) that is set aside."""

    side: Literal["now", "baseline"]
    kind: Literal["round", "session"]
    column: Column
    metric: str
    off: float  # ln(its figures / the others'), mean over the points


def set_aside(tables: Mapping[str, LogTable]) -> tuple[dict[str, LogTable], tuple[Stray, ...]]:
    """The tables without stray rounds and then without stray sessions, for all metrics, and what was set aside.

    Of each group with three or more rounds, the one furthest from their median is held against the others:
    |its mean over the points − theirs| / sqrt(s²·(1 + 1 / (n − 1))), s² the variance of the rounds that are not so
    held, of all groups, drawn towards the assumed one. Sessions of a side likewise. A minority of each is set aside.
    """
    found: list[Stray] = []
    now = dict(tables)
    kinds: tuple[Literal["round", "session"], ...] = ("round", "session")
    for kind in kinds:
        strays: list[Stray] = []
        masks: dict[str, Mask] = {}
        for table in now.values():
            if table.metric.tail or table.usable.sum() < FEWEST_POINTS:
                continue
            for stray, which, mask in _strays(table, kind):
                if all((s.side, s.kind, s.column) != (stray.side, kind, stray.column) for s in strays):
                    strays.append(stray)
                masks[which] = masks[which] | mask if which in masks else mask
        if masks:
            first = next(iter(now.values()))
            cur = masks.get("now", np.zeros(first.cur.shape[1], bool))
            base = masks.get("baseline", np.zeros(first.base.shape[1], bool))
            now = {name: table.without(cur, base) for name, table in now.items()}
        found += strays
    return now, tuple(found)


def _strays(table: LogTable, kind: Literal["round", "session"]) -> list[tuple[Stray, Literal["now", "baseline"], Mask]]:
    robust = _robust(table)
    weights = np.where(table.usable, 1 / robust, 0.0)
    weights = weights / weights.sum()
    units: list[tuple[Literal["now", "baseline"], Side, Floats, list[Mask]]] = []  # means, and each one's columns
    for which, rows, side in (("now", table.cur, table.sides.cur), ("baseline", table.base, table.sides.base)):
        name: Literal["now", "baseline"] = "now" if which == "now" else "baseline"
        members = [side.group == g for g in range(side.groups)]
        if kind == "round":
            for columns in members:
                there = np.flatnonzero(columns & ~np.isnan(rows[table.usable]).all(axis=0))
                if len(there) > 1:
                    means = _means(rows[:, there], table, weights)
                    units.append((name, side, means, [np.arange(len(side.columns)) == c for c in there]))
        else:
            groups = np.stack([row_mean(rows[:, m]) for m in members], axis=1)
            kept = np.flatnonzero(~np.isnan(groups[table.usable]).all(axis=0))
            if len(kept) > 1:
                units.append((name, side, _means(groups[:, kept], table, weights), [members[k] for k in kept]))
    take = assumed(table.metric.quantity)
    prior = float((weights**2 * robust)[table.usable].sum()) + (take.session if kind == "round" else take.start) ** 2
    squares, df = ASSUMED_DF * prior, ASSUMED_DF
    held: list[int] = []
    for _, _, means, _ in units:
        far = int(np.argmax(np.abs(means - np.median(means)))) if len(means) > 2 else -1
        rest = np.delete(means, far) if far >= 0 else means
        squares += float(((rest - rest.mean()) ** 2).sum())
        df += len(rest) - 1
        held.append(far)
    out: list[tuple[Stray, Literal["now", "baseline"], Mask]] = []
    for (which, side, means, masks), far in zip(units, held, strict=True):
        if far < 0:
            continue
        n = len(means)
        rest = np.delete(means, far)
        off = float(means[far] - rest.mean())
        if abs(off) > (FAR if n < 5 else FAR_OF_FIVE) * math.sqrt(squares / df * (1 + 1 / (n - 1))):
            column = side.columns[int(np.flatnonzero(masks[far])[0])]
            out.append((Stray(which, kind, column, table.metric.name, off), which, masks[far]))
    return out


def _means(rows: Floats, table: LogTable, weights: Floats) -> Floats:
    left = np.where(table.usable[:, None], rows - _median(rows, 1), np.nan)
    return weighted_rounds(left, weights)


def _robust(table: LogTable) -> Floats:
    """A rough variance of one run by point, (P,), that a stray round does not reach: by the rounds' median differences."""
    pieces = []
    for rows, side in ((table.cur, table.sides.cur), (table.base, table.sides.base)):
        for g in range(side.groups):
            block = rows[table.usable][:, side.group == g]
            block = block[:, ~np.isnan(block).all(axis=0)]
            if block.shape[1] > 1:
                left = block - _median(block, 1)
                pieces.append(left - _median(left, 0))
    if not pieces:
        return np.ones(len(table.delta))
    var = np.ones(len(table.delta))
    var[table.usable] = row_mean(np.concatenate(pieces, axis=1) ** 2)
    return trend(
        np.nan_to_num(var, nan=1.0), (table.usable & np.isfinite(var)).astype(np.float64), table.level, table.size
    )


def _median(rows: Floats, axis: int) -> Floats:
    """Median of what is there along an axis, which is kept; NaN of nothing."""
    if not np.isnan(rows).any():
        return np.asarray(np.median(rows, axis=axis, keepdims=True))
    some = np.where(np.isnan(rows).all(axis=axis, keepdims=True), 0.0, rows)
    return np.where(np.isnan(rows).all(axis=axis, keepdims=True), np.nan, np.nanmedian(some, axis=axis, keepdims=True))
