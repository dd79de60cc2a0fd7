"""The one reader of result files, of all formats: for baseline, resume, pictures and report.

The files are untrusted: sizes are limited, nothing is followed out of the folder, nothing is unpickled. What can be used is
returned; each other file is named with its reason.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench_tests.errors import UsageError
from bench_tests.results.formats import NotAResult, to_point
from bench_tests.results.others import parts_of
from bench_tests.results.schema import LeftOut, PointResult, Results

__all__ = ["as_read", "read_file", "read_folder", "read_one"]

_MOST_BYTES = 64 * 2**20  # a `--save-detailed` file of 10,000 requests is about 30 MB
_ENDINGS = (".json", ".jsonl")


def read_folder(folder: Path, option: str = "--results-dir", *, below: bool = True) -> Results:
    """The points in `folder`, of all sessions, in the order of ISL, OSL, concurrency, run.

    A folder that holds results is one sweep: what lies in its subfolders (a kept baseline, say) is another's. Only a
    folder without any of its own is read with its subfolders; with `below=False` never.
    Raises UsageError when `folder` is no folder. Broken and foreign files, warm-ups and copies come back in `left_out`.
    """
    if not folder.is_dir():
        raise UsageError(f"{option} {folder}: no such folder; name the folder that holds the result files")
    points: list[PointResult] = []
    left_out: list[LeftOut] = []
    seen: dict[tuple[Any, ...], Path] = {}
    files = 0
    for path in _result_files(folder):
        if path.parent != folder and (not below or (points and points[0].source.parent == folder)):
            break  # the folder's own files come first
        found, reasons = read_file(path, folder)
        files += bool(found or reasons)  # pytest's index is none of them
        new = [point for point in found if seen.setdefault(_content(point), path) is path]
        points += new
        if len(new) < len(found):
            first = next(seen[_content(point)] for point in found if point not in new)
            reasons.append(f"copy of what another file holds ({first.name})")
        left_out += [LeftOut(path, reason) for reason in reasons]
    points.sort(key=lambda p: (p.model, p.isl, p.osl, p.conc, p.request_rate, p.run, str(p.source)))
    return Results(folder, tuple(points), tuple(left_out), files)


def read_one(path: Path) -> PointResult | None:
    """The one result in `path`; None for no file, half a file, or something else."""
    found, _ = read_file(path, path.parent) if path.exists() else ([], [])
    return found[0] if len(found) == 1 else None


def as_read(raw: Mapping[str, Any], path: Path) -> PointResult:
    """A result of this session as it would be read from `path`. Raises NotAResult for what is none."""
    return _with_files(to_point(raw, path), raw, path.parent, path.parent)


def _content(point: PointResult) -> tuple[Any, ...]:
    """What two files of the same measurement share: all figures, and when and where they were measured.

    A file that names neither a session nor the number of its run has no identity: it is a copy of none.
    """
    figures = tuple(sorted(point.metrics.items()))
    if not figures or not (point.run_id or "run_number" in point.raw):
        return (point.source, id(point))
    server = (
        point.model,
        point.engine,
        point.engine_version,
        point.simulated,
        point.gpus,
        str(point.parallel),
        point.config,
    )
    about = (*server, point.isl, point.osl, point.conc, point.request_rate, repr(point.raw.get("settings")))
    return (*about, point.date, point.run, point.run_id, point.n, repr(point.raw.get("duration")), figures)


def read_file(path: Path, folder: Path) -> tuple[list[PointResult], list[str]]:
    """The points of one file (several where it holds a list) and a reason for each part that holds none."""
    try:
        whole = _parse(path)
    except NotAResult as why:
        return [], [str(why)]
    found: list[PointResult] = []
    reasons: list[str] = []
    if isinstance(whole, dict) and {"tests", "exitcode", "collectors"} <= whole.keys():
        return [], []  # pytest's index of the session: it belongs here and is no point
    parts = parts_of(whole) if isinstance(whole, dict) else None
    listed = isinstance(whole, list) or parts is not None
    items = parts if parts is not None else whole if isinstance(whole, list) else [whole]
    for number, item in enumerate(items):
        place = f"item {number}: " if listed else ""
        if not isinstance(item, dict):
            reasons.append(f"{place}not a result: a JSON object with the point's figures was expected")
            continue
        try:
            point = to_point(item, path)
        except NotAResult as why:
            reasons.append(f"{place}{why}")
        else:
            found.append(_with_files(point, item, path.parent, folder))
    if listed and not items:
        reasons.append("not a result: an empty list")
    return found, reasons[:5]


def _result_files(folder: Path) -> Iterator[Path]:
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(at, name) for name in sorted(names) if name.endswith(_ENDINGS) and not name.startswith("."))


def _parse(path: Path) -> Any:
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise NotAResult("not a regular file")
        if about.st_size > _MOST_BYTES:
            raise NotAResult(f"larger than {_MOST_BYTES // 2**20} MiB")
        return _json(path.read_bytes())
    except OSError as why:
        raise NotAResult(f"cannot be read: {why.strerror}") from why
    except UnicodeDecodeError as why:
        raise NotAResult("not UTF-8 text") from why
    except NotAResult:
        raise
    except ValueError as why:
        raise NotAResult(f"not JSON: {why}") from why
    except RecursionError as why:
        raise NotAResult("not a result: nested too deeply") from why


def _json(data: bytes) -> Any:
    """One JSON value, or one on each line (SGLang appends a line a run): a list then."""
    try:
        return json.loads(data)
    except json.JSONDecodeError as why:
        lines = [line for line in data.splitlines() if line.strip()]
        if not why.msg.startswith("Extra data") or len(lines) < 2:
            raise
        return [json.loads(line) for line in lines]


def _with_files(point: PointResult, raw: Mapping[str, Any], beside: Path, folder: Path) -> PointResult:
    """The point with the files that its result names: its records, the series of the server's counters."""
    side = raw.get("server_side")
    named = side.get("series") if isinstance(side, Mapping) else None
    return replace(point, records=_records(raw.get("records"), beside, folder), series=_records(named, beside, folder))


def _records(named: object, beside: Path, folder: Path) -> Path | None:
    """The records file that a result names, when it lies inside the folder; anything else is no records file."""
    if not isinstance(named, str) or not named or "\0" in named:
        return None
    try:
        path = (beside / named).resolve()
        inside = path.is_relative_to(folder.resolve())
        return path if inside and path.suffix == ".npz" and path.is_file() else None
    except OSError:
        return None
