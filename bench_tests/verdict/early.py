"""Ends a run as soon as its verdict is clear: one sequential judge an objective."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bench_tests.load.records import Records
from bench_tests.sweep.slo import Objective
from bench_tests.verdict.confidence import Verdict
from bench_tests.verdict.sequential import SequentialJudge

__all__ = ["EarlyVerdict"]


class EarlyVerdict:
    """Takes requests' latencies in the order of sending and says when no more are needed.

    `block`: how many requests go through the server together. The start burst of a closed loop (the first `block`, which
    all start at once) is left out, as the steady state has it; `burst` is False for a staggered start, which has none.
    """

    def __init__(self, objectives: Sequence[Objective], max_requests: int, block: int, burst: bool = True) -> None:
        self.skip = block if burst and 1 < block < max_requests else 0
        self.taken = 0
        self.judges: dict[str, SequentialJudge] = {}
        for objective in objectives:
            quantile = objective.quantile
            if quantile is None or objective.latency not in ("ttft", "tpot"):
                raise ValueError(f"{objective}: not to be judged request by request, as Slo says when it is made")
            self.judges[objective.metric] = SequentialJudge(
                quantile, objective.limit_s, max_requests=max_requests - self.skip, block=block
            )

    def add(self, values: Sequence[tuple[float | None, float | None]]) -> bool:
        """(TTFT, TPOT) of further requests, seconds; None for one that failed. True when the verdict is clear: one
        objective is clearly broken, or all are clearly kept.
        """
        new = values[min(self.skip, len(values)) :]
        self.skip -= len(values) - len(new)
        self.taken += len(values)
        for metric, judge in self.judges.items():
            place = 0 if metric.endswith("ttft") else 1
            judge.update([v for pair in new if (v := pair[place]) is not None and math.isfinite(v)])
        return self.clear

    @property
    def clear(self) -> bool:
        verdicts = [judge.verdict for judge in self.judges.values()]
        return bool(verdicts) and ("FAIL" in verdicts or all(verdict == "PASS" for verdict in verdicts))

    def finish(self, records: Records) -> dict[str, Verdict]:
        """The verdict of each metric after the run; requests that were not told yet are taken from its records."""
        sent = records.measured & ~np.isnan(records.send_s)
        ttft_s = records.first_s - (records.scheduled_s if records.open_loop else records.send_s)
        # in the order in which they were told, which is not that of sending where two processes send
        order = np.argsort(records.number[sent], kind="stable")
        order = order[records.number[sent][order] >= self.taken]
        done, ttft, tpot = (column[sent][order].tolist() for column in (records.completed, ttft_s, records.tpot_s()))
        self.add([(a, b) if ok else (None, None) for ok, a, b in zip(done, ttft, tpot, strict=True)])
        return {metric: judge.verdict or "INSUFFICIENT" for metric, judge in self.judges.items()}
