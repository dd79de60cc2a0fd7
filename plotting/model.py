"""What a picture is made of: one measured point, whichever tool wrote its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["METRICS", "LeftOut", "Objective", "PointResult", "Results"]

#: Latencies that a result can hold, each with `mean_ median_ std_ p90_ p95_ p99_` before it; seconds.
METRICS = ("ttft", "tpot", "itl", "e2el")


@dataclass(frozen=True)
class Objective:
    """One limit of an SLO: `metric` (as `p99_ttft`) must be at most `limit` seconds."""

    metric: str
    limit: float


@dataclass(frozen=True)
class LeftOut:
    """A file that could not be drawn, and why, in a few words."""

    path: Path
    reason: str


@dataclass(frozen=True)
class PointResult:
    """One point of a sweep as its result file tells it. Latencies in seconds, throughputs in tokens per second.

    `metrics` holds what was measured and finite: `p99_ttft`, `median_tpot`, `input_throughput` ...; a figure that is
    absent was not measured. `intervals` are 95 % ones; an upper end that the sample leaves open is infinite. `verdict` is PASSED, FAILED, ERROR or None (the file says none). `gpus` is None when the
    file does not say; a picture then shows the throughput of the whole server.
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
    metrics: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    slo: tuple[Objective, ...] = ()
    tiers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    messages: tuple[str, ...] = ()
    steady: tuple[float, float] | None = None
    records: Path | None = None
    per_gpu: Mapping[str, float] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def point_id(self) -> str:
        """The point's name, as in the test ids: `isl4096-osl128-conc16`."""
        return f"isl{self.isl}-osl{self.osl}-conc{self.conc}"

    @property
    def measured(self) -> bool:
        """Whether its figures say something about the server: not an ERROR, and something completed."""
        return self.verdict != "ERROR" and self.n != 0

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
        return min((o.limit for o in self.slo if o.metric == metric), default=None)


@dataclass(frozen=True)
class Results:
    """A folder of results: its points, and the files that hold none."""

    folder: Path
    points: tuple[PointResult, ...]
    left_out: tuple[LeftOut, ...] = ()
