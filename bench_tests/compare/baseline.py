"""A sweep against an earlier one: which results compare, and what the comparison says. Knows results and the verdicts."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench_tests.compare.regression import Change, PointRuns, RunSample, SweepComparison, compare_sweeps
from bench_tests.compare.samples import sample_of_records, sample_of_summary
from bench_tests.errors import NotMeasured, UsageError
from bench_tests.load.records import Records
from bench_tests.results.files import read_results, same_measurement
from bench_tests.sweep.point import Point
from bench_tests.sweep.units import format_s

__all__ = ["Baseline", "change_line", "compare", "point_of", "read_baseline", "save_baseline"]


@dataclass(frozen=True)
class Baseline:
    """The valid results of earlier runs, by point; what could not be used is named with its reason."""

    folder: Path
    results: dict[Point, list[tuple[Path, dict[str, Any]]]]
    left_out: list[str] = field(default_factory=list)


def point_of(result: Mapping[str, Any]) -> Point | None:
    """The point of a result; older files do not name it, then it follows from their totals."""
    named = result.get("point")
    try:
        if isinstance(named, Mapping):
            return Point(int(named["isl"]), int(named["osl"]), int(named["conc"]))
        completed = int(result["completed"])
        isl = round(float(result["total_input_tokens"]) / completed)
        return Point(isl, round(float(result["total_output_tokens"]) / completed), int(result["max_concurrency"]))
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError, UsageError):
        return None


def read_baseline(folder: Path) -> Baseline:
    """Read a folder of results, and its folders: one run or several. Raises UsageError when nothing can be used."""
    found: dict[Point, list[tuple[Path, dict[str, Any]]]] = {}
    left_out = []
    if not folder.is_dir():
        raise UsageError(f"--baseline {folder}: no such folder; keep one with --save-baseline {folder}")
    for place in [
        folder,
        *sorted(p for p in folder.iterdir() if p.is_dir() and p.name not in ("records", "plots", "logs")),
    ]:
        for path, result in read_results(place):
            if isinstance(result, UsageError):
                left_out.append(str(result))
                continue
            point = point_of(result)
            if point is None:
                left_out.append(f"{path}: it names no point")
            elif result.get("verdict") == "ERROR" or not result.get("completed"):
                left_out.append(f"{path}: it was not measured")
            else:
                found.setdefault(point, []).append((path, result))
    if not found:
        raise UsageError(f"--baseline {folder}: no result to compare with; keep one with --save-baseline {folder}")
    return Baseline(folder, found, left_out)


def save_baseline(folder: Path, paths: Iterable[Path]) -> int:
    """Copy results with their records into `folder`; returns how many. Raises NotMeasured when it cannot be written."""
    count = 0
    try:
        (folder / "records").mkdir(parents=True, exist_ok=True)
        for path in paths:
            records = path.parent / "records" / f"{path.stem}.npz"
            if records.exists():
                shutil.copy2(records, folder / "records" / records.name)
            shutil.copy2(path, folder / path.name)
            count += 1
    except OSError as why:
        raise NotMeasured(f"--save-baseline {folder}: {why.strerror}") from why
    return count


def compare(
    measured: Sequence[tuple[Path, Mapping[str, Any]]], baseline: Baseline, *, allow_different: bool
) -> tuple[SweepComparison, dict[Point, list[str]]]:
    """Compare results with a baseline, point by point and as a whole.

    Kept runs of another model, engine version, GPU count or settings don't count where others of the same are kept. Where
    none is, the point is named with the differences, and left out of the comparison unless `allow_different`.
    """
    now: dict[Point, list[RunSample]] = {}
    then: dict[Point, list[RunSample]] = {}
    different: dict[Point, list[str]] = {}
    passed_over: dict[str, None] = {}
    for path, result in measured:
        point = point_of(result)
        if point is None or result.get("verdict") == "ERROR":
            continue
        earlier = baseline.results.get(point, [])
        differences = [_differences(result, other) for _, other in earlier]
        names = sorted({name for found in differences for name in found})
        if earlier and all(differences):
            different[point] = names
            if not allow_different:
                continue
        elif names:  # after an upgrade: what was kept of the old version may stay where it is
            earlier = [entry for entry, found in zip(earlier, differences, strict=True) if not found]
            passed_over |= dict.fromkeys(names)
        now.setdefault(point, []).append(_sample(path, result))
        if point not in then:
            then[point] = [_sample(*entry) for entry in earlier]
    for point, entries in baseline.results.items():
        if point not in now and point not in different:
            then[point] = [_sample(*entry) for entry in entries]
    ours = [PointRuns(point, runs) for point, runs in now.items()]
    theirs = [PointRuns(point, runs) for point, runs in then.items() if runs]
    found = compare_sweeps(ours, theirs)
    if passed_over:
        words = f"kept runs that differ in {'; '.join(passed_over)} were passed over: others are of the same"
        found = replace(found, notes=(*found.notes, words))
    return found, different


def _differences(result: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    differences = same_measurement(other, result)
    if "server" not in other and other.get("model_id") != result.get("model_id"):
        differences.append(f"model: {other.get('model_id')!r} and {result.get('model_id')!r}")
    if "settings" not in other:  # an older file: what it says of its settings
        for key in ("num_prompts", "request_rate", "burstiness"):
            if key in other and other[key] != result.get(key):
                differences.append(f"{key}: {other[key]!r} and {result.get(key)!r}")
    return differences


def _sample(path: Path, result: Mapping[str, Any]) -> RunSample:
    """The requests of a run where its records are there and inside of its folder, else its summary figures."""
    named = result.get("records")
    if isinstance(named, str):
        file = (path.parent / named).resolve()
        if file.is_relative_to(path.parent.resolve()) and file.exists():
            try:
                closed = result.get("request_rate") in ("inf", None)
                return sample_of_records(Records.load(file), int(result.get("max_concurrency", 1)) if closed else 1)
            except UsageError:
                pass  # the summary is there all the same
    return sample_of_summary(result)


def change_line(change: Change) -> str:
    """`p99 TTFT 1.20 s → 1.62 s (+35 %, 95 % CI +28 to +43 %, p 0.001 after correction)`."""

    def percent(ratio: float) -> str:
        return f"{(ratio - 1) * 100:+.1f}"

    name = change.metric.replace("_", " ").replace("ttft", "TTFT").replace("tpot", "TPOT")
    if change.point is None:
        values = "over the whole sweep "
    elif change.metric.endswith("throughput"):
        values = f"{change.baseline:,.0f} → {change.current:,.0f} tok/s "
    else:
        values = f"{format_s(change.baseline)} → {format_s(change.current)} "
    weak = f", {change.rule}" if change.weak else ""
    return (
        f"{name} {values}({percent(change.ratio)} %, 95 % CI {percent(change.low)} to {percent(change.high)} %, "
        f"p {change.p_holm:.2g} after correction{weak})"
    )
