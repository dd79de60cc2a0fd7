"""How far the streams of a closed loop move together: they fall into waves that shape its latencies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench_tests.load.records import Records

__all__ = ["in_step", "in_step_at"]

MOMENTS = 400  # at which the requests in flight are looked at
START_SHARE = 0.1  # of the run: the first wave begins together whatever the server does


def in_step(records: Records) -> float | None:
    """The order parameter R of a run's requests, 0 to 1; None where the run is too short to have one.

    Formula: R = mean over moments t of |Σ exp(2πi φ)| / (requests in flight), φ = (t − send) / (end − send) of each
    request in flight; t from a tenth of the run to the last send, where the loop is full. Near 1 when all begin and end
    together, near 1/√concurrency when they are independent.
    """
    known = records.end_s > records.send_s  # False where either is NaN
    of = records.measured & known
    if not of.any():
        return None
    start_s, end_s = records.send_s[of].min(), records.send_s[of].max()
    start_s += START_SHARE * (records.end_s[of].max() - start_s)
    if end_s <= start_s:
        return None
    values = in_step_at(records, np.linspace(start_s, end_s, MOMENTS))
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else None


def in_step_at(records: Records, moments_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """The order parameter at each of these moments (seconds, the records' clock), 0 to 1; same shape, NaN where no request
    is in flight.

    Formula: |Σ exp(2πi φ)| / (requests in flight), φ = (t − send) / (end − send) of each.
    """
    known = records.end_s > records.send_s  # False where either is NaN
    send, end = records.send_s[known], records.end_s[known]
    values = np.full(len(moments_s), np.nan)
    for i, moment in enumerate(moments_s):
        flying = (send <= moment) & (moment < end)
        if flying.any():
            turns = (moment - send[flying]) / (end[flying] - send[flying])
            values[i] = abs(np.exp(2j * np.pi * turns).mean())
    return values
