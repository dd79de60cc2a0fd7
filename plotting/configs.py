"""Which configuration to take: every configuration of one load held against the others, by the same limits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bench_tests.compare.comparable import load_words
from bench_tests.results.names import parallel_words
from bench_tests.results.schema import PointResult
from plotting.group import Cell, Group, dates, split

__all__ = [
    "MEASURES", "Config", "Family", "Hull", "Measure", "families", "frontier_of", "hull_data",
]  # fmt: skip


@dataclass(frozen=True)
class Config:
    """One configuration: its name among the others of its family, and its points."""

    name: str
    group: Group

    @property
    def start(self) -> str:
        """`load 41 s, compile 12 s, ready 71 s`, each the longest of its starts; "" where it was not measured."""
        longest: dict[str, float] = {}
        for point in self.group.points:
            for part, took in point.start_s.items():
                longest[part] = max(took, longest.get(part, 0.0))
        return ", ".join(f"{part} {longest[part]:,.3g} s" for part in ("load", "compile", "ready") if part in longest)


@dataclass(frozen=True)
class Family:
    """Configurations under the same kind of load and with one OSL, in the order of their names."""

    osl: int
    load: str
    simulated: bool
    configs: tuple[Config, ...]

    @property
    def isls(self) -> tuple[int, ...]:
        """The input lengths that any of them was measured with."""
        return tuple(sorted({cell.isl for config in self.configs for cell in config.group.cells}))

    @property
    def title(self) -> str:
        """The OSL, and what sets the load apart."""
        return " · ".join(filter(None, (f"OSL {self.osl:,}" if self.osl else "", self.load)))

    @property
    def per_gpu(self) -> bool:
        """Whether throughputs are per GPU: every configuration says its GPUs."""
        return all(config.group.gpus is not None for config in self.configs)

    @property
    def slug(self) -> str:
        """The family's part of a file name."""
        words = f"osl{self.osl}{'-sim' if self.simulated else ''}-{self.load}".lower()
        return "".join(c if c.isalnum() else "-" for c in words).strip("-")

    @property
    def silent(self) -> str:
        """`Nothing was measured of tp1.`, where a configuration did not start, say; "" else."""
        names = [c.name for c in self.configs if not any(cell.measured for cell in c.group.cells)]
        return f"Nothing was measured of {', '.join(names)}." if names else ""

    def caption(self) -> str:
        """What is compared: models, engines, dates and how many points."""
        points = [point for config in self.configs for point in config.group.points]
        models = sorted({point.model for point in points})
        engines = sorted({f"{point.engine} {point.engine_version}".strip() for point in points})
        gpus = sorted({config.group.gpus for config in self.configs if config.group.gpus})
        hardware = f"{' or '.join(map(str, gpus))} GPU{'s' * (gpus != [1])}" if gpus else "GPUs not stated"
        return f"{', '.join(models[:4])} · {', '.join(engines[:4])} · {hardware} · {dates(points)}"


def families(points: Iterable[PointResult]) -> list[Family]:
    """The groups of `points` by load, OSL and whether they are simulated; the one with most configurations first."""
    found: dict[tuple[int, str, bool], list[Group]] = {}
    for group in split(points):
        found.setdefault((group.osl, load_words(group.points[0]), group.simulated), []).append(group)
    made = [
        Family(osl, load, simulated, tuple(sorted(map(Config, _names(groups), groups), key=lambda c: _natural(c.name))))
        for (osl, load, simulated), groups in found.items()
    ]
    return sorted(made, key=lambda f: (-len(f.configs), f.osl, f.load))


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """tp4 before tp16."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name) if part)


def _names(groups: Sequence[Group]) -> list[str]:
    """What sets each apart from the others, and no more: model, engine, configuration or parallel sizes, version."""
    parts: list[Callable[[Group], str]] = [
        lambda g: g.short_model,
        lambda g: g.engine,
        lambda g: g.points[0].config or parallel_words(g.points[0].parallel).replace(" ", "-"),
        lambda g: g.points[0].engine_version,
        lambda g: g.hardware,
    ]
    names = [""] * len(groups)
    for part in parts:
        words = [part(group) for group in groups]
        if len(set(words)) > 1 and len(set(names)) < len(groups):
            names = [" ".join(filter(None, pair)) for pair in zip(names, words, strict=True)]
    if len(groups) == 1:
        return [parts[2](groups[0]) or groups[0].short_model]
    return [name or f"configuration {at + 1}" for at, name in enumerate(names)]


# --- throughput against interactivity
@dataclass(frozen=True)
class Measure:
    """What stands on the y axis of the Pareto: its part of a file name, its label, and the figure of a cell."""

    slug: str
    label: str
    of: Callable[[Cell], float | None]


def _total(cell: Cell) -> float | None:
    into, out = cell.throughput("input"), cell.throughput("output")
    return None if into is None or out is None else into + out


def _per_megawatt(cell: Cell) -> float | None:
    joules = cell.metric("j_per_output_token")
    return 1e6 / joules if joules else None


def _per_currency(cell: Cell) -> float | None:
    cost = cell.metric("cost_per_million_output")
    return 1e6 / cost if cost else None


#: joules a token is watts over tokens per second, so that a million of them are a megawatt's tokens per second
MEASURES = (
    Measure("", "output throughput per GPU (tok/s/GPU)", lambda cell: cell.throughput("output")),
    Measure("-total", "input + output throughput per GPU (tok/s/GPU)", _total),
    Measure("-power", "output tokens per second per MW", _per_megawatt),
    Measure("-cost", "output tokens per unit of money", _per_currency),
)


@dataclass(frozen=True)
class Hull:
    """One ISL: `lines[i]` is (x interactivity, y measure, load) by load of the i-th name; `best` are the frontier's places."""

    title: str
    measure: Measure
    isl: int
    names: tuple[str, ...]
    lines: tuple[tuple[tuple[float, float, str], ...], ...]
    best: frozenset[tuple[int, int]]
    per_gpu: bool


def frontier_of(points: Sequence[tuple[float, float]]) -> list[int]:
    """The places of the points that no other beats in both: higher interactivity and higher throughput; by rising x."""
    found: list[int] = []
    top = float("-inf")
    for at in sorted(range(len(points)), key=lambda i: (-points[i][0], -points[i][1])):
        if points[at][1] > top:
            found.append(at)
            top = points[at][1]
    return found[::-1]


def hull_data(family: Family, isl: int, measure: Measure = MEASURES[0]) -> Hull | None:
    """Formula: interactivity = 1 / median TPOT. None where no point has both figures."""
    lines = []
    for config in family.configs:
        lines.append(
            tuple(
                (1 / tpot, y, cell.load)
                for cell in config.group.cells
                if cell.isl == isl and (tpot := cell.metric("median_tpot")) and (y := measure.of(cell)) is not None
            )
        )
    places = [(i, j) for i, line in enumerate(lines) for j in range(len(line))]
    if not places:
        return None
    best = frozenset(places[at] for at in frontier_of([lines[i][j][:2] for i, j in places]))
    names = tuple(config.name for config in family.configs)
    return Hull(family.title, measure, isl, names, tuple(lines), best, family.per_gpu)
