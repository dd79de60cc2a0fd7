"""Change points of many series at once: since when is the level another?

Binary segmentation: the split with the largest two-sample t divides a series, then each part is looked at again. A library was
looked for: Apache Otava does this well and pins numpy to one release (and wants the clients of two clouds), ruptures leaves how
many splits are real to a penalty; what is needed here is a p that holds over splits and series, for thousands of series.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEWEST", "Split", "segments"]

Floats = NDArray[np.float64]
FEWEST = 3  # nights on each side of a change: one or two that stray are no level
REMEMBERED = 20  # from so many nights on it is looked whether one goes with the next
SURE = 1.645  # standard errors from which on nights are taken to go with each other
LARGEST = 8.0  # nights that are worth one, at most


@dataclass(frozen=True)
class Split:
    """`at`: the first night of the new level; `moved`: new − old, of the logarithm; `p`: over all splits that were looked at."""

    at: int
    moved: float
    p: float


def segments(values: Floats, alpha: float, smallest: float = 0.0) -> list[Split]:
    """The changes of a series (shape (n,), NaN where a night has none) whose p is at most `alpha`, in their order.

    `smallest`: a change of less does not count. Formula: t of the two parts' means with their pooled variance, divided by the root of
    how many nights are worth one where they go with each other (`_memory`); p = splits · 2·P(T > |t|).
    """
    there = np.flatnonzero(~np.isnan(values))
    found: list[Split] = []
    todo = [(0, len(there))]
    x = values[there]
    while todo:
        low, high = todo.pop()
        split = _best(x[low:high])
        if split is None or split.p > alpha or abs(split.moved) < smallest:
            continue
        at = low + split.at
        found.append(Split(int(there[at]), split.moved, split.p))
        todo += [(low, at), (at, high)]
    found.sort(key=lambda s: s.at)
    return _again(found, values)


def _again(found: list[Split], values: Floats) -> list[Split]:
    """What moved at each change, between the levels that the others have left on its two sides."""
    ends = [0, *(split.at for split in found), len(values)]
    return [
        Split(s.at, float(np.nanmean(values[s.at : ends[i + 2]]) - np.nanmean(values[ends[i] : s.at])), s.p)
        for i, s in enumerate(found)
    ]


def _best(x: Floats) -> Split | None:
    """The best split of a part without gaps, shape (n,); None where it is too short or all equal."""
    from scipy.special import stdtr

    n = len(x)
    if n < 2 * FEWEST:
        return None
    x = x - x.mean()
    k = np.arange(FEWEST, n - FEWEST + 1)
    total, squares = float(x.sum()), float(x @ x)
    left = np.cumsum(x)[k - 1]
    means = left / k, (total - left) / (n - k)
    within = squares - k * means[0] ** 2 - (n - k) * means[1] ** 2
    var = np.maximum(within, 1e-12 * max(squares, 1e-300)) / (n - 2)
    t = (means[1] - means[0]) / np.sqrt(var * (1 / k + 1 / (n - k)))
    best = int(np.argmax(np.abs(t)))
    at = int(k[best])
    rest = x - np.where(np.arange(n) < at, means[0][best], means[1][best])
    size = abs(float(t[best])) / math.sqrt(_memory(x, rest))
    p = min(1.0, len(k) * 2 * float(stdtr(n - 2, -size)))
    return Split(at, float(means[1][best] - means[0][best]), p)


def _memory(x: Floats, rest: Floats) -> float:
    """How many nights are worth one. Formula: (1 + φ) / (1 − φ), φ the smaller of two estimates, where both are beyond chance.

    The lag-1 correlation of what the split leaves, `rest`; and 1 + 2r, r that of the differences of the values from night to night, in
    which another change of level is one among many, while `rest` goes together wherever there is one.
    """
    n, steps = len(x), np.diff(x)
    squares, of_steps = float(rest @ rest), float(steps @ steps)
    if n < REMEMBERED or not (squares > 0 and of_steps > 0):
        return 1.0
    left, gone = float(rest[1:] @ rest[:-1]) / squares, 1 + 2 * float(steps[1:] @ steps[:-1]) / of_steps
    if left < SURE / math.sqrt(n) or gone < SURE * math.sqrt(2 / n):
        return 1.0
    phi = min(left, gone, 0.95)
    return min((1 + phi) / (1 - phi), LARGEST)
