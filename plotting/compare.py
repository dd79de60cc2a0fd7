"""Two or more runs against the first: the ratio of each point's figures with its interval, regressions marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from bench_tests.compare.comparable import load_words, server_differences
from bench_tests.figures import figures_where
from bench_tests.results.schema import Results
from bench_tests.sweep.point import number
from plotting.group import Cell, dates, split

__all__ = ["COMPARED", "CompareData", "Place", "Ratio", "compare_data", "ratio_interval"]

#: metric, its name in the picture, and whether more of it is worse
COMPARED = tuple((row.name, row.label, row.better == "down") for row in figures_where(compared=True))
# two-sided 95 % quantiles of Student's t for 1 ... 10 degrees of freedom; beyond that the last is close enough
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True, order=True)
class Place:
    """Which point under which kind of load; `load` is what `load_words` says of it."""

    isl: int
    osl: int
    conc: int
    rate: float
    load: str

    @property
    def words(self) -> str:
        """`ISL 4,096 · OSL 128 · conc 16`, and what sets the load apart."""
        parts = [f"ISL {self.isl:,} · OSL {self.osl:,}"] if self.isl else []
        parts += [f"conc {self.conc}"] if self.conc else [f"{number(self.rate)} req/s"] if self.rate else []
        return " · ".join([*parts, self.load] if self.load else parts)


@dataclass(frozen=True)
class Ratio:
    """One figure of one point of one run over the base run's.

    `state`: `worse` or `better` (beyond the threshold, and the interval excludes 1), `worse?` or `better?` (beyond it,
    but the files hold no interval to test with), `unknown` (beyond it, but the interval holds 1: cannot tell), `same`.
    """

    run: str
    metric: str
    place: Place
    base: float
    value: float
    ratio: float
    interval: tuple[float, float] | None
    state: str


@dataclass(frozen=True)
class CompareData:
    """All ratios, in the order of the points; `points` are the rows; `unmatched` counts points of one run alone."""

    base: str
    runs: tuple[str, ...]
    captions: tuple[str, ...]
    simulated: bool
    threshold: float
    points: tuple[Place, ...]
    ratios: tuple[Ratio, ...]
    unmatched: int

    @property
    def regressions(self) -> int:
        """How many figures are worse, tested by their intervals."""
        return sum(ratio.state == "worse" for ratio in self.ratios)


def compare_data(
    base: Results, others: Sequence[Results], threshold: float = 0.05, *, any_load: bool = False
) -> CompareData:
    """Match the points by ISL, OSL, concurrency and kind of load. Formula: ratio = figure of the run / figure of the base run.

    `any_load`: whatever else sets the loads apart (how streams begin, say); the captions name it.
    A regression needs two conditions: beyond `threshold` (a share, 0.05 = 5 %) and an interval that excludes 1.
    """
    names = _names([base, *others])
    before = _by_place(base, any_load)
    ratios: list[Ratio] = []
    matched: set[Place] = set()
    every = set(before)
    for name, other in zip(names[1:], others, strict=True):
        after = _by_place(other, any_load)
        every |= set(after)
        for place, there in after.items():
            pair = _pair(before.get(place, []), there)
            found = [r for metric in COMPARED if pair and (r := _ratio(name, metric, place, *pair, threshold))]
            matched |= {place} if found else set()
            ratios += found
    ratios.sort(key=lambda r: r.place)
    return CompareData(
        base=names[0],
        runs=tuple(names[1:]),
        captions=tuple(_caption(name, run) for name, run in zip(names, [base, *others], strict=True)),
        simulated=any(point.simulated for run in [base, *others] for point in run.points),
        threshold=threshold,
        points=tuple(sorted(matched)),
        ratios=tuple(ratios),
        unmatched=len(every - matched),
    )


def _by_place(run: Results, any_load: bool) -> dict[Place, list[Cell]]:
    """The cells of each point under each kind of load; more than one where the folder holds several servers."""
    found: dict[Place, list[Cell]] = {}
    for group in split(run.points):
        for cell in group.cells:
            place = Place(cell.isl, cell.osl, cell.conc, cell.rate, "" if any_load else load_words(cell.runs[0]))
            found.setdefault(place, []).append(cell)
    return found


def _pair(before: Sequence[Cell], after: Sequence[Cell]) -> tuple[Cell, Cell] | None:
    """The two cells that are compared: those of one server each, or those of servers that differ in nothing."""
    if len(before) == len(after) == 1:
        return before[0], after[0]
    alike = [(a, b) for a in before for b in after if not server_differences(a.runs[0], b.runs[0])]
    return alike[0] if len(alike) == 1 else None


def _names(runs: Sequence[Results]) -> list[str]:
    """Each folder by its own name, by more of its path where two have the same."""
    paths = [run.folder.absolute() for run in runs]
    short = [path.name for path in paths]
    return [n if short.count(n) == 1 else "/".join(p.parts[-2:]) for n, p in zip(short, paths, strict=True)]


def _caption(name: str, run: Results) -> str:
    models = sorted({point.model for point in run.points})
    engines = sorted({f"{p.engine} {p.engine_version}".strip() for p in run.points})
    gpus = sorted({point.gpus for point in run.points if point.gpus})
    counts = [point.n for point in run.points if point.n]
    hardware = f"{' or '.join(map(str, gpus))} GPU{'s' * (gpus != [1])}" if gpus else "GPUs not stated"
    sample = f"n = {min(counts)} to {max(counts)} requests" if counts else "n not stated"
    loads = sorted({words for point in run.points if (words := load_words(point))})
    what = " · ".join(", ".join(part[:3]) for part in (models, engines, loads) if part)
    return f"{name}: {what} · {hardware} · {dates(run.points)} · {len(run.points)} results, {sample}"


def _figure(cell: Cell, metric: str) -> float | None:
    side = metric.removesuffix("_throughput")
    return cell.throughput(side) if side != metric else cell.metric(metric)


def _ratio(
    run: str, metric: tuple[str, str, bool], place: Place, before: Cell, after: Cell, threshold: float
) -> Ratio | None:
    key, _, more_is_worse = metric
    old, new = _figure(before, key), _figure(after, key)
    if not old or not new:
        return None
    interval = ratio_interval(old, _spread(before, key), new, _spread(after, key))
    ratio = new / old
    beyond = abs(math.log(ratio)) > math.log1p(threshold)
    apart = interval is None or not interval[0] <= 1 <= interval[1]
    state = "unknown" if beyond else "same"
    if beyond and apart:
        state = ("worse" if (ratio > 1) == more_is_worse else "better") + ("?" if interval is None else "")
    return Ratio(run, key, place, old, new, ratio, interval, state)


def _spread(cell: Cell, metric: str) -> tuple[float, float] | None:
    """A 95 % interval: between the runs where the point was repeated, else the file's own within its one run."""
    if len(cell.measured) == 1:
        own = cell.measured[0].intervals.get(metric)
        return own
    side = metric.removesuffix("_throughput")
    logs = [
        math.log(v)
        for run in cell.measured
        if (v := run.throughput(side) if side != metric else run.metrics.get(metric))
    ]
    if len(logs) < 2:
        return None
    half = _T95[min(len(logs) - 1, len(_T95)) - 1] * stdev(logs) / math.sqrt(len(logs))
    return math.exp(fmean(logs) - half), math.exp(fmean(logs) + half)


def ratio_interval(
    old: float, of_old: tuple[float, float] | None, new: float, of_new: tuple[float, float] | None
) -> tuple[float, float] | None:
    """The 95 % interval of new/old from those of both (independent), or None when one of them has none.

    Formula (MOVER, on logarithms): lower = log r − √(log²(new/new_low) + log²(old_high/old)), upper alike.
    """
    if of_old is None or of_new is None:
        return None
    centre = math.log(new / old)
    down = math.hypot(_log(new, of_new[0]), _log(of_old[1], old))
    up = math.hypot(_log(of_new[1], new), _log(old, of_old[0]))
    return math.exp(centre - down), math.exp(centre + up)


def _log(high: float, low: float) -> float:
    """log(high / low), at least 0; infinite where an end is open."""
    return math.inf if high == math.inf or low <= 0 else max(0.0, math.log(high / low))
