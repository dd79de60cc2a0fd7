"""Whether a point's rounds follow each other within a session, and what their mean is then worth.

Of three rounds that follow each other the variance between them is too small and that of their mean too large. At one
point nothing tells that from a change. Over all points the order of the rounds does, and how far their changes scatter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bench_tests.compare.sweep_noise import PointNoise, weighted_rounds
from bench_tests.compare.table import LogTable, Side, row_mean

__all__ = ["Following", "following", "order_of_rounds", "scatter"]

Floats = NDArray[np.float64]
GRID = np.linspace(0.0, 0.9, 46)  # correlations of neighbouring rounds; nearer to 1 nothing bounds what a mean is worth
FEWEST_TURNS = 8  # rounds beyond two, over all points and sessions, from which on their order says something
SHARED_POINTS = 3  # from so many points on, what a round shares is taken off
FEWEST_POINTS = 8  # from so many on, the scatter of their changes says something
LEVEL_POINTS = 5  # so many of one concurrency have a change of their own, which is no scatter
TRIMMED = 0.2  # the points furthest off say nothing about noise: they may have changed
UNBOUNDED = 1.0  # relative error of a factor at the end of GRID
REACH = 2.0  # standard errors: as far as the order leaves it possible, the scatter decides
SURE = 2.5  # standard errors beyond chance, of order and scatter together, from which on rounds follow each other
BY_SCATTER = (
    1.5  # of them the scatter's, at most: points that became slower scatter too, so the order has to show some of it
)


@dataclass(frozen=True)
class Following:
    """What the order of a figure's rounds says, and by what the variance of a mean of rounds is multiplied for it."""

    rho: float = 0.0  # correlation of neighbouring rounds
    z: float = 0.0  # standard errors beyond chance
    by_order: float = 1.0  # the factor that the correlation makes
    most: float = 1.0  # the factor at REACH standard errors more
    error: float = 0.0  # of by_order, relative
    factor: float = 1.0  # the one that is taken
    df: float = math.inf  # degrees of freedom of that


@dataclass(frozen=True)
class _Expected:
    """What rounds at some places show if their correlation is rho^distance and their variance 1, by GRID."""

    products: Floats  # Σ of the products of neighbours' residuals
    squares: Floats  # Σ of the residuals' squares
    mean: Floats  # variance of the mean
    trace: float  # of the products' matrix, between centred rounds
    trace_of_square: float


@lru_cache(maxsize=1024)
def _expected(places: tuple[int, ...]) -> _Expected:
    place = np.array(places)
    n, apart = len(place), np.abs(place[:, None] - place[None, :])
    centre = np.eye(n) - 1 / n
    products = centre @ ((apart == 1) / 2) @ centre
    corr = GRID[:, None, None] ** apart
    return _Expected(
        np.einsum("ij,gji->g", products, corr),
        np.einsum("ij,gji->g", centre, corr),
        corr.mean(axis=(1, 2)),
        float(np.trace(products)),
        float((products**2).sum()),
    )


def _sessions(table: LogTable, noise: PointNoise) -> Iterator[tuple[tuple[int, ...], Floats, int]]:
    """Of each session, and each set of its rounds that points have: the places of these rounds, those points' residuals
    in expected standard deviations, (points, rounds), and the number of sessions on the side. A round set aside is a gap.
    """
    sides: tuple[tuple[Floats, Side], ...] = ((table.cur, table.sides.cur), (table.base, table.sides.base))
    for rows, side in sides:
        for g in range(side.groups):
            block = np.where(table.usable[:, None], rows[:, side.group == g], np.nan)
            known = ~np.isnan(block)
            several = known.sum(axis=1) > 1
            left = np.where(several[:, None], block - row_mean(block)[:, None], np.nan)
            if several.sum() >= SHARED_POINTS:
                left = left - weighted_rounds(left, 1 / noise.expected)[None, :]
                left = left - row_mean(left)[:, None]
            left = left / np.sqrt(noise.expected)[:, None]
            for pattern in np.unique(known[known.any(axis=1)], axis=0):
                same = (known == pattern).all(axis=1)
                yield tuple(np.flatnonzero(pattern).tolist()), left[same][:, pattern], side.groups


def order_of_rounds(table: LogTable, noise: PointNoise) -> Following:
    """The correlation of neighbouring rounds by the order of the residuals, over all points and sessions.

    Two rounds say nothing. Formula: Σ of the products of neighbours' residuals / Σ of their squares (of three rounds: −2/3
    of the quadratic contrast's share), held against what rho^distance makes of it; its standard error by chance or by
    how the points differ in it, whichever is more. Factor: (variance of the mean / that of independent rounds) /
    (expected s² / σ²), for three rounds (1 + 4/3·rho + 2/3·rho²) / (1 − 2/3·rho − 1/3·rho²).
    """
    products, squares, mean, alone, within, df = (np.zeros(len(GRID)) for _ in range(6))
    found: list[tuple[Floats, Floats]] = []
    turns, shapes = 0, list[tuple[int, int, _Expected]]()
    for places, left, groups in _sessions(table, noise):
        points, n, expected = len(left), len(places), _expected(places)
        mean += points * expected.mean / groups**2
        alone += points / n / groups**2
        if n > 1:
            within += points * expected.squares
            df += points * (n - 1)
        near = np.diff(places) == 1
        if n > 2 and near.any():  # rounds set aside may leave no two neighbours
            found.append(((left[:, 1:] * left[:, :-1])[:, near].sum(axis=1), (left**2).sum(axis=1)))
            products += points * expected.products
            squares += points * expected.squares
            shapes.append((points, n, expected))
            turns += points * (n - 2)
    total = sum(float(s.sum()) for _, s in found)
    if turns < FEWEST_TURNS or total <= 0:
        return Following()
    share, curve = sum(float(p.sum()) for p, _ in found) / total, products / squares
    # Var x'Kx = 2·tr K² of normal x, here with K the products' matrix less the expected share of the squares'
    by_chance = sum(
        2 * points * (e.trace_of_square - 2 * curve[0] * e.trace + curve[0] ** 2 * (n - 1)) for points, n, e in shapes
    )
    seen = sum(float(((p - share * s) ** 2).sum()) for p, s in found)
    error = math.sqrt(max(by_chance / squares[0] ** 2, seen / total**2))
    rising = int(np.argmax(curve)) + 1  # with gaps between rounds the share may fall again towards 1
    curve, grid, factors = curve[:rising], GRID[:rising], ((mean / alone) / (within / df))[:rising]
    less, by_order, most = (float(np.interp(share + more * error, curve, factors)) for more in (-1.0, 0.0, REACH))
    z, rho = (share - float(curve[0])) / error, float(np.interp(share, curve, grid))
    off = max((most / by_order - 1) / REACH, 1 - less / by_order) if rho < grid[-1] else UNBOUNDED
    return Following(rho, z, by_order, most, off)


def scatter(table: LogTable, own: Floats, runs: Floats) -> tuple[float, float]:
    """By what the noise of rounds has to be multiplied for the points' changes to scatter as they do, and its relative error.

    `own`: variance of each point's change, (P,); `runs`: the part of it that is made by rounds. What points of one
    concurrency share is no scatter. Formula: trimmed mean of off² / own over that of a normal distribution, less the
    rest of `own`.
    """
    from scipy.special import ndtri

    use, level = table.usable, table.level[table.usable]
    off, centres = table.delta[use] - np.median(table.delta[use]), 1
    for one in np.unique(level):
        same = level == one
        if same.sum() >= LEVEL_POINTS:
            off[same] -= np.median(off[same])
            centres += 1
    squares = np.sort(np.maximum(0.0, np.abs(off) - table.allowance[use]) ** 2 / own[use])
    count, free = len(squares), len(squares) - centres
    part = max(1, round((1 - TRIMMED) * count)) / count
    cut = float(ndtri((1 + part) / 2))
    height = math.exp(-cut * cut / 2) / math.sqrt(2 * math.pi)
    second, fourth = part - 2 * cut * height, 3 * part - 2 * height * (cut**3 + 3 * cut)
    spread = fourth + (1 - part) * cut**4 - (second + (1 - part) * cut**2) ** 2  # of the squares, cut there
    ratio = float(squares[: round(part * count)].sum()) / (second * free)
    share = float(np.mean(runs[use] / own[use]))
    return 1 + (ratio - 1) / share, math.sqrt(spread / free) / second / share


def following(table: LogTable, noise: PointNoise, own: Floats, runs: Floats) -> Following:
    """What rounds that follow each other make of the variance of a point's change; the arguments as those of `scatter`.

    The order says whether they do and how far the factor may go, the scatter how far it goes, or the order alone where
    the points are too few. Formula: the factor found, between 1 and 1 + u·(most − 1), u = order's z + scatter's, at most
    BY_SCATTER, − SURE, from 0 to 1; beyond SURE + 1 up to a standard error is added. A z below 0: 1.
    """
    order = order_of_rounds(table, noise)
    if order.z <= 0 or order.most <= 1:
        return order
    found, error, beyond = order.by_order, order.error, 0.0
    if table.usable.sum() >= FEWEST_POINTS:
        found, error = scatter(table, own, runs)
        beyond = min(BY_SCATTER, (found - 1) / error)
    taken, clear = (min(1.0, max(0.0, order.z + beyond - at)) for at in (SURE, SURE + 1))
    factor = min(max(1.0, found * (1 + clear * error)), 1 + taken * (order.most - 1))
    df = 2 / (error * (1 - 1 / factor)) ** 2 if factor > 1 and error > 0 else math.inf
    return replace(order, factor=factor, df=df)
