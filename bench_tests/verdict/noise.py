"""How far a figure moves from run to run when nothing has changed: measured, or not there; nothing here is assumed.

Requests of one run share the server's mood (clocks, placement, neighbours), so more requests never average it away;
only more runs do. It is kept as the standard deviation of the figure's logarithm, that is, roughly in per cent / 100.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["RunNoise", "measured_noise"]


@dataclass(frozen=True)
class RunNoise:
    """Standard deviation of a log figure from run to run, and what it rests on."""

    sd: float  # of ln(figure); 0.08 is 8 %
    df: float  # degrees of freedom behind `sd`
    source: str  # in words, for the message

    def margin(self, runs: int, level: float = 0.95) -> float:
        """How far the mean of `runs` log figures may lie from the truth, at one end of a two-sided interval.

        Formula: t(df, 1 − (1 − level)/2) · sd / √runs. Raises ValueError below one run.
        """
        if runs < 1:
            raise ValueError(f"runs={runs}: at least one run is needed")
        from scipy.special import stdtrit

        return float(stdtrit(self.df, 0.5 + level / 2)) * self.sd / math.sqrt(runs)


def measured_noise(
    figures: Sequence[NDArray[np.float64]], sampling_var: Sequence[float] | None = None
) -> RunNoise | None:
    """How far a figure moves from run to run, pooled over points that were run several times; None without repeats.

    `figures`: for each point those of its runs (seconds, shape (runs,)); `sampling_var`: for each point the variance of
    one log figure that the finite number of requests explains, which is taken off.
    Formula: sd² = max(0, Σ SS_i / Σ df_i − Σ df_i·v_i / Σ df_i), SS_i = Σ (ln x − mean ln x)².
    """
    squares = explained = df = 0.0
    for i, runs in enumerate(figures):
        if len(runs) < 2:
            continue
        logs = np.log(np.asarray(runs, np.float64))
        squares += float(((logs - logs.mean()) ** 2).sum())
        df += len(logs) - 1
        explained += (len(logs) - 1) * (sampling_var[i] if sampling_var is not None else 0.0)
    if not df:
        return None
    return RunNoise(math.sqrt(max(0.0, squares - explained) / df), df, f"measured over {df:.0f} repeats")
