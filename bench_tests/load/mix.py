"""Which model a request goes to, and whether it is cancelled on purpose: by its running number and the seed alone."""

from __future__ import annotations

import numpy as np

from bench_tests.load.plan import LoadPlan

__all__ = ["cancel_after_s", "model_of"]

MODELS, CANCELS = 2**55, 2**54  # ranges of random streams of their own


def _draw(plan: LoadPlan, stream: int) -> float:
    rng = np.random.Generator(np.random.Philox(key=np.array([plan.seed, stream], np.uint64)))
    return float(rng.random())


def model_of(plan: LoadPlan, serial: int) -> str:
    """The model that prompt number `serial` is sent to."""
    if not plan.load.models:
        return plan.model.id
    names, weights = list(plan.load.models), np.cumsum(list(plan.load.models.values()))
    return names[
        min(len(names) - 1, int(np.searchsorted(weights / weights[-1], _draw(plan, MODELS + serial), "right")))
    ]


def cancel_after_s(plan: LoadPlan, serial: int) -> float:
    """How long after its send a request is cancelled, seconds; 0 where it is not."""
    cancel = plan.load.cancel
    return cancel["after"] if cancel and _draw(plan, CANCELS + serial) < cancel["share"] else 0.0
