"""A sweep against an earlier one: which results compare, and what the comparison says."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench_tests.compare.comparable import differences
from bench_tests.compare.origin import origin_of
from bench_tests.compare.regression import PointRuns, RunSample, SweepComparison, compare_sweeps
from bench_tests.compare.samples import sample_of_records, sample_of_summary
from bench_tests.compare.sessions import latest_sessions
from bench_tests.errors import NotMeasured, UsageError
from bench_tests.load.records import Records
from bench_tests.results.read import as_read, read_folder
from bench_tests.results.schema import PointResult
from bench_tests.sweep.point import Point
from bench_tests.sweep.settings import Regression
from bench_tests.verdict.checks.arrivals import MOVED

__all__ = ["Baseline", "Entry", "compare", "read_baseline", "sample_of", "save_baseline"]


@dataclass(frozen=True)
class Entry:
    """One earlier run: its result, and what a comparison needs of its requests, taken when it was read."""

    result: PointResult
    sample: RunSample


@dataclass(frozen=True)
class Baseline:
    """The valid results of earlier runs, by point; what could not be used is named with its reason."""

    folder: Path
    results: dict[Point, list[Entry]]
    left_out: list[str] = field(default_factory=list)


def read_baseline(folder: Path, places: Sequence[Path] | None = None, figures: Sequence[str] = ()) -> Baseline:
    """Read a folder of results, and its folders: one run or several. Raises UsageError when nothing can be used.

    `figures`: those that are compared; a result whose own checks say that they are not the server's is left out.
    `places`: the folders that are read instead, of a history. Everything is taken now: what this session writes into the same folder afterwards is not in it.
    """
    found: dict[Point, list[Entry]] = {}
    left_out: list[str] = []
    hint = f"keep one with --save-baseline {folder}"
    if not folder.is_dir():
        raise UsageError(f"--baseline {folder}: {'not a' if folder.exists() else 'no such'} folder; {hint}")
    try:
        below = sorted(p for p in folder.iterdir() if p.is_dir() and p.name not in ("records", "plots", "logs"))
    except OSError as why:
        raise UsageError(f"--baseline {folder}: {why.strerror}; name a folder that can be read") from why
    for place in [folder, *below] if places is None else places:
        results = latest_sessions(read_folder(place, "--baseline", below=False))
        left_out += [f"{left.path}: {left.reason}" for left in results.left_out]
        for result in results.points:
            if gathered := _gathered(result, figures):
                left_out.append(f"{result.source}: {gathered}")
            elif result.measured:
                found.setdefault(result.case, []).append(Entry(result, sample_of(result)))
            else:
                left_out.append(f"{result.source}: it was {'left open' if result.open else 'not measured'}")
    if not found:
        first = f" ({left_out[0]})" if left_out else ""
        raise UsageError(f"--baseline {folder}: no result to compare with{first}; {hint}")
    return Baseline(folder, found, left_out)


def _gathered(result: PointResult, figures: Sequence[str]) -> str:
    """Why these figures of it are not the server's, where its own checks say so as a note; "" where they are."""
    latencies = {figure.rpartition("_")[2] for figure in figures}
    validity = result.raw.get("validity")
    listed = validity.get("checks") if isinstance(validity, Mapping) else None
    for check in listed if isinstance(listed, list) else ():
        if isinstance(check, Mapping) and latencies & MOVED.get(str(check.get("name")), frozenset()):
            figure, limit = check.get("figure"), check.get("limit")
            if isinstance(figure, int | float) and isinstance(limit, int | float) and figure > limit:
                return f"the events of {figure:.0%} of its answers were gathered ({check['name']})"
    return ""


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
    measured: Sequence[tuple[Path, Mapping[str, Any]]],
    baseline: Baseline,
    *,
    allow_different: bool,
    rule: Regression | None = None,
) -> tuple[SweepComparison, dict[Point, list[str]]]:
    """Compare results with a baseline, point by point and as a whole.

    Kept runs of another model, engine version, GPU count or settings don't count where others of the same are kept. Where
    none is, the point is named with the differences, and left out of the comparison unless `allow_different`.
    """
    now: dict[Point, list[RunSample]] = {}
    then: dict[Point, list[RunSample]] = {}
    different: dict[Point, list[str]] = {}
    passed_over: dict[str, None] = {}
    ours_read = [as_read(result, path) for path, result in measured]
    own = {(result.run_id, result.point_id, result.run) for result in ours_read if result.run_id}
    kept = {
        point: [e for e in entries if (e.result.run_id, e.result.point_id, e.result.run) not in own]
        for point, entries in baseline.results.items()
    }
    for result in ours_read:
        if not result.measured:
            continue
        point = result.case
        earlier = kept.get(point, [])
        if not earlier and point in kept:  # --resume has reused what lies in the baseline
            different[point] = ["the baseline holds this very run alone"]
            continue
        found_in = [differences(entry.result, result) for entry in earlier]
        names = sorted({name for found in found_in for name in found})
        if earlier and all(found_in):
            different[point] = names
            if not allow_different:
                continue
        elif names:  # after an upgrade: what was kept of the old version may stay where it is
            earlier = [entry for entry, found in zip(earlier, found_in, strict=True) if not found]
            passed_over |= dict.fromkeys(names)
        now.setdefault(point, []).append(sample_of(result))
        if point not in then:
            then[point] = [entry.sample for entry in earlier]
    for point, entries in kept.items():
        if point not in now and point not in different:
            then[point] = [entry.sample for entry in entries]
    ours = [PointRuns(point, runs) for point, runs in now.items()]
    theirs = [PointRuns(point, runs) for point, runs in then.items() if runs]
    rule = rule or Regression()
    found = compare_sweeps(ours, theirs, rule.counts(), rule.alpha, rule.blind)
    if passed_over:
        words = f"kept runs that differ in {'; '.join(passed_over)} were passed over: others are of the same"
        found = replace(found, notes=(*found.notes, words))
    if baseline.left_out:
        more = f" and {len(baseline.left_out) - 3} more" if len(baseline.left_out) > 3 else ""
        words = f"left out of the baseline: {'; '.join(baseline.left_out[:3])}{more}"
        found = replace(found, notes=(*found.notes, words))
    return found, different


def sample_of(result: PointResult) -> RunSample:
    """The requests of a run where its records are there and inside of its folder, else its summary figures."""
    if result.records is not None:
        try:
            records = Records.load(result.records)
            sample = sample_of_records(records, result.conc or 1 if result.request_rate == float("inf") else 1)
            return replace(sample, origin=origin_of(result.raw, records))
        except UsageError:
            pass  # the summary is there all the same
    known = {**result.metrics, "completed": result.n, "num_prompts": result.raw.get("num_prompts")}
    return replace(sample_of_summary(known), origin=origin_of(result.raw))
