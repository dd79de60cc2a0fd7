"""One run of a row, and the register of what provokes a fault: each a context around the run that may change its case."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench_tests.sim.simulator import Simulator

__all__ = ["PROVOKE", "Case", "busy", "during_load", "hook", "provoker", "until", "worker_of"]


@dataclass
class Case:
    """One run of a row, as it will be started. Provokers change it."""

    folder: Path
    results: Path
    key: str
    url: str
    env: dict[str, str]
    options: list[str]
    run: Callable[[list[str]], subprocess.CompletedProcess[str]]  # another run of the same command, further options
    sim: Simulator | None = None
    prefix: list[str] = field(default_factory=list)  # of the command
    limit: Callable[[], None] | None = None  # called in the child before the command
    during: Callable[[subprocess.Popen[str]], None] | None = None  # called while it runs
    attach: bool = True  # give --base-url
    requests_before: float = 0  # that the server has had before this run


PROVOKE: dict[str, Callable[[Case], contextlib.AbstractContextManager[None]]] = {}


def provoker(make: Callable[[Case], Iterator[None]]) -> Callable[[Case], Iterator[None]]:
    PROVOKE[make.__name__] = contextlib.contextmanager(make)
    return make


def hook(case: Case, code: str, where: str = "load.worker") -> None:
    """Run code at the start of each of the suite's processes whose command line names `where`."""
    folder = case.folder / "hook"
    folder.mkdir(exist_ok=True)
    lines = "\n".join("    " + line for line in code.strip().splitlines())
    (folder / "sitecustomize.py").write_text(f"import sys\nif any({where!r} in a for a in sys.orig_argv):\n{lines}\n")
    case.env["PYTHONPATH"] = str(folder)


def until(true: Callable[[], bool], what: str, seconds: float = 75) -> None:
    """Wait for something that the run does."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.01)


def worker_of(process: subprocess.Popen[str]) -> int:
    """The load process of a running session."""
    found: list[int] = []

    def look() -> bool:
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == process.pid and b"bench_tests.load.worker" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
        return bool(found)

    until(look, "a load process")
    return found[0]


def busy(case: Case, process: subprocess.Popen[str]) -> None:
    """Wait until the server has a measured request or two. Gives up when the run has ended before."""
    assert case.sim is not None
    sim = case.sim
    before = case.requests_before
    until(
        lambda: process.poll() is not None or sim.stats()["running"] + sim.stats()["requests"] - before > 3, "requests"
    )


def during_load(action: Callable[[Case, subprocess.Popen[str]], None]) -> Callable[[Case], Iterator[None]]:
    def make(case: Case) -> Iterator[None]:
        assert case.sim is not None
        case.requests_before = case.sim.stats()["requests"]

        def during(process: subprocess.Popen[str]) -> None:
            busy(case, process)
            if process.poll() is None:
                action(case, process)

        case.during = during
        yield

    make.__name__ = action.__name__
    provoker(make)
    return make
