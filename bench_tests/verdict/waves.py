"""What the start burst and the waves of a closed loop have to do with a figure that broke its objective."""

from __future__ import annotations

import numpy as np

from bench_tests.load.records import Records
from bench_tests.sweep.slo import Objective
from bench_tests.sweep.units import format_s
from bench_tests.verdict.in_step import in_step
from bench_tests.verdict.repeats import after_the_burst, start_burst
from bench_tests.verdict.summary import figure, latencies_s

__all__ = ["burst_share", "wave_words"]

BURST = 1.2  # from so many times the figure without the start burst on, the burst is named
IN_STEP = 0.5  # from this in-step figure on, if it is twice that of independent streams, waves are named


def burst_share(records: Records, block: int) -> float | None:
    """Which part of the measured requests is the start burst of a closed loop; None in an open one and for one stream."""
    count = int(records.measured.sum())
    if block < 2 or not count or records.open_loop:
        return None
    return 0.0 if records.continuous else min(1.0, block / count)


def wave_words(records: Records, objective: Objective, block: int, burst_out: bool) -> str:
    """`; that of the start burst (0.43 s without it) and of waves (94 % in step); --start staggered breaks them`, for a
    TTFT that is too high; "" where neither has to do with it. `burst_out`: the figure has no start burst in it.
    """
    if objective.latency != "ttft" or block < 2 or records.continuous or records.open_loop:
        return ""
    stat = objective.metric.partition("_")[0]
    causes = []
    burst = start_burst(records, block)
    whole = figure(latencies_s(records, records.completed)["ttft"], stat)
    rest = figure(latencies_s(records, records.completed & after_the_burst(records, burst))["ttft"], stat)
    if burst and not burst_out and whole is not None and rest is not None and whole > BURST * rest:
        causes.append(f"of the start burst ({format_s(rest)} without it)")
    step = in_step(records)
    if step is not None and step >= max(IN_STEP, 2 / float(np.sqrt(block))):
        causes.append(f"of waves ({step:.0%} in step)".replace("%", " %"))
    return (
        f"; that {' and '.join(causes)}; --start staggered breaks {'them' if len(causes) > 1 else 'it'}"
        if causes
        else ""
    )
