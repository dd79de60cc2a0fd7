"""Points that belong in one picture: the same model, engine, GPUs, OSL, and real or simulated."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from plotting.model import PointResult

__all__ = ["Cell", "Group", "cells", "split"]


@dataclass(frozen=True)
class Cell:
    """All runs of one point. Each figure is the median over its measured runs."""

    isl: int
    osl: int
    conc: int
    runs: tuple[PointResult, ...]

    @property
    def measured(self) -> tuple[PointResult, ...]:
        """The runs whose figures say something about the server."""
        return tuple(run for run in self.runs if run.measured)

    def metric(self, name: str) -> float | None:
        """The median over the runs of `p99_ttft` and the like, seconds; None when no run has it."""
        return _median(run.metrics.get(name) for run in self.measured)

    def throughput(self, side: str) -> float | None:
        """The median over the runs of `input` or `output` tokens per second per GPU; None when no run has it."""
        return _median(run.throughput(side) for run in self.measured)

    def interval(self, name: str) -> tuple[float, float] | None:
        """The file's 95 % interval of a single run; the lowest and highest of several runs."""
        if len(self.measured) == 1:
            return self.measured[0].intervals.get(name)
        values = [v for run in self.measured if (v := run.metrics.get(name)) is not None]
        return (min(values), max(values)) if len(values) > 1 else None

    @property
    def verdict(self) -> str:
        """FAILED when a run failed, PASSED when one passed; then `measured` (no verdict in the file) or ERROR."""
        verdicts = {run.verdict for run in self.runs}
        for verdict in ("FAILED", "PASSED"):
            if verdict in verdicts:
                return verdict
        return "measured" if self.measured else "ERROR"


def _median(values: Iterable[float | None]) -> float | None:
    kept = [value for value in values if value is not None]
    return median(kept) if kept else None


def cells(points: Iterable[PointResult]) -> list[Cell]:
    """The points by ISL, OSL and concurrency, in that order; repeated runs share a cell."""
    found: dict[tuple[int, int, int], list[PointResult]] = {}
    for point in points:
        found.setdefault((point.isl, point.osl, point.conc), []).append(point)
    return [Cell(*key, tuple(runs)) for key, runs in sorted(found.items())]


@dataclass(frozen=True)
class Group:
    """The points of one picture, with what its caption says about them."""

    model: str
    engine: str
    gpus: int | None
    osl: int
    simulated: bool
    points: tuple[PointResult, ...]
    cells: tuple[Cell, ...] = field(repr=False)

    @property
    def tiers(self) -> Mapping[str, tuple[float, ...]]:
        """The SLO tiers that the files name, seconds, by `ttft` and `tpot`; empty when none does."""
        named = [point.tiers for point in self.points if point.tiers]
        return max(named, key=lambda t: sum(map(len, t.values()))) if named else {}

    @property
    def short_model(self) -> str:
        """The model's name without its owner."""
        return self.model.rstrip("/").rsplit("/", 1)[-1]

    @property
    def hardware(self) -> str:
        """`8 GPUs`, or that their number is not known."""
        return "GPUs not stated" if not self.gpus else f"{self.gpus} GPU{'s' if self.gpus > 1 else ''}"

    @property
    def title(self) -> str:
        """What distinguishes this group from others: model, engine, GPUs, OSL."""
        return f"{self.short_model} · {self.engine} · {self.hardware} · OSL {self.osl}"

    @property
    def caption(self) -> str:
        """Model, engine with version, GPUs, date and n, in one line."""
        versions = sorted({p.engine_version for p in self.points if p.engine_version})
        engine = f"{self.engine} {', '.join(versions[:3])}".strip()
        kind = "SIMULATED server · " if self.simulated else ""
        return f"{kind}{self.model} · {engine} · {self.hardware} · {dates(self.points)} · {self.sample}"

    def caption_of(self, point: PointResult) -> str:
        """The caption of a picture of `point` alone."""
        kind = "SIMULATED server · " if point.simulated else ""
        engine = f"{point.engine} {point.engine_version}".strip()
        n = "n not stated" if point.n is None else f"n = {point.n} requests"
        bad = "" if point.measured else " · verdict ERROR: no valid measurement"
        return f"{kind}{point.model} · {engine} · {self.hardware} · {dates([point])} · run {point.run}, {n}{bad}"

    @property
    def sample(self) -> str:
        """How many points there are and how many requests each figure rests on."""
        counts = [point.n for point in self.points if point.n]
        points = f"{len(self.cells)} point{'s' if len(self.cells) != 1 else ''}"
        runs = f" in {len(self.points)} runs" if len(self.points) > len(self.cells) else ""
        if not counts:
            return f"{points}{runs}, n not stated"
        span = str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
        return f"{points}{runs}, n = {span} requests each"

    @property
    def slug(self) -> str:
        """The group's part of a file name."""
        words = (
            f"{self.short_model}-{self.engine}-{self.gpus or 'x'}gpu-osl{self.osl}{'-sim' if self.simulated else ''}"
        )
        return re.sub(r"[^a-z0-9.]+", "-", words.lower()).strip("-.")[:80]


def dates(points: Iterable[PointResult]) -> str:
    """`2026-02-13`, or the first and last day of the points."""
    days = sorted({day for point in points if (day := _day(point.date))})
    if not days:
        return "date not stated"
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _day(date: str) -> str | None:
    try:
        return datetime.strptime(date[:8], "%Y%m%d").date().isoformat()
    except ValueError:
        return None


def split(points: Iterable[PointResult]) -> list[Group]:
    """The groups in `points`, the largest first."""
    found: dict[tuple[str, str, int, int, bool], list[PointResult]] = {}
    for point in points:
        found.setdefault((point.model, point.engine, point.gpus or 0, point.osl, point.simulated), []).append(point)
    groups = [
        Group(model, engine, gpus or None, osl, simulated, tuple(members), tuple(cells(members)))
        for (model, engine, gpus, osl, simulated), members in found.items()
    ]
    return sorted(groups, key=lambda g: (-len(g.cells), g.slug))
