"""The figures of each model of a load that is spread over several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench_tests.load.records import WITHDRAWN, Records
from bench_tests.verdict.summary import figure, latencies_s

__all__ = ["by_model"]


def by_model(records: Records, models: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Counts and latencies (seconds) by model; `models` names each row's, shape (rows,)."""
    names = np.array(models, np.str_)
    found = {}
    for name in sorted(set(names[records.measured].tolist())):
        of = records.measured & (names == name)
        done = of & records.completed
        values = latencies_s(records, done)
        found[name] = {
            "completed": int(done.sum()),
            "failed": int((of & ~records.completed & (records.kind != WITHDRAWN)).sum()),
            "total_output_tokens": None
            if (records.output_tokens[done] < 0).any()
            else int(records.output_tokens[done].sum()),
            **{
                f"{stat}_{of_what}": figure(values[of_what], stat)
                for of_what in ("ttft", "tpot", "e2el")
                for stat in ("median", "p99")
            },
        }
    return found
