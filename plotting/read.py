"""Read a folder of result files. What can be drawn is returned; each other file is named with its reason.

The files are untrusted: sizes are limited, nothing is followed out of the folder, nothing is unpickled.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench_tests.errors import UsageError
from plotting.formats import NotAResult, to_point
from plotting.model import LeftOut, PointResult, Results

__all__ = ["read_file", "read_folder"]

_MOST_BYTES = 64 * 2**20  # a `--save-detailed` file of 10,000 requests is about 30 MB


def read_folder(folder: Path) -> Results:
    """All points of the JSON files in `folder`, in the order of ISL, OSL, concurrency, run.

    A folder that holds results is one sweep: what lies in its subfolders (a kept baseline, say) is another's. Only a
    folder without any of its own is read with its subfolders.
    Raises UsageError when `folder` is no folder. Broken and foreign files come back in `left_out`.
    """
    if not folder.is_dir():
        raise UsageError(f"--results-dir {folder}: no such folder; name the folder that holds the result files")
    points: list[PointResult] = []
    left_out: list[LeftOut] = []
    for path in _json_files(folder):
        if path.parent != folder and points and points[0].source.parent == folder:
            break  # the folder's own files come first
        found, reasons = read_file(path, folder)
        points += found
        left_out += [LeftOut(path, reason) for reason in reasons]
    points.sort(key=lambda p: (p.model, p.isl, p.osl, p.conc, p.run, str(p.source)))
    return Results(folder, tuple(points), tuple(left_out))


def read_file(path: Path, folder: Path) -> tuple[list[PointResult], list[str]]:
    """The points of one file (several where it holds a list) and a reason for each part that holds none."""
    try:
        whole = _parse(path)
    except NotAResult as why:
        return [], [str(why)]
    listed = isinstance(whole, list)
    found: list[PointResult] = []
    reasons: list[str] = []
    if isinstance(whole, dict) and {"tests", "exitcode", "collectors"} <= whole.keys():
        return [], []  # pytest's index of the session: it belongs here and is no point
    for number, item in enumerate(whole if listed else [whole]):
        place = f"item {number}: " if listed else ""
        if not isinstance(item, dict):
            reasons.append(f"{place}not a result: a JSON object with the point's figures was expected")
            continue
        try:
            point = to_point(item, path)
        except NotAResult as why:
            reasons.append(f"{place}{why}")
        else:
            found.append(replace(point, records=_records(item.get("records"), path.parent, folder)))
    if listed and not whole:
        reasons.append("not a result: an empty list")
    return found, reasons[:5]


def _json_files(folder: Path) -> Iterator[Path]:
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(at, name) for name in sorted(names) if name.endswith(".json") and not name.startswith("."))


def _parse(path: Path) -> Any:
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise NotAResult("not a regular file")
        if about.st_size > _MOST_BYTES:
            raise NotAResult(f"larger than {_MOST_BYTES // 2**20} MiB")
        return json.loads(path.read_bytes())
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
