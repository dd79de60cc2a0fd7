"""What a result is once it is read: one measured point, whichever tool wrote its file."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench_tests.figures import LATENCIES
from bench_tests.sweep.point import Point
from bench_tests.sweep.slo import Objective, parse_objectives

__all__ = ["METRICS", "SCHEMA_VERSION", "LeftOut", "Objective", "PointResult", "Results", "parse_objectives"]

SCHEMA_VERSION = 1
#: Latencies that a result can hold, each with `mean_ median_ std_ p90_ p95_ p99_` before it; seconds.
METRICS = tuple(LATENCIES)


@dataclass(frozen=True)
class LeftOut:
    """A file that was not used, and why, in a few words."""

    path: Path
    reason: str


@dataclass(frozen=True)
class PointResult:
    """One point of a sweep as its result file tells it. Latencies in seconds, throughputs in tokens per second.

    `metrics` holds what was measured and finite: `p99_ttft`, `median_tpot`, `input_throughput` ...; a figure that is
    absent was not measured. `intervals` are 95 % ones; an upper end that the sample leaves open is infinite. `verdict` is
    PASSED, FAILED, ERROR or None (the file says none). `conc` is 0 where nothing limits the requests in flight.
    `request_rate` is infinite in a closed loop and where a workload has arrivals of its own; `workload` names a trace, a
    dataset or a ramp. `gpus` is None when the file does not say; a picture then shows the throughput of the whole server.
    `parallel` is the sizes by their short names: `{"tp": 4, "pp": 2}`. `config` names one of
    several configurations of the server, and `config_settings` is what sets it apart. `start_s` is how long the server took
    to start, by `load`, `compile` and `ready`, where it was measured. `run_id` names the session that measured it; `resumes` are earlier sessions that
    this one went on with.
    """

    isl: int
    osl: int
    conc: int
    run: int
    gpus: int | None
    model: str
    engine: str
    engine_version: str
    date: str
    simulated: bool
    verdict: str | None
    n: int | None
    source: Path
    profile: str = ""
    run_id: str = ""
    resumes: tuple[str, ...] = ()
    request_rate: float = math.inf
    workload: str = ""
    parallel: Mapping[str, int] = field(default_factory=dict)
    config: str = ""
    config_settings: Mapping[str, Any] = field(default_factory=dict)
    start_s: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    slo: tuple[Objective, ...] = ()
    tiers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    messages: tuple[str, ...] = ()
    steady: tuple[float, float] | None = None
    records: Path | None = None
    series: Path | None = None  # of the server's counters
    per_gpu: Mapping[str, float] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def point_id(self) -> str:
        """The point's name, as in the test ids: `isl4096-osl128-conc16`, with a rate `isl4096-osl128-rate8-conc16`."""
        return str(self.point)

    @property
    def point(self) -> Point:
        """The sweep point; a rate is part of it wherever the file says it."""
        rate = self.request_rate if math.isfinite(self.request_rate) else 0.0
        return Point(self.isl, self.osl, self.conc, rate, self.workload, self._own_config)

    @property
    def measured(self) -> bool:
        """Whether its figures say something about the server: not an ERROR, and something completed."""
        return self.verdict != "ERROR" and self.n != 0

    @property
    def open(self) -> bool:
        """Whether it is an ERROR that is not decided, for want of requests as a rule: each check held, its figures are right."""
        validity = self.raw.get("validity")
        return (
            self.verdict == "ERROR" and bool(self.n) and isinstance(validity, Mapping) and validity.get("valid") is True
        )

    @property
    def shown(self) -> bool:
        """Whether pictures and tables have its figures: they are right, whatever its verdict."""
        return self.measured or self.open

    @property
    def case(self) -> Point:
        """The point as the case that measured it is called: `--request-rate` sets a rate that its name doesn't say."""
        named = self.raw.get("point")
        said = not self.conc or (isinstance(named, Mapping) and bool(named.get("rate")))
        return self.point if said else replace(self.point, rate=0.0)

    @property
    def _own_config(self) -> str:
        """The configuration where it is one of ours, and so begins the name of the case."""
        return self.config if isinstance(self.raw.get("config"), Mapping) else ""

    def throughput(self, side: str) -> float | None:
        """`input` or `output` tokens per second per GPU (of the whole server when `gpus` is None).

        Formula: tokens of completed requests / duration / GPUs.
        """
        if side in self.per_gpu:
            return self.per_gpu[side]
        whole = self.metrics.get(f"{side}_throughput")
        return whole if whole is None or not self.gpus else whole / self.gpus

    def limit(self, metric: str) -> float | None:
        """The SLO's limit for `metric` in seconds, the tightest one; None without an objective for it."""
        return min((o.limit_s for o in self.slo if o.metric == metric), default=None)


@dataclass(frozen=True)
class Results:
    """A folder of results: its points, the files that were not used, and how many files were read."""

    folder: Path
    points: tuple[PointResult, ...]
    left_out: tuple[LeftOut, ...] = ()
    files: int = 0

    @property
    def count(self) -> str:
        """`72 files read, 3 left out: 2 × warm-up run, 1 × not JSON`; without any left out, the first half alone."""
        said = f"{self.files} file{'s' * (self.files != 1)} read"
        used = {point.source for point in self.points}
        reasons = {left.path: left.reason for left in reversed(self.left_out) if left.path not in used}
        if not reasons:
            return said
        kinds = Counter(_kind(reason) for reason in reasons.values())
        return f"{said}, {len(reasons)} left out: " + ", ".join(f"{n} × {kind}" for kind, n in kinds.most_common(6))


def _kind(reason: str) -> str:
    """The part of a reason that files share: `not JSON` of `item 3: not JSON: Expecting value`."""
    return re.sub(r"^item \d+: ", "", reason).partition(":")[0].partition(" (")[0]
