"""Statistics of many small samples taken together: corrections for many questions, variances of few runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["FLOOR", "add_variances", "hommel", "moderate", "prior_df", "trend", "weighted_holm"]

Floats = NDArray[np.float64]
FLOOR = 1e-6  # no figure is known to better than 0.1 % from run to run


def weighted_holm(p: Floats, weights: Floats) -> Floats:
    """Holm's (1979) adjusted p-values, shape as `p`, weighted as in his section 4; valid under any dependence.

    `weights`: each question's part of the error budget, fixed before looking.
    Formula: ascending by p/w: max over j ≤ i of min(1, p_(j)/w_(j) · Σ w of the questions from j on).
    """
    if not len(p):
        return p
    order = np.argsort(p / weights, kind="stable")
    remaining = np.cumsum(weights[order][::-1])[::-1]
    adjusted = np.empty(p.shape)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] / weights[order] * remaining))
    return adjusted


def hommel(p: Floats) -> Floats:
    """Hommel's (1988) adjusted p-values, shape as `p`: as Holm's, and questions that agree do not pay for each other.

    Valid where Simes' inequality is, as for figures that move together (a throughput and the latency it follows).
    Formula: Wright's (1992) algorithm.
    """
    n = len(p)
    if n < 2:
        return p.copy()
    order = np.argsort(p, kind="stable")
    s = p[order]
    adjusted = s.copy()
    for m in range(n, 1, -1):
        last = np.arange(n - m + 1, n)
        smallest = float(np.min(m * s[last] / np.arange(2, m + 1)))
        adjusted[last] = np.maximum(adjusted[last], smallest)
        first = np.arange(0, n - m + 1)
        adjusted[first] = np.maximum(adjusted[first], np.minimum(smallest, m * s[first]))
    out = np.empty(n)
    out[order] = np.minimum(1.0, adjusted)
    return out


def add_variances(parts: Sequence[tuple[Floats | float, Floats | float]]) -> tuple[Floats, Floats]:
    """The sums of (variance, degrees of freedom) and their own degrees of freedom (Satterthwaite 1946), elementwise.

    Formula: df = (Σ v)² / Σ (v² / df).
    """
    total = np.asarray(sum(np.asarray(v, np.float64) for v, _ in parts))
    spread = np.asarray(sum(np.asarray(v, np.float64) ** 2 / np.asarray(df, np.float64) for v, df in parts))
    return total, np.asarray(total**2 / np.where(spread > 0, spread, np.nan))


def trend(s2: Floats, df: Floats, level: Floats, size: Floats) -> Floats:
    """Expected variance of each point, shape (P,), as it goes with its concurrency `level` and its input length `size`.

    `s2`: variance between the runs of each point, `df` its degrees of freedom (0: a point without repeats).
    Formula: ln E[s²] = a + b·ln level + c·(ln level)² + d·ln size by gamma regression, weights df (McCullagh and Nelder
    1989); b from 8 points and 2 levels on, c and d from 24 points and 4 levels or sizes on. Predictions stay within the
    levels' own range.
    """
    has = df > 0
    y, w = np.maximum(s2[has], FLOOR / 100), df[has]
    mean = float(np.average(y, weights=w))
    columns = [np.ones(len(s2))]
    for values, powers in ((level, (1, 2)), (size, (1,))):
        x = np.log(np.maximum(values, 1.0))
        several = len(np.unique(x[has]))
        for power in powers:
            least = (8, 2) if power == 1 and values is level else (24, 4)
            if has.sum() >= least[0] and several >= least[1]:
                low, high = x[has].min(), x[has].max()
                columns.append(((np.clip(x, low, high) - x[has].mean()) / (high - low)) ** power)
    if len(columns) == 1:
        return np.full(len(s2), max(mean, FLOOR))
    design, terms = np.stack(columns, axis=1), len(columns)
    fitted = np.full(int(has.sum()), mean)
    beta = np.zeros(terms)
    rows = design[has]
    for _ in range(12):
        work = np.log(fitted) + (y - fitted) / fitted
        new = np.linalg.solve(rows.T @ (w[:, None] * rows) + 1e-9 * np.eye(terms), rows.T @ (w * work))
        new = beta + np.clip(new - beta, -2.0, 2.0) if beta.any() else new
        step = float(np.abs(new - beta).max())
        beta = new
        fitted = np.exp(np.clip(rows @ beta, math.log(mean) - 9, math.log(mean) + 5))
        if step < 1e-4:
            break
    return np.maximum(np.exp(np.clip(design @ beta, math.log(mean) - 9, math.log(mean) + 5)), FLOOR)


def _inverse_trigamma(x: float) -> float:
    from scipy.special import polygamma

    y = 0.5 + 1 / x  # Newton's, as in Smyth (2004), appendix
    for _ in range(50):
        t = float(polygamma(1, y))
        step = t * (1 - t / x) / float(polygamma(2, y))
        y += step
        if abs(step) < 1e-9 * y:
            break
    return y


def prior_df(s2: Floats, df: Floats, expected: Floats) -> float:
    """How alike the points' variances are: the degrees of freedom that the trend is worth beside a point's own runs.

    Never infinite: that no difference was seen is no proof that there is none. Formula: 2·trigamma⁻¹(τ²) as in Smyth
    (2004), Stat. Appl. Genet. Mol. Biol. 3; τ², the variance of the points' true ln variance, is the mean of the
    positive part of N(excess, its standard error), excess from the cube roots of s² / expected: nearly normal with
    variance 2 / (9·df) when all are alike (Wilson and Hilferty 1931). Where it is beyond three standard errors, two more
    are added, between one and three a part of them.
    """
    from scipy.special import ndtr

    use = df > 0
    count = int(use.sum())
    if count < 3:
        return ALONE_DF
    roots = np.cbrt(np.maximum(s2[use], FLOOR / 100) / expected[use])
    chance = float((2 / (9 * df[use])).mean())
    excess = float(roots.var(ddof=1)) - chance
    error = chance * math.sqrt(2 / (count - 1))
    z = excess / error
    positive = excess * float(ndtr(z)) + error * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    # where points are seen to differ, its upper end: too small a difference names points that are merely noisy
    seen = min(1.0, max(0.0, (z - 1) / 2))
    positive += 2 * seen * (chance + max(0.0, excess)) * math.sqrt(2 / (count - 1))
    tau2 = 9 * max(positive, 1e-6) / float(roots.mean()) ** 2
    return float(np.clip(2 * _inverse_trigamma(tau2), 0.5, 200.0))


ALONE_DF = 4.0  # of one or two points nothing tells how alike they are


def moderate(s2: Floats, df: Floats, expected: Floats, d0: float) -> Floats:
    """Each point's own variance drawn towards the expected one. Formula: (d0·expected + df·s²) / (d0 + df)."""
    return np.maximum((d0 * expected + df * s2) / (d0 + df), FLOOR)
