"""The most that any test can find between days whose spread it has to learn from ten of them, and what a t test finds.

    python -m benchmarks.days_bound --docs docs    # seconds; the table of docs/statistics.md

Nothing is simulated: the integrals are of densities that are known.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench_tests.compare.judge import POINTS_PART, TAILS_PART
from benchmarks._comparison import ALPHA
from benchmarks._page import put

__all__ = ["best", "known", "main", "student", "table"]

Floats = NDArray[np.float64]
BEGIN, END = "<!-- days: begin -->", "<!-- days: end -->"
DAYS = 10  # of the baseline, and one now
SD = 0.01  # of a day, as it is
HELD = (0.005, 0.01, 0.02)  # of a day, where a false alarm may not come more often than the error rate
SWEEP = ALPHA * (1 - POINTS_PART) * (1 - TAILS_PART)  # the sweep's part of the error budget, on TPOT and throughput


def known(effect: float, alpha: float, sd: float = SD) -> float:
    """Power of the z test that knows the sd of days. `effect`: of the logarithm."""
    from scipy.special import ndtr, ndtri

    return float(ndtr(effect / (sd * math.sqrt(1 + 1 / DAYS)) + ndtri(alpha)))


def student(effect: float, alpha: float, sd: float = SD) -> float:
    """Power of the t test, which takes the sd from the ten days alone."""
    from scipy.stats import nct, t

    apart = effect / (sd * math.sqrt(1 + 1 / DAYS))
    return float(nct.sf(t.isf(alpha, DAYS - 1), DAYS - 1, apart))


def _density(effect: float, sd: float, moved: Floats, log_s: Floats) -> Floats:
    """Joint density of the move and the ln of the days' own sd, (moved, log_s)."""
    from scipy.stats import chi2, norm

    x = (DAYS - 1) * np.exp(2 * log_s) / sd**2
    return np.outer(norm.pdf(moved, effect, sd * math.sqrt(1 + 1 / DAYS)), 2 * x * chi2.pdf(x, DAYS - 1))


def best(effect: float, alpha: float, held: Sequence[float] = HELD, sd: float = SD) -> float:
    """No test that alarms in at most `alpha` at each sd of `held` finds `effect` more often than this at `sd`.

    The test sees how today differs from the mean of the days and how they differ among themselves, both without noise of
    rounds. Formula: α·Σ λ + ∫ max(0, f_effect − Σ λ·f_0,held) bounds the power for any λ ≥ 0 (Neyman and Pearson);
    the least over λ.
    """
    from scipy.optimize import minimize

    wide = max(*held, sd) * math.sqrt(1 + 1 / DAYS)
    moved = np.linspace(-5 * wide, effect + 5 * wide, 600)
    log_s = np.linspace(math.log(min(*held, sd)) - 2.5, math.log(max(*held, sd)) + 1.2, 250)
    cell = float((moved[1] - moved[0]) * (log_s[1] - log_s[0]))
    nothing = np.stack([_density(0.0, h, moved, log_s) for h in held])
    slower = _density(effect, sd, moved, log_s)

    def bound(log_weights: Floats) -> float:
        weights = np.exp(log_weights)
        over = np.maximum(0.0, slower - np.tensordot(weights, nothing, axes=1))
        return alpha * float(weights.sum()) + cell * float(over.sum())

    found = minimize(bound, np.ones(len(held)), method="Nelder-Mead", options={"maxiter": 400, "fatol": 1e-5})
    return float(found.fun)


def table() -> str:
    """The Markdown table."""
    head = ["slower", "knows the sd of days", "**the best that must learn it**", "t test of ten days",
            f"the best, all of the {100 * ALPHA:g} % spent on the sweep"]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for percent in (3, 4, 5, 6):
        effect = math.log1p(percent / 100)
        shares = known(effect, SWEEP), best(effect, SWEEP), student(effect, SWEEP), best(effect, ALPHA)
        lines.append(f"| +{percent} % | {' | '.join(f'{100 * got:.1f} %' for got in shares)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Print the table; with --docs, put it into the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--docs", type=Path, help="renew the table in DIR/statistics.md")
    options = parser.parse_args(argv)
    text = table()
    print(text)
    if options.docs:
        put(options.docs, BEGIN, END, f"Made by `python -m benchmarks.days_bound`:\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
