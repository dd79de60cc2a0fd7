"""What a report says in words: the checks of a point with their figures rounded, and the decision between configurations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from bench_tests.figures import ECONOMY, FIGURES, figures_where
from bench_tests.results.schema import PointResult, Results
from plotting import style
from plotting.configs import families
from plotting.decision import DECISION_COLUMNS, decide, decision_rows

__all__ = ["checks", "columns", "decisions", "labels", "not_made"]

#: checks whose limit is the least that is allowed
_AT_LEAST = frozenset({"concurrency", "request_rate", "requests_for_p99", "server_ttft"})
_OPEN_LOOP = ("p99_ttft_from_schedule", "p99_e2el_from_schedule")
_MOST_ROWS = 60


def checks(point: PointResult) -> list[list[str]]:
    """Each check: its name, `200 µs ≤ 2 ms`, what came of it, and what it says.

    `note`: the figure is beyond its limit, which this point is not judged by.
    """
    found = []
    for check in _listed(point, "checks"):
        ok = check.get("ok")
        figure = _figure(check)
        beyond = " > " in figure or " < " in figure
        passed = "NO" if ok is False else "" if ok is not True else "note" if beyond else "yes"
        found.append([_text(check.get("name")), figure, passed, _text(check.get("text"))])
    return found


def not_made(point: PointResult) -> list[list[str]]:
    """Each check that could not be made: its name, and why."""
    return [[_text(check.get("name")), _text(check.get("why"))] for check in _listed(point, "not_made")]


def _listed(point: PointResult, key: str) -> list[Mapping[str, Any]]:
    validity = point.raw.get("validity")
    listed = validity.get(key) if isinstance(validity, Mapping) else None
    return [entry for entry in listed if isinstance(entry, Mapping)] if isinstance(listed, list) else []


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)


def _figure(check: Mapping[str, Any]) -> str:
    figure, limit, unit = check.get("figure"), check.get("limit"), _text(check.get("unit"))
    if not _is_number(figure):
        return _text(figure)
    said = _rounded(figure, unit)
    if not _is_number(limit):
        return said
    at_least = check.get("name") in _AT_LEAST
    held = figure >= limit if at_least else figure <= limit
    sign = ("≥" if at_least else "≤") if held else ("<" if at_least else ">")
    return f"{said} {sign} {_rounded(limit, unit)}"


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _rounded(value: float, unit: str) -> str:
    if unit == "s":
        return ("−" if value < 0 else "") + style.seconds(abs(value)) if value else "0 s"
    if unit == "share":
        return f"{100 * value:.3g} %"
    return f"{style.amount(value)} {unit}".rstrip()


# --- figures
def columns(points: Sequence[PointResult]) -> list[dict[str, str]]:
    """The figures that the table of verdicts shows: those that any point holds, goodput and the open loop's among them."""
    there = {name for point in points for name in point.metrics}
    rows = [f for f in figures_where(of="request", column=True) if f.name in there or not f.name.endswith("_ttfat")]
    found = [{"key": f.name, "name": f.column, "unit": f.unit} for f in rows]
    found += [
        {"key": name, "name": FIGURES[name].label.removeprefix("p99 ") + " p99", "unit": "s"}
        for name in _OPEN_LOOP
        if name in there
    ]
    if "request_goodput" in there:
        found.append({"key": "request_goodput", "name": "goodput req/s", "unit": "req/s"})
    return found


def labels(points: Sequence[PointResult]) -> dict[str, list[str]]:
    """For each figure that any point holds: what it is called, and its unit."""
    there = {name for point in points for name in point.metrics} - set(ECONOMY)
    return {name: [FIGURES[name].label, FIGURES[name].unit] for name in sorted(there) if name in FIGURES}


# --- which configuration
def decisions(runs: Sequence[Results], tiers: Mapping[str, Sequence[float]] | None) -> list[dict[str, Any]]:
    """A table for each run and load with several configurations: for this SLO, take that one."""
    found = []
    for at, run in enumerate(runs):
        for family in families(run.points):
            if len(family.configs) < 2 or not any(family.isls):
                continue
            data = decide(family, tiers)
            rows = decision_rows(data)
            kept = [i for i in range(len(DECISION_COLUMNS)) if any(row[i] for row in rows)]
            limits = (
                f"{data.points} points of {len(family.configs)} configurations; {data.limits_from}. {family.silent}"
            )
            more = f" The first {_MOST_ROWS} of {len(rows)} rows." if len(rows) > _MOST_ROWS else ""
            found.append(
                {
                    "run": at,
                    "title": family.title,
                    "note": limits + more,
                    "columns": [DECISION_COLUMNS[i] for i in kept],
                    "rows": [[row[i] for i in kept] for row in rows[:_MOST_ROWS]],
                    "starts": [[config.name, config.start] for config in family.configs if config.start],
                }
            )
    return found
