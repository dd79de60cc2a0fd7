"""When requests are wanted to start. Knows the plan."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bench_tests.load.plan import LoadPlan

__all__ = ["schedule_s"]


def schedule_s(plan: LoadPlan) -> NDArray[np.float64]:
    """Start times of the whole run's requests in seconds from its zero, shape (num_prompts,), ascending.

    Without a rate all are wanted at zero and the concurrency alone holds them back. With a rate the gaps are gamma
    distributed with mean 1/rate; burstiness is the shape: 1 gives a Poisson process, below 1 is burstier. Drawn for
    the whole run from the seed, whatever the number of processes that share it.
    """
    if math.isinf(plan.load.request_rate):
        return np.zeros(plan.num_prompts)
    rng = np.random.Generator(np.random.Philox(key=np.array([plan.seed, 2**60], np.uint64)))
    gaps = rng.gamma(plan.load.burstiness, 1.0 / (plan.load.request_rate * plan.load.burstiness), plan.num_prompts)
    times = np.cumsum(gaps)
    times *= plan.num_prompts / plan.load.request_rate / times[-1]  # the rate that was asked, not one that chance drew
    return np.asarray(times - times[0])
