"""What a whole sweep knows about its noise: variances of few runs, drawn towards what all points show together."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["FLOOR", "holm", "moderate", "prior_df", "trend"]

Floats = NDArray[np.float64]
FLOOR = 1e-6  # no figure is known to better than 0.1 % from run to run


def holm(p: Floats, weights: Floats | None = None) -> Floats:
    """Holm's (1979) adjusted p-values, shape as `p`, weighted as in his section 4; valid under any dependence.

    `weights`: each question's part of the error budget, fixed before looking; equal when not given.
    Formula: ascending by p/w: max over j ≤ i of min(1, p_(j)/w_(j) · Σ w of the questions from j on).
    """
    w = np.ones(p.shape) if weights is None else weights
    order = np.argsort(p / w, kind="stable")
    remaining = np.cumsum(w[order][::-1])[::-1]
    adjusted = np.empty(p.shape)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] / w[order] * remaining)) if len(p) else p
    return adjusted


def trend(s2: Floats, df: Floats, sampling: Floats) -> Floats:
    """Expected run-to-run variance of each point, shape (P,): a part common to all plus a multiple of its sampling one.

    `s2`: variance between the runs of each point, `df` its degrees of freedom (0: a point without repeats), `sampling`:
    the variance that the finite number of requests explains. Formula: a + b·sampling, a, b ≥ 0, by iteratively
    weighted least squares (variance of s² is 2·E²/df). b corrects the bias of `sampling`; below 8 points it is 1.
    """
    has = df > 0
    sampling = np.where(np.isfinite(sampling), sampling, 0.0)
    y, c, weight_df = s2[has], sampling[has], df[has]
    if has.sum() < 8 or not c.any() or np.ptp(c) < 1e-3 * c.max():
        common = max(0.0, float(np.average(y - c, weights=weight_df)))
        return np.maximum(common + sampling, FLOOR)
    fitted = np.maximum(c + np.average(y, weights=weight_df), FLOOR)
    a = b = 0.0
    for _ in range(12):
        w = weight_df / fitted**2
        s, sc, scc, sy, scy = w.sum(), (w * c).sum(), (w * c * c).sum(), (w * y).sum(), (w * c * y).sum()
        det = s * scc - sc * sc
        a, b = (scc * sy - sc * scy) / det, (s * scy - sc * sy) / det
        if b < 0:
            a, b = sy / s, 0.0
        elif a < 0:
            a, b = 0.0, scy / scc
        fitted = np.maximum(a + b * c, FLOOR)
    return np.maximum(a + b * sampling, FLOOR)


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

    Infinite when the points differ by no more than chance (one-sided test, about 2 %). Formula: 2·trigamma⁻¹(τ²) as in
    Smyth (2004), Stat. Appl. Genet. Mol. Biol. 3; τ², the variance of the points' true ln variance, from the cube roots
    of s² / expected: nearly normal with variance 2 / (9·df) when all are alike (Wilson and Hilferty 1931), which sees a
    difference earlier than logarithms do.
    """
    use = df > 0
    count = int(use.sum())
    if count < 4:
        return math.inf
    roots = np.cbrt(s2[use] / expected[use])
    chance = float((2 / (9 * df[use])).mean())
    excess = float(roots.var(ddof=1)) - chance
    if excess <= 2.0 * chance * math.sqrt(2 / (count - 1)):
        return math.inf
    return 2 * _inverse_trigamma(9 * excess / float(roots.mean()) ** 2)


def moderate(s2: Floats, df: Floats, expected: Floats, d0: float) -> Floats:
    """Each point's own variance drawn towards the expected one. Formula: (d0·expected + df·s²) / (d0 + df)."""
    if math.isinf(d0):
        return np.maximum(expected, FLOOR)
    return np.maximum((d0 * expected + df * s2) / (d0 + df), FLOOR)
