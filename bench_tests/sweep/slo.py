"""Service level objectives: which figure of a point must stay within which limit, and which point has which."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench_tests.errors import UsageError
from bench_tests.figures import ECONOMY, FIGURES, LATENCIES, label_of
from bench_tests.sweep.point import AXES, Point
from bench_tests.sweep.units import format_s, parse_duration_s

__all__ = ["MODES", "SECOND", "Goodput", "Objective", "Override", "Slo", "parse_goodput", "parse_objectives"]

MODES = ("point", "confident")
SECOND = 0.4  # of a confident verdict's errors, a second question to the same requests has beside them: 1 % of 2.5 %
PER_REQUEST = ("ttft", "tpot", "e2el", "ttfat")  # what one request has one of
_METRIC = re.compile(rf"(mean|median|p\d{{1,2}}(?:\.\d+)?)_({'|'.join(LATENCIES)})")


def _is_metric(text: str) -> bool:
    if text in ECONOMY:
        return True
    found = _METRIC.fullmatch(text)
    return found is not None and (not found[1].startswith("p") or float(found[1][1:]) > 0)


@dataclass(frozen=True)
class Objective:
    """`metric` (`p99_ttft`) of a point must be at most `limit_s` seconds; a figure of ECONOMY, so many of its own units."""

    metric: str
    limit_s: float

    def __post_init__(self) -> None:
        if not _is_metric(self.metric):
            raise UsageError(
                f"SLO: {self.metric!r} is not a metric; expected e.g. p99_ttft, p99_tpot, p95_itl, median_e2el"
            )

    @property
    def latency(self) -> str:
        """Which latency it speaks of: a name in LATENCIES; "" for a figure of the whole run."""
        return "" if self.metric in ECONOMY else self.metric.rpartition("_")[2]

    @property
    def quantile(self) -> float | None:
        """The quantile in 0 to 1; None for the mean, and for a figure of the whole run."""
        if not self.latency:
            return None
        stat = self.metric.partition("_")[0]
        return None if stat == "mean" else 0.5 if stat == "median" else float(stat[1:]) / 100

    def __str__(self) -> str:
        if not self.latency:
            return f"{label_of(self.metric)} ≤ {self.limit_s:g} {FIGURES[self.metric].unit}".rstrip()
        stat, _, latency = self.metric.partition("_")
        return f"{stat} {LATENCIES[latency].label} ≤ {format_s(self.limit_s)}"


@dataclass(frozen=True)
class Override:
    """Objectives for the points that the selectors name; an empty selector names all. None as a limit removes it."""

    limits_s: Mapping[str, float | None]
    select: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def matches(self, point: Point) -> bool:
        return all(getattr(point, axis) in values for axis, values in self.select.items())


@dataclass(frozen=True)
class Slo:
    """The objectives of a sweep: a default, then overrides in their order, the later one winning."""

    limits_s: Mapping[str, float] = field(default_factory=dict)
    overrides: Sequence[Override] = ()
    mode: str = "point"
    max_requests: int = (
        0  # confident: the load goes on until the verdict is clear, up to so many requests; 0: it doesn't
    )
    level: float = 0.95  # of a verdict that max_requests bounds: 1 less both of its errors
    first: int = 1  # no such verdict before so many requests
    attain: float | None = None  # the share of attempted requests that must be within all their limits; None: not asked

    def __post_init__(self) -> None:
        for metric in [*self.limits_s, *(name for override in self.overrides for name in override.limits_s)]:
            objective = Objective(metric, 0.0)
            if self.max_requests and (objective.quantile is None or objective.latency not in ("ttft", "tpot")):
                raise UsageError(
                    f"slo.max_requests: {metric} cannot be judged request by request; use percentiles of TTFT and TPOT, or "
                    "leave max_requests out"
                )

    def objectives(self, point: Point) -> tuple[Objective, ...]:
        """What holds for this point; empty when it has none."""
        limits: dict[str, float | None] = dict(self.limits_s)
        for override in self.overrides:
            if override.matches(point):
                limits.update(override.limits_s)
        return tuple(Objective(metric, limit) for metric, limit in limits.items() if limit is not None)


@dataclass(frozen=True)
class Goodput:
    """Limits in seconds that one request must keep, all of them, to count as good: `{"ttft": 2.0}`."""

    limits_s: Mapping[str, float]


def parse_objectives(text: str, where: str = "--slo") -> dict[str, float]:
    """Read `p99_ttft<=2s,p99_tpot<=50ms` into metric → seconds; `none` is no objective at all."""
    if text.strip().lower() == "none":
        return {}
    limits: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        metric, sign, limit = part.partition("<=")
        if not sign:
            raise UsageError(f"{where}: {part!r}: expected METRIC<=LIMIT such as p99_ttft<=2s,p99_tpot<=50ms")
        objective = Objective(metric.strip(), _limit(metric.strip(), limit, f"{where} {metric.strip()}"))
        if objective.metric in limits:
            raise UsageError(f"{where}: {objective.metric} is given twice; keep one")
        limits[objective.metric] = objective.limit_s
    if not limits:
        raise UsageError(f"{where}: {text!r} names no objective; expected e.g. p99_ttft<=2s, or none")
    return limits


def parse_goodput(text: str, where: str = "--goodput") -> Goodput:
    """Read `ttft:2s tpot:50ms e2el:10s`."""
    limits: dict[str, float] = {}
    for part in text.replace(",", " ").split():
        name, sign, limit = part.partition(":")
        if not sign or name not in PER_REQUEST:
            raise UsageError(
                f"{where}: {part!r}: expected LATENCY:LIMIT such as ttft:2s; latencies: {' '.join(PER_REQUEST)}"
            )
        limits[name] = _with_unit(limit, f"{where} {name}")
    if not limits:
        raise UsageError(f"{where}: {text!r} names no limit; expected e.g. ttft:2s tpot:50ms e2el:10s")
    return Goodput(limits)


def _with_unit(limit: str, where: str) -> float:
    """Seconds of a limit in words. `2000` is 2,000 s to one reader and 2 s to another: it is not guessed."""
    seconds = parse_duration_s(limit, where)
    if limit.strip()[-1].isdigit() or limit.strip().endswith("."):
        raise UsageError(f"{where}: {limit.strip()!r} has no unit; expected e.g. {limit.strip()}ms or {limit.strip()}s")
    return seconds


def _limit(metric: str, text: str, where: str) -> float:
    """A limit on the command line: a duration with its unit; of a figure of ECONOMY a number, with its unit or without."""
    return _amount(metric, text, where) if metric in ECONOMY else _with_unit(text, where)


def _of_table(metric: str, value: object, where: str) -> float:
    return _amount(metric, value, where) if metric in ECONOMY else parse_duration_s(value, where)


def _amount(metric: str, value: object, where: str) -> float:
    text = value.strip().removesuffix(FIGURES[metric].unit or "\0").strip() if isinstance(value, str) else value
    try:
        number = math.nan if isinstance(text, bool) else float(text)  # type: ignore[arg-type]  # what it refuses is told
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        unit = FIGURES[metric].unit
        raise UsageError(
            f"{where}: {value!r}; expected a number above 0{f', in {unit}' if unit else ''}, such as 0.9{unit}"
        )
    return number


def parse_slo_table(table: Mapping[str, Any], where: str) -> Slo:
    """Read a profile's [slo] table: `mode`, metric = limit, and [[slo.override]] with isl/osl/conc selectors."""
    mode = table.get("mode", "point")
    if mode not in MODES:
        raise UsageError(f"{where} slo.mode: {mode!r}; expected one of {', '.join(MODES)}")
    budget = table.get("max_requests", 0)
    if type(budget) is not int or budget < 0:
        raise UsageError(f"{where} slo.max_requests: {budget!r}; expected a whole number, 0 for none")
    if budget and mode != "confident":
        raise UsageError(
            f"{where} slo.max_requests: {budget} needs mode = 'confident': only that can end early or go on"
        )
    own = ("mode", "max_requests", "override")
    limits = {k: v for k, v in _limits(table, f"{where} slo", own).items() if v is not None}
    overrides = []
    entries = table.get("override", [])
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise UsageError(f"{where} slo.override: expected tables of the form [[slo.override]]")
    for number, entry in enumerate(entries, 1):
        here = f"{where} slo.override {number}"
        select = {}
        for axis in AXES:
            if axis in entry:
                values = entry[axis] if isinstance(entry[axis], list) else [entry[axis]]
                if not all(type(v) is int and v > 0 for v in values):
                    raise UsageError(
                        f"{here} {axis}: {entry[axis]!r}; expected a whole number above 0, or a list of them"
                    )
                select[axis] = tuple(values)
        overrides.append(Override(_limits(entry, here, AXES), select))
    try:
        return Slo(limits, tuple(overrides), mode, budget)
    except UsageError as why:
        raise UsageError(f"{where} {why}") from None


def _limits(table: Mapping[str, Any], where: str, others: Sequence[str]) -> dict[str, float | None]:
    limits: dict[str, float | None] = {}
    for key, value in table.items():
        if key in others:
            continue
        if not _is_metric(key):
            raise UsageError(f"{where}: unknown key {key!r}; expected {', '.join(others)} or a metric such as p99_ttft")
        limits[key] = None if value == "none" else _of_table(key, value, f"{where} {key}")
    return limits
