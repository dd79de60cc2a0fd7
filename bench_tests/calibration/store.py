"""What a calibration found, as a file of this host: up to which load this client was true here.

Kept in $XDG_CACHE_HOME/bench-tests/calibration (~/.cache by default) and not among results: it is a property of the
host and not of what was measured from it. A result carries what it relied on.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from bench_tests.errors import NotMeasured
from bench_tests.paths import PACKAGE, ROOT
from bench_tests.results.write import write_bytes

__all__ = [
    "FIGURES",
    "Calibration",
    "Rung",
    "calibration_for",
    "calibration_path",
    "host_facts",
    "load_calibrations",
    "save_calibration",
]

FIGURES = tuple(f"{level}_{what}" for what in ("ttft", "tpot", "itl") for level in ("p50", "p99"))
TRUE, NOT_TRUE, NOT_JUDGED = "true", "not true", "not judged"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Rung:
    """One load of the ladder and how true the client was. Errors are relative: reported / truth − 1, by FIGURES."""

    streams: int
    gap_ms: float  # between the events of a stream
    offered_events_per_s: float
    got_events_per_s: float
    errors: Mapping[str, float]
    cpu_us_per_event: float  # of the load processes' timed part
    client_cpu: float  # of the busiest load process, as a share of its core
    server_lag_s: float  # p99 over requests: the simulated server's worst write behind its due time
    outcome: str  # TRUE, NOT_TRUE or NOT_JUDGED
    why: str = ""

    @property
    def worst_error(self) -> float:
        """The largest of the errors, without its sign; infinite where there is none."""
        return max((abs(error) for error in self.errors.values()), default=float("inf"))


@dataclass(frozen=True)
class Calibration:
    """The ladder of one number of load processes on one host, and the highest load on it that was true."""

    date: str
    host: Mapping[str, Any]  # as host_facts() says it
    load_processes: int
    tolerance: float  # the error up to which a rung counts as true
    events_per_s: float  # the highest true rung's, as it arrived; 0 when none was true
    rungs: tuple[Rung, ...]

    @property
    def bound_events_per_s(self) -> float | None:
        """The load beyond which the client was found not to be true; None where no rung says so.

        A rung that could not be judged says nothing of the client and bounds nothing. The end of a ladder that was true
        to its top does: nothing is known of what is above.
        """
        below = 0.0
        for rung in self.rungs:
            if rung.outcome == NOT_TRUE:
                return below
            below = max(below, rung.got_events_per_s)
        return self.events_per_s if self.rungs and self.rungs[-1].outcome == TRUE else None

    def cited(self) -> dict[str, Any]:
        """What a result says of the calibration that it relied on."""
        return {
            "date": self.date,
            "events_per_s": self.events_per_s,
            "load_processes": self.load_processes,
            "tolerance": self.tolerance,
            "worst_error": max((r.worst_error for r in self.rungs if r.outcome == TRUE), default=None),
        }


@cache
def host_facts() -> dict[str, Any]:
    """What a calibration holds for: this host, and this client's code."""
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted((PACKAGE / "load").rglob("*.py"))))
    return {
        "hostname": platform.node(),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "suite": suite_version(),
        "client": code.hexdigest()[:12],
    }


def cpu_model() -> str:
    """The processor's name, as the kernel has it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def suite_version() -> str:
    """The version in pyproject.toml; "unknown" without one."""
    try:
        return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])
    except (OSError, tomllib.TOMLDecodeError, KeyError):
        return "unknown"


def calibration_path() -> Path:
    """This host's file."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache_home) / "bench-tests" / "calibration" / f"{platform.node() or 'host'}.json"


def save_calibration(calibration: Calibration) -> Path:
    """Keep it beside those of other numbers of load processes; returns the file. Raises NotMeasured."""
    path = calibration_path()
    kept = {entry.load_processes: entry for entry in _read(path)} | {calibration.load_processes: calibration}
    data = {"schema_version": SCHEMA_VERSION, "calibrations": [asdict(kept[n]) for n in sorted(kept)]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as why:
        raise NotMeasured(f"{path.parent}: {why.strerror}; calibrations are kept there (set $XDG_CACHE_HOME)") from why
    write_bytes(path, (json.dumps(data, indent=1) + "\n").encode())
    return path


def load_calibrations() -> list[Calibration]:
    """Those of this client on this host, one for each number of load processes that was calibrated; empty for none.

    A calibration of another kernel, processor, Python or client code is not of this client on this host and left out.
    So is a file that cannot be read: `pytest --calibrate` writes a new one.
    """
    here = {key: value for key, value in host_facts().items() if key != "suite"}
    found = _read(calibration_path())
    return [entry for entry in found if all(entry.host.get(key) == value for key, value in here.items())]


def calibration_for(calibrations: Sequence[Calibration], processes: int) -> Calibration | None:
    """The one of this many load processes, or of the next fewer: more of them carry less each. None when none is."""
    fitting = [entry for entry in calibrations if entry.load_processes <= processes]
    return max(fitting, key=lambda entry: entry.load_processes, default=None)


def _read(path: Path) -> list[Calibration]:
    try:
        data = json.loads(path.read_text())
        return (
            [_calibration(entry) for entry in data["calibrations"]] if data["schema_version"] == SCHEMA_VERSION else []
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _calibration(data: dict[str, Any]) -> Calibration:
    rungs = tuple(Rung(**{f.name: rung[f.name] for f in fields(Rung)}) for rung in data["rungs"])
    found = Calibration(**{**{f.name: data[f.name] for f in fields(Calibration)}, "rungs": rungs})
    if not isinstance(found.events_per_s, int | float) or not isinstance(found.load_processes, int):
        raise TypeError("no calibration")
    return found
