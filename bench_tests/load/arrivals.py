"""When requests are wanted to start: by a rate, a ramp, or a trace."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bench_tests.load.plan import LoadPlan
from bench_tests.load.workload.source import trace_of
from bench_tests.sweep.ramp import parse_ramp

__all__ = ["schedule_s"]

EVEN = 1e6  # a burstiness from which on gaps are equal: their coefficient of variation is below 0.1 %


def schedule_s(plan: LoadPlan) -> NDArray[np.float64]:
    """Start times of the whole run's requests in seconds from its zero, shape (num_prompts,), ascending.

    Without a rate all are wanted at zero and the concurrency alone holds them back. With a rate the gaps are gamma
    distributed with mean 1/rate; burstiness is the shape: 1 gives a Poisson process, below 1 is burstier, from a million
    on they are equal. A ramp stretches such a process along its changing rate. Drawn for the whole run from the seed,
    whatever the number of processes that share it. A trace has times of its own.
    """
    trace = trace_of(plan)
    if trace is not None:
        return trace.arrival_s[: plan.num_prompts]
    ramp = parse_ramp(plan.workload.ramp)
    if ramp is None and math.isinf(plan.load.request_rate):
        return np.zeros(plan.num_prompts)
    counts = _counts(plan)
    if ramp is not None:
        return ramp.times_s(counts * ((plan.num_prompts - 1) / max(counts[-1], 1e-9)))  # fewer: the first of it
    times = counts / plan.load.request_rate
    times *= plan.num_prompts / plan.load.request_rate / times[-1]  # the rate that was asked, not one that chance drew
    return np.asarray(times - times[0])


def _counts(plan: LoadPlan) -> NDArray[np.float64]:
    """Arrival times of a process with one arrival a second; shape (num_prompts,), ascending."""
    if plan.load.burstiness >= EVEN:
        return np.arange(1.0, plan.num_prompts + 1)
    rng = np.random.Generator(np.random.Philox(key=np.array([plan.seed, 2**60], np.uint64)))
    return np.asarray(np.cumsum(rng.gamma(plan.load.burstiness, 1.0 / plan.load.burstiness, plan.num_prompts)))
