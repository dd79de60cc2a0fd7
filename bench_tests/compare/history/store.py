"""A folder with the sessions of many nights: their results, and an index that is only ever added to.

    DIR/index.jsonl        a line a session (its figures), a line a verdict on it, a line a person's acceptance
    DIR/sessions/RUN_ID/   its results and their records

A session's folder appears whole or not at all (it is renamed into its place), then its line is added: one write, under a lock
where the file system has locks. A process that is killed leaves a folder without a line, which the next reader finds and
counts, or the beginning of a line, which no reader takes and after which the next line begins anew. Nothing is ever changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from bench_tests.compare.comparable import group_key
from bench_tests.compare.origin import origin_of
from bench_tests.errors import NotMeasured, UsageError
from bench_tests.results.read import read_folder
from bench_tests.results.schema import PointResult
from bench_tests.sweep.settings import COMPARED

__all__ = ["SESSIONS", "History", "Session", "accept", "add_session", "add_verdict", "entry_of", "read_history"]

INDEX, SESSIONS = "index.jsonl", "sessions"


@dataclass(frozen=True)
class Session:
    """One start of pytest as the index has it. `figures`: of each question and point, the mean figure of its runs; as they
    stand in the file, `figure` says which are numbers.
    """

    id: str
    date: str  # 20261126-230000, of its first result
    figures: Mapping[str, Mapping[str, float]]
    facts: Mapping[str, str] = field(default_factory=dict)  # version, image, node, start: what else may be another
    judged: bool = False  # it has a verdict: its session came to its end
    alarm: bool = False  # it was called slower, or a change point was found when it came
    accepted: bool = False  # by a person

    def figure(self, key: str, name: str) -> float:
        """A figure, NaN where there is none that can be one."""
        values = self.figures.get(key)
        value = values.get(name) if values else None
        known = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if known and value is not None and value > 0 else math.nan


@dataclass(frozen=True)
class History:
    """The sessions in the order of their dates; `broken`: lines of the index that are none."""

    folder: Path
    sessions: tuple[Session, ...] = ()
    broken: int = 0

    def last_accepted(self, count: int, suspect: Iterable[str] = ()) -> list[Path]:
        """The folders of the last `count` sessions that may be a baseline: judged without an alarm, or accepted by a person.

        `suspect`: sessions that are none until somebody accepts them.
        """
        found = [place for place in self._accepted(suspect) if place.is_dir()]
        return found[-count:]

    def gone(self, suspect: Iterable[str] = (), count: int = 0) -> int:
        """How many sessions (of the last `count`; 0: of all) may be a baseline by the index, and have no results there."""
        return sum(not place.is_dir() for place in self._accepted(suspect)[-count:])

    def _accepted(self, suspect: Iterable[str]) -> list[Path]:
        doubted = set(suspect)
        good = (s for s in self.sessions if s.accepted or (s.judged and not s.alarm and s.id not in doubted))
        return [self.folder / SESSIONS / s.id for s in good]


def read_history(folder: Path) -> History:
    """All sessions of a folder; a new folder has none. Raises UsageError for one that cannot be read."""
    lines: list[dict[str, Any]] = []
    broken = 0
    try:
        data = (folder / INDEX).read_bytes() if (folder / INDEX).exists() else b""
        there = {p.name for p in (folder / SESSIONS).iterdir() if not p.name.startswith(".")} if (folder / SESSIONS).is_dir() else set()  # fmt: skip
    except OSError as why:
        raise UsageError(f"--history {folder}: {why.strerror}; name a folder that can be read") from why
    for line in data.split(b"\n"):
        if not line.strip():
            continue
        try:
            said = orjson.loads(line)
            if not isinstance(said, dict) or not isinstance(said.get("session"), str):
                raise ValueError
        except ValueError:
            broken += 1
            continue
        lines.append(said)
    found: dict[str, Session] = {}
    marks: dict[str, list[Mapping[str, Any]]] = {}
    for said in lines:
        if said.get("event") == "session":
            session = _session(said)
            broken += session is None
            if session is not None:
                found.setdefault(session.id, session)
        elif said.get("event") in ("verdict", "accept"):
            marks.setdefault(said["session"], []).append(said)
    for name in sorted(there - found.keys()):  # whose writer was killed before its line was added
        with contextlib.suppress(UsageError):
            entry = entry_of(read_folder(folder / SESSIONS / name, "--history", below=False).points)
            session = _session(entry | {"session": name}) if entry else None
            if session is not None:
                found[name] = session
    sessions = (_marked(session, marks.get(session.id, ())) for session in found.values())
    return History(folder, tuple(sorted(sessions, key=lambda s: (s.date, s.id))), broken)


def _session(said: Mapping[str, Any]) -> Session | None:
    figures, facts = said.get("figures"), said.get("facts")
    if not isinstance(figures, dict) or not all(isinstance(values, dict) for values in figures.values()):
        return None
    words = {str(k): str(v) for k, v in facts.items()} if isinstance(facts, dict) else {}
    return Session(said["session"], str(said.get("date", "")), figures, words)


def _marked(session: Session, marks: Sequence[Mapping[str, Any]]) -> Session:
    verdicts = [mark for mark in marks if mark["event"] == "verdict"]
    alarm = any(mark.get("alarm") for mark in verdicts)
    accepted = any(mark["event"] == "accept" for mark in marks)
    return replace(session, judged=bool(verdicts), alarm=alarm, accepted=accepted)


def entry_of(points: Iterable[PointResult]) -> dict[str, Any] | None:
    """The line of a session: of each point that was measured the geometric mean of its runs; None where there is none."""
    from statistics import geometric_mean

    runs: dict[str, dict[str, list[float]]] = {}
    facts: dict[str, str] = {}
    dates = []
    for point in points:
        if not point.measured:
            continue
        question = "|".join(str(part) for part in group_key(point, version=False))
        of = runs.setdefault(f"{point.point_id} {question}", {})
        for name in COMPARED:
            if point.metrics.get(name, 0.0) > 0:
                of.setdefault(name, []).append(point.metrics[name])
        dates.append(point.date)
        facts |= {name: value for name, value in _facts(point).items() if value}
    if not runs:
        return None
    figures = {key: {name: geometric_mean(values) for name, values in of.items()} for key, of in runs.items()}
    return {"event": "session", "date": min(dates), "facts": facts, "figures": figures}


def _facts(point: PointResult) -> dict[str, str]:
    origin = origin_of(point.raw)
    server = point.raw.get("server")
    image = server.get("image") if isinstance(server, Mapping) else None
    return {"version": origin.version, "image": str(image or ""), "node": origin.node, "start": origin.start}


# ------------------------------------------------------------------------------------------------ what is added


def add_session(folder: Path, run_id: str, results: Iterable[Path]) -> Session | None:
    """Keep a session's results: its folder, then its line. None where none was measured. Raises NotMeasured."""
    try:
        (folder / SESSIONS).mkdir(parents=True, exist_ok=True)
        place = folder / SESSIONS / run_id
        beside = Path(tempfile.mkdtemp(dir=folder / SESSIONS, prefix=f".{run_id}."))
        (beside / "records").mkdir()
        for path in results:
            records = path.parent / "records" / f"{path.stem}.npz"
            if records.exists():
                shutil.copy2(records, beside / "records" / records.name)
            shutil.copy2(path, beside / path.name)
        entry = entry_of(read_folder(beside, "--history", below=False).points)
        if entry is None:
            shutil.rmtree(beside)
            return None
        beside.chmod(0o755)
        os.rename(beside, place)
    except OSError as why:
        raise NotMeasured(f"--history {folder}: {why.strerror or why}; choose a folder that can be written") from why
    _append(folder, entry | {"session": run_id})
    return _session(entry | {"session": run_id})


def add_verdict(folder: Path, run_id: str, alarm: Sequence[str]) -> None:
    """What was said of a session when it came; without an alarm it is a baseline for those that follow."""
    _append(folder, {"event": "verdict", "session": run_id, "alarm": list(alarm)})


def accept(folder: Path, run_id: str) -> None:
    """A person's word: this session is as it should be, and so is what led to it. Raises UsageError for an unknown one."""
    known = read_history(folder)
    if not known.sessions:
        raise UsageError(f"history accept {run_id}: {folder} has no session; name the folder with --history DIR")
    if run_id not in {session.id for session in known.sessions}:
        last = ", ".join(session.id for session in known.sessions[-3:]) or "none"
        raise UsageError(f"history accept {run_id}: no such session in {folder}; the last ones are {last}")
    _append(folder, {"event": "accept", "session": run_id, "date": f"{datetime.now(UTC):%Y%m%d-%H%M%S}"})


def _append(folder: Path, said: Mapping[str, Any]) -> None:
    """Add one line to the index, on its own line whatever a killed writer left. Raises NotMeasured."""
    line = orjson.dumps(said, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"
    try:
        with open(folder / INDEX, "ab+", buffering=0) as file, _locked(file.fileno()):
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    line = b"\n" + line
            written = file.write(line)  # O_APPEND: at the end, wherever that is by now
            if written != len(line):
                raise OSError(0, "the disk is full")
            os.fsync(file.fileno())
    except OSError as why:
        raise NotMeasured(f"--history {folder}: {why.strerror or why}; choose a folder that can be written") from why


@contextlib.contextmanager
def _locked(file: int) -> Iterator[None]:
    """Hold the file's lock; a file system without locks has the single write alone."""
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX)
    yield
