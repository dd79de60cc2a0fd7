"""Coverage of the intervals of percentiles, for verdict_error_rates."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bench_tests.verdict.confidence import quantile_interval

__all__ = ["DISTRIBUTIONS", "coverage"]

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Floats]
DISTRIBUTIONS: dict[str, Draw] = {
    "lognormal": lambda rng, shape: rng.lognormal(0, 0.5, shape),
    "bimodal": lambda rng, shape: rng.lognormal(0, 0.1, shape) * np.where(rng.random(shape) < 0.3, 4.0, 1.0),
    "heavy-tailed": lambda rng, shape: (1 - rng.random(shape)) ** -0.5,  # Pareto, infinite variance
}


@lru_cache(maxsize=64)
def _true_quantile(kind: str, q: float) -> float:
    if kind == "heavy-tailed":
        return float((1 - q) ** -0.5)
    draws = DISTRIBUTIONS[kind](np.random.default_rng(0), (1, 8_000_000))
    return float(np.quantile(draws, q))


def coverage(kind: str, q: float, n: int, repeats: int, seed: int) -> float:
    """Share of 95 % intervals of the q-quantile of n requests that hold the true one."""
    rng = np.random.default_rng(seed)
    real = _true_quantile(kind, q)
    hits = 0
    for _ in range(repeats):
        interval = quantile_interval(DISTRIBUTIONS[kind](rng, (1, n)), q)
        hits += interval.low <= real <= interval.high
    return hits / repeats
