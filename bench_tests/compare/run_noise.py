"""How far a figure moves from run to run when nothing has changed: assumed, or measured over a whole sweep.

Requests of one run share the server's mood (clocks, placement, neighbours), so more requests never average it away;
only more runs do. It is kept as the standard deviation of the figure's logarithm, that is, roughly in per cent / 100.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench_tests.verdict.noise import RunNoise

__all__ = ["ASSUMED_RUN_SD", "RunNoise", "assumed_noise", "pool_run_noise"]

# What one run on shared GPU nodes shows when nobody measured it: TTFT stands in line behind prefills, TPOT doesn't.
ASSUMED_RUN_SD = {"ttft": 0.08, "tpot": 0.02, "itl": 0.04, "e2el": 0.04, "output_throughput": 0.02}
ASSUMED_DF = 3.0  # an assumption weighs as much as four runs of one point would


def assumed_noise(quantity: str) -> RunNoise:
    """The noise of a quantity ("ttft", "tpot", "e2el", ...) that nobody measured; KeyError for an unknown one."""
    return RunNoise(ASSUMED_RUN_SD[quantity], ASSUMED_DF, f"assumed {ASSUMED_RUN_SD[quantity]:.0%}")


def pool_run_noise(
    quantity: str, runs_by_point: Sequence[NDArray[np.float64]], sampling_var: Sequence[float] | None = None
) -> RunNoise:
    """Noise of a quantity measured over points that were run several times, drawn towards the assumed one.

    `runs_by_point`: for each point the figures of its runs (seconds or tok/s, shape (runs,)); take the median, whose
    sampling error is small. `sampling_var`: for each point the variance of one log figure that its finite number of
    requests explains, which is taken off (0 when not given: then the noise is over-, never understated).

    Formula: sd² = (d0·assumed² + max(0, Σ SS_i − Σ df_i·v_i)) / (d0 + Σ df_i), SS_i = Σ (ln x − mean ln x)².
    The assumption is worth d0 = 3 degrees of freedom (an inverse chi-squared prior as in Smyth 2004, limma).
    """
    assumed = assumed_noise(quantity)
    squares = explained = df = 0.0
    for i, figures in enumerate(runs_by_point):
        if len(figures) < 2:
            continue
        logs = np.log(np.asarray(figures, np.float64))
        squares += float(((logs - logs.mean()) ** 2).sum())
        df += len(logs) - 1
        explained += (len(logs) - 1) * (sampling_var[i] if sampling_var is not None else 0.0)
    if not df:
        return assumed
    var = (assumed.df * assumed.sd**2 + max(0.0, squares - explained)) / (assumed.df + df)
    return RunNoise(float(np.sqrt(var)), assumed.df + df, f"measured over {df:.0f} repeated runs")
