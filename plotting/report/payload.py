"""Everything that a report shows, as one JSON object; the page builds itself from it with text nodes alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bench_tests.errors import UsageError
from bench_tests.figures import ECONOMY
from bench_tests.results.schema import PointResult, Results
from plotting.compare import compare_data
from plotting.distribution import distribution_data
from plotting.group import split
from plotting.raw_records import load_records
from plotting.report import words
from plotting.report.advice import advice, story
from plotting.report.charts import compare_chart, group_charts
from plotting.timeline import timeline_data

__all__ = ["as_json", "payload"]

# A report is at most 6 MB, 1.6 of them the library and the page: bytes for the rest, in the order of what goes first.
_ROOM = 3_900_000
_TABLE_ROOM = 1_500_000
_CHART_ROOM = 1_200_000
_COMPARE_ROOM = 400_000
_STEPS = 80


def payload(
    runs: Sequence[Results],
    tiers: Mapping[str, Sequence[float]] | None,
    source: str,
    threshold: float,
    against: Sequence[str] = (),
    any_load: bool = False,
) -> dict[str, Any]:
    """The report's data. The first of `runs` is the base of the comparison when there are several.

    `against`: what a session's comparison with its baseline says, a line each.
    """
    names = _names(runs)
    notes: list[str] = []
    points = [(at, point) for at, run in enumerate(runs) for point in run.points]
    # what went wrong is listed first where not everything fits
    table, kept = _table(sorted(points, key=lambda p: _URGENT.get(p[1].verdict or "", 2)), points, notes)
    index = {id(point): place for place, point in enumerate(kept)}
    groups: list[dict[str, Any]] = []
    room = _ROOM - sum(map(_bytes, table))
    charts = _CHART_ROOM
    for at, run in enumerate(runs):
        for group in split(run.points):
            one = {
                "run": at,
                "title": group.title,
                "caption": group.caption,
                "simulated": group.simulated,
                "charts": group_charts(group, index, tiers),
            }
            charts -= _bytes(one)
            if charts > 0:
                groups.append(one)
            else:
                notes.append(f"No charts of {group.title}: the report would grow beyond 6 MB; draw it as pictures.")
    room -= sum(map(_bytes, groups))
    room -= _add_curves(table, kept, notes, room // 2)
    _add_raw(table, kept, notes, room)
    compared = compare_data(runs[0], runs[1:], threshold, any_load=any_load) if len(runs) > 1 else None
    comparison = compare_chart(compared) if compared and compared.ratios else None
    if comparison and _bytes(comparison) > _COMPARE_ROOM:
        comparison = None
        notes.append("No chart of the comparison: the report would grow beyond 6 MB; draw it as a picture.")
    return {
        "runs": names,
        "captions": list(compared.captions) if compared else [],
        "source": source,
        "simulated": any(point.simulated for _, point in points),
        "groups": groups,
        "columns": words.columns([point for _, point in points]),
        "labels": words.labels([point for _, point in points]),
        "decisions": words.decisions(runs, tiers),
        "rate": _rate_unit([point for _, point in points]),
        "compare": comparison,
        "points": table,
        "leftOut": [{"file": str(left.path.name), "reason": left.reason} for run in runs for left in run.left_out][
            :500
        ],
        "notes": notes,
        "against": list(against),
    }


def _rate_unit(points: Sequence[PointResult]) -> str:
    """Throughputs are per GPU where the GPUs are known, else of the whole server."""
    known = {bool(point.gpus or point.per_gpu) for point in points}
    return (
        "tok/s/GPU"
        if known == {True}
        else "tok/s"
        if known == {False}
        else "tok/s/GPU (tok/s where GPUs are not stated)"
    )


_URGENT = {"ERROR": 0, "FAILED": 1}


def _bytes(part: Any) -> int:
    return len(as_json(part).encode())


def _table(
    urgent_first: Sequence[tuple[int, PointResult]], points: Sequence[tuple[int, PointResult]], notes: list[str]
) -> tuple[list[dict[str, Any]], list[PointResult]]:
    """The rows that fit, in the order of `points`, and the points that they show."""
    room = _TABLE_ROOM
    rows: dict[int, dict[str, Any]] = {}
    for at, point in urgent_first:
        row = _row(at, point)
        room -= _bytes(row)
        if room < 0:
            notes.append(f"{len(points) - len(rows)} of {len(points)} results are not listed: beyond 6 MB.")
            break
        rows[id(point)] = row
    kept = [point for _, point in points if id(point) in rows]
    return [rows[id(point)] for point in kept], kept


def _names(runs: Sequence[Results]) -> list[str]:
    names = [run.folder.absolute().name for run in runs]
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]


def _row(run: int, point: PointResult) -> dict[str, Any]:
    """One row of the verdict table and the head of its section. Times in seconds."""
    failed = point.raw.get("failed")
    return {
        "run": run,
        "id": point.point_id,
        "isl": point.isl or None,
        "osl": point.osl or None,
        "conc": point.conc or None,
        "rep": point.run,
        "verdict": "open" if point.open else point.verdict or ("measured" if point.measured else "ERROR"),
        "n": point.n,
        "failed": failed if isinstance(failed, int) else None,
        "file": point.source.name,
        "date": point.date,
        "model": point.model,
        "engine": f"{point.engine} {point.engine_version}".strip(),
        "gpus": point.gpus,
        "simulated": point.simulated,
        "messages": list(point.messages),
        "advice": advice(point),
        "story": story(point),
        "checks": words.checks(point),
        "notMade": words.not_made(point),
        "waves": _waves(point),
        "metrics": {k: _short(v) for k, v in point.metrics.items() if k not in ECONOMY} if point.shown else {},
        "intervals": {k: [_short(low), _short(high)] for k, (low, high) in point.intervals.items()},
        "slo": [[o.metric, o.limit_s] for o in point.slo],
        "input": _short(point.throughput("input")) if point.shown else None,
        "output": _short(point.throughput("output")) if point.shown else None,
    }


def _waves(point: PointResult) -> str:
    """What the result says of its waves: the in-step figure and the share of the start burst; "" in an open loop."""
    step, burst = point.raw.get("in_step"), point.raw.get("start_burst_share")
    said = [f"{step:.0%} in step"] if isinstance(step, float) and point.conc > 1 else []
    said += [f"start burst {burst:.0%} of requests"] if isinstance(burst, float) and burst else []
    return ", ".join(said).replace("%", " %")


def _short(value: float | None) -> float | None:
    """Five significant digits: more than any measurement here has."""
    return None if value is None or value == float("inf") else float(f"{value:.5g}")


_SHOWN = (
    "server", "client", "settings", "validity", "calibration", "errors", "steady_state", "goodput", "server_side", "power",
    "cost",
)  # fmt: skip


def _add_raw(table: list[dict[str, Any]], points: Sequence[PointResult], notes: list[str], room: int) -> None:
    """The rest of each file, in parts; metrics that the table shows are not repeated."""
    left = room
    dropped = 0
    for row, point in zip(table, points, strict=True):
        parts: dict[str, Any] = {name: point.raw[name] for name in _SHOWN if point.raw.get(name) not in (None, {}, [])}
        seen = {*_SHOWN, *point.metrics, "messages", "ci95", "slo", "verdict", "date", "model_id", "point", "run"}
        parts["settings"] = {
            **(parts["settings"] if isinstance(parts.get("settings"), dict) else {}),
            **{k: v for k, v in point.raw.items() if k not in seen and v is not None and not k.endswith("_ms")},
        }
        parts = _without_secrets(parts)
        left -= _bytes(parts)
        row["raw"] = parts if left > 0 else {}
        dropped += left <= 0
    if dropped:
        notes.append(f"Raw settings of {dropped} results are not in this report, which would grow beyond 6 MB.")


_SECRET = re.compile(r"(?i)^(api[-_]?key|authorization|password|secret)$")


def _without_secrets(value: Any) -> Any:
    """A report is passed on: keys are masked even where a foreign result file holds one."""
    if isinstance(value, dict):
        return {k: "***" if _SECRET.match(str(k)) and v else _without_secrets(v) for k, v in value.items()}
    return [_without_secrets(v) for v in value] if isinstance(value, list) else value


def _add_curves(table: list[dict[str, Any]], points: Sequence[PointResult], notes: list[str], room: int) -> int:
    """Distribution and timeline of each point that has records, thinned to a screen's steps; returns their bytes."""
    left, dropped = room, 0
    for row, point in zip(table, points, strict=True):
        if point.records is None:
            continue
        if left <= 0:
            dropped += 1
            continue
        try:
            records = load_records(point.records)
        except UsageError as why:
            notes.append(str(why))
            continue
        row["curves"] = _curves(point, records)
        left -= _bytes(row["curves"])
    if dropped:
        notes.append(f"The distributions of {dropped} results are not in this report, which would grow beyond 6 MB.")
    return room - left


def _curves(point: PointResult, records: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"distribution": []}
    for curve in distribution_data(point, records, "", "").curves:
        step = max(1, len(curve.x) // _STEPS)
        keep = [*range(0, len(curve.x) - 1, step), len(curve.x) - 1]
        found["distribution"].append(
            {
                "metric": curve.metric.upper(),
                "n": curve.n,
                "x": [_short(curve.x[i]) for i in keep],
                "share": [_short(curve.share[i]) for i in keep],
                "p50": _short(curve.p50),
                "p99": _short(curve.p99),
            }
        )
    line = timeline_data(point, records, "", "")
    if line:
        step = max(1, len(line.running) // 160)
        found["timeline"] = {
            "t": [_short(t) for t in line.running_t[::step]],
            "running": line.running[::step],
            "bin": _short(line.bin_s),
            "at": [_short(t + line.bin_s / 2) for t in line.bin_start],
            "arrivals": line.arrivals,
            "tokens": [_short(t) for t in line.tok_per_s],
            "inStep": [_short(r) for r in line.in_step],
            "independent": _short(line.conc**-0.5) if line.conc else None,
            "waves": line.waves,
            "phases": [[p.name, _short(p.start_s), _short(p.end_s)] for p in line.phases],
        }
    return found


def as_json(data: Any) -> str:
    """JSON that cannot end the script element that holds it, nor be anything but JSON in it."""
    text = json.dumps(_finite(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)
    # a lone surrogate from a hostile file cannot be written as UTF-8
    text = text.encode("utf-8", "replace").decode()
    for character, escape in (
        ("<", "\\u003c"),
        (">", "\\u003e"),
        ("&", "\\u0026"),
        ("\u2028", "\\u2028"),
        ("\u2029", "\\u2029"),
    ):
        text = text.replace(character, escape)
    return text


def _finite(value: Any) -> Any:
    """NaN and the infinities as words: JSON has none, and a file may hold them."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value
