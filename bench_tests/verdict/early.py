"""Ends a run as soon as its verdict is clear: one sequential judge an objective."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from bench_tests.load.records import Records
from bench_tests.sweep.slo import Objective
from bench_tests.verdict.confidence import Verdict
from bench_tests.verdict.sequential import SequentialJudge

__all__ = ["ATTAINED", "Criterion", "EarlyVerdict"]

ATTAINED = "attained"
FAR = 1e9  # shares of a limit


@dataclass(frozen=True)
class Criterion:
    """What a sequential run is judged by: its objectives, or the share of requests within their limits.

    `limits_s`: of one request, by latency; `tokens`: of each answer, where its E2EL has a limit. `level`: of the verdict;
    `first`: no look before so many requests.
    """

    objectives: Sequence[Objective]
    level: float = 0.95
    attain: float | None = None
    limits_s: Mapping[str, float] = field(default_factory=dict)
    tokens: int = 1
    first: int = 1

    def worst(self, ttft_s: float | None, tpot_s: float | None) -> float:
        """The largest share of a limit that a request takes: up to 1 it is within all; one that failed is far beyond.

        Formula: E2EL = TTFT + TPOT · (tokens − 1), which is TPOT's definition.
        """
        if ttft_s is None:
            return FAR
        e2el_s = ttft_s + (tpot_s or 0.0) * (self.tokens - 1)
        values = {"ttft": ttft_s, "tpot": tpot_s or 0.0, "e2el": e2el_s}
        return max((values[name] / limit for name, limit in self.limits_s.items()), default=0.0)


class EarlyVerdict:
    """Takes requests' latencies in the order of sending and says when no more are needed.

    `block`: how many requests go through the server together. The start burst of a closed loop (the first `block`, which
    all start at once) is left out, as the steady state has it; `burst` is False for a staggered start, which has none.
    """

    def __init__(self, criterion: Criterion, max_requests: int, block: int, burst: bool = True) -> None:
        self.skip = block if burst and 1 < block < max_requests else 0
        self.taken = 0
        self.criterion = criterion
        self.judges: dict[str, SequentialJudge] = {}
        looks = partial(
            SequentialJudge, level=criterion.level, max_requests=max_requests - self.skip, block=block,
            first=criterion.first,
        )  # fmt: skip
        for objective in criterion.objectives:
            quantile = objective.quantile
            if quantile is None or objective.latency not in ("ttft", "tpot"):
                raise ValueError(f"{objective}: not to be judged request by request, as Slo says when it is made")
            self.judges[objective.metric] = looks(quantile, objective.limit_s)
        if criterion.attain is not None:
            self.judges[ATTAINED] = looks(criterion.attain, 1.0)

    def add(self, values: Sequence[tuple[float | None, float | None]]) -> bool:
        """(TTFT, TPOT) of further requests, seconds; None for one that failed. True when the verdict is clear: one
        objective is clearly broken, or all are clearly kept.
        """
        new = values[min(self.skip, len(values)) :]
        self.skip -= len(values) - len(new)
        self.taken += len(values)
        for metric, judge in self.judges.items():
            if metric == ATTAINED:
                judge.update([self.criterion.worst(*pair) for pair in new])
                continue
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
