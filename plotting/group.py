"""Points that belong in one picture: the same server and OSL, under the same kind of load."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from zlib import crc32

from bench_tests.compare.comparable import group_key, load_words
from bench_tests.results.names import parallel_words
from bench_tests.results.schema import PointResult
from bench_tests.sweep.point import number

__all__ = ["OWN_LENGTHS", "Cell", "Group", "cells", "isl_words", "split"]

OWN_LENGTHS = "recorded lengths"  # of a trace or a dataset: its points have neither ISL nor OSL


def isl_words(isl: int) -> str:
    """`ISL 4,096`, or that lengths are the load's own."""
    return f"ISL {isl:,}" if isl else OWN_LENGTHS


@dataclass(frozen=True)
class Cell:
    """All runs of one point. Each figure is the median over its measured runs."""

    isl: int
    osl: int
    conc: int
    runs: tuple[PointResult, ...]

    @property
    def rate(self) -> float:
        """Requests started per second, of a point without a concurrency; 0 of any other."""
        rate = self.runs[0].request_rate
        return rate if not self.conc and math.isfinite(rate) else 0.0

    @property
    def level(self) -> float:
        """Where the cell stands on its picture's axis of loads: its concurrency, else its rate; 0 of a recorded load."""
        return self.conc or self.rate

    @property
    def load(self) -> str:
        """`conc 16`, `8 req/s`; a load that has arrivals of its own by its name."""
        return (
            f"conc {self.conc}" if self.conc else f"{number(self.rate)} req/s" if self.rate else self.runs[0].workload
        )

    @property
    def measured(self) -> tuple[PointResult, ...]:
        """The runs whose figures say something about the server; those too that were not decided."""
        return tuple(run for run in self.runs if run.shown)

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
        """The verdict of all runs together: FAILED when one failed, else ERROR when one could not be measured.

        `open` where one is not decided, PASSED where all that have a verdict passed; `measured`
        where no file holds one.
        """
        verdicts = {"open" if run.open else run.verdict if run.measured else "ERROR" for run in self.runs}
        return next((word for word in ("FAILED", "ERROR", "open", "PASSED") if word in verdicts), "measured")


def _median(values: Iterable[float | None]) -> float | None:
    kept = [value for value in values if value is not None]
    return median(kept) if kept else None


def cells(points: Iterable[PointResult]) -> list[Cell]:
    """The points by ISL, OSL, concurrency and rate, in that order; repeated runs share a cell."""
    found: dict[tuple[int, int, int, float], list[PointResult]] = {}
    for point in points:
        found.setdefault((point.isl, point.osl, point.conc, point.request_rate), []).append(point)
    return [Cell(isl, osl, conc, tuple(runs)) for (isl, osl, conc, _), runs in sorted(found.items())]


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
    apart: str = ""  # what sets it apart from others of the folder, beside the above: parallel sizes, load, version

    @property
    def axis(self) -> str:
        """What its points differ in beside the ISL, as an axis is called."""
        if any(cell.conc for cell in self.cells):
            return "concurrency (requests)"
        return "rate (requests/s)" if any(cell.rate for cell in self.cells) else "load"

    @property
    def levels(self) -> dict[float, str]:
        """The loads in their order, by `Cell.level`: how an axis names each."""
        named = {cell.level: f"{cell.level:,.10g}" if cell.level else cell.load for cell in self.cells}
        return dict(sorted(named.items()))

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
        apart = f" · {self.apart}" if self.apart else ""
        osl = f"OSL {self.osl}" if self.osl else OWN_LENGTHS
        return f"{self.short_model} · {self.engine} · {self.hardware}{apart} · {osl}"

    @property
    def caption(self) -> str:
        """Model, engine with version, GPUs, date and n, in one line."""
        versions = sorted({p.engine_version for p in self.points if p.engine_version})
        engine = f"{self.engine} {', '.join(versions[:3])}".strip()
        kind = "SIMULATED server · " if self.simulated else ""
        apart = f" · {self.apart}" if self.apart else ""
        return f"{kind}{self.model} · {engine} · {self.hardware}{apart} · {dates(self.points)} · {self.sample}"

    def caption_of(self, point: PointResult) -> str:
        """The caption of a picture of `point` alone."""
        kind = "SIMULATED server · " if point.simulated else ""
        engine = f"{point.engine} {point.engine_version}".strip()
        n = "n not stated" if point.n is None else f"n = {point.n} requests"
        bad = "" if point.shown else " · verdict ERROR: no valid measurement"
        return f"{kind}{point.model} · {engine} · {self.hardware} · {dates([point])} · run {point.run}, {n}{bad}"

    @property
    def sample(self) -> str:
        """How many points there are and how many requests each figure rests on."""
        counts = [point.n for point in self.points if point.n]
        points = f"{len(self.cells)} point{'s' if len(self.cells) != 1 else ''}"
        left = sum(cell.verdict == "open" for cell in self.cells)
        points += f", the verdicts of {left} open" if left else ""
        runs = f" in {len(self.points)} runs" if len(self.points) > len(self.cells) else ""
        if not counts:
            return f"{points}{runs}, n not stated"
        span = str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
        return f"{points}{runs}, n = {span} requests each"

    @property
    def slug(self) -> str:
        """The group's part of a file name."""
        sim = "-sim" if self.simulated else ""
        words = f"{self.short_model}-{self.engine}-{self.gpus or 'x'}gpu-osl{self.osl}{sim}"
        plain = re.sub(r"[^a-z0-9.]+", "-", words.lower()).strip("-.")[:80]
        apart = re.sub(r"[^a-z0-9.]+", "-", self.apart.lower()).strip("-.")
        # long names of configurations are cut: a checksum keeps two of them in two files
        return plain if not apart else f"{plain}-{apart if len(apart) <= 40 else f'{crc32(apart.encode()):08x}'}"


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
    """The groups in `points`, the largest first.

    One group is what results share that are comparable (`group_key`), and one OSL: other
    parallel sizes, another configuration, version or kind of load are another group.
    """
    found: dict[tuple[object, ...], list[PointResult]] = {}
    for point in points:
        found.setdefault((*group_key(point), point.osl), []).append(point)
    several = {
        part: len({word for members in found.values() if (word := _apart(members[0])[part])}) > 1
        for part in ("version", "config")
    }
    words = {id(members): _apart(members[0]) for members in found.values()}
    if any("start staggered" in said["load"] for said in words.values()):
        for members in found.values():  # beside another start the usual one is said too
            load = words[id(members)]["load"]
            if members[0].conc and math.isinf(members[0].request_rate) and "start " not in load:
                words[id(members)]["load"] = ", ".join(filter(None, ("start together", load)))
    if any(said["parallel"] for said in words.values()):
        for members in found.values():  # beside tep8 and dep8 the plain one is said too
            words[id(members)]["parallel"] = parallel_words(members[0].parallel)
    groups = [
        Group(
            first.model,
            first.engine,
            first.gpus,
            first.osl,
            first.simulated,
            tuple(members),
            tuple(cells(members)),
            " · ".join(word for part, word in words[id(members)].items() if word and several.get(part, True)),
        )
        for members in found.values()
        for first in members[:1]
    ]
    return sorted(groups, key=lambda g: (-len(g.cells), g.slug))


def _apart(point: PointResult) -> dict[str, str]:
    """What the title says beside model, engine and GPUs; parallel sizes where they are more than TP over all GPUs."""
    sizes = parallel_words(point.parallel)
    plain = not sizes or sizes == f"tp{point.gpus}"
    config = "" if re.fullmatch(r"tensor_parallel_size=\d+", point.config) else point.config
    return {
        "parallel": "" if plain else sizes,
        "config": config,
        "version": point.engine_version,
        "load": load_words(point),
    }
