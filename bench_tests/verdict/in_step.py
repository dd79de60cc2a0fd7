"""How far the streams of a closed loop move together: they fall into waves that shape its latencies."""

from __future__ import annotations

import numpy as np

from bench_tests.load.records import Records

__all__ = ["in_step"]

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
    send, end = records.send_s[known], records.end_s[known]
    values = []
    for moment in np.linspace(start_s, end_s, MOMENTS):
        flying = (send <= moment) & (moment < end)
        if flying.any():
            turns = (moment - send[flying]) / (end[flying] - send[flying])
            values.append(abs(np.exp(2j * np.pi * turns).mean()))
    return float(np.mean(values)) if values else None
