"""What one pytest session of this suite has come to know, shared by the plugin's modules through the config's stash."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from bench_tests.compare.baseline import Baseline
from bench_tests.compare.capacity import Capacity
from bench_tests.compare.history.store import History
from bench_tests.compare.history.trend import Trend
from bench_tests.compare.regression import SweepComparison
from bench_tests.measure.budget import BudgetedSweep
from bench_tests.measure.point import Measurement, Sweep
from bench_tests.paths import CHECKOUT, PACKAGE, ROOT, workspace
from bench_tests.pytest_plugin.interrupt import Interrupt
from bench_tests.pytest_plugin.terminal import Terminal
from bench_tests.server.choose import Choice
from bench_tests.sweep.find import Find
from bench_tests.sweep.options import OPTIONS
from bench_tests.sweep.point import Point

__all__ = ["MEASURED", "STATE", "Session", "concerns_us", "is_ours"]


class Session:
    """The state of one session. Its options are read by their flags."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.choice: Choice | None = None
        self.points: list[Point] = []
        self.workload_lines: list[str] = []  # what is said of a trace or dataset before it is sent
        self.measurements: dict[tuple[Point, int], Measurement] = {}
        self.history: History | None = None  # as it was before this session
        self.history_gone = ""  # what is said of its accepted sessions whose results are gone
        self.trend: Trend | None = None  # with this session
        self.trend_told = False  # what was said of this session is written down
        self.run_id = ""
        self.other: Sweep | None = None  # the second server of --against
        self.others: dict[tuple[Point, int], Measurement] = {}  # what was measured on it
        self.not_measured = False  # something could not be measured
        self.no_server = ""  # why there is no server (any more)
        self.selected: list[tuple[Point, int]] = []  # what this session measures
        self.typed_keyword = ""  # -k before it was made exact
        self.cases: set[str] = set()  # ids of the cases that measure
        self.breaches = 0  # what failed: beyond an objective, slower than the baseline, or a test that measures nothing
        self.find: Find | None = None
        self.started_s = time.monotonic()
        self.budget_s: float | None = None  # the time that the whole session may take
        self.budgeted: BudgetedSweep | None = None
        self.capacities: list[Capacity] = []
        self.comparison: SweepComparison | None = None
        self.different: dict[Point, list[str]] = {}
        self.baseline: Baseline | None = None  # read before the first load
        self.terminal = Terminal(config)
        self.interrupt = Interrupt()
        self.interrupted = False  # while drawing

    def option(self, flag: str) -> Any:
        """The value of one of our options, or of another plugin's that owns the flag."""
        named = next(option for option in OPTIONS if option.flag == flag)
        if named.dest in self.config.option:
            return getattr(self.config.option, named.dest)
        if flag != "--base-url":
            return named.kwargs.get("default")  # it means another thing to its owner, and was not given
        return self.config.getoption(flag, None) or None  # pytest-base-url's; its ini value is no command of ours

    @property
    def results_dir(self) -> Path:
        said = self.option("--results-dir")
        if not said and self.config.rootpath.resolve() == ROOT:
            return workspace() / "results"  # of a checkout: wherever in it pytest is started
        return Path(said or "results").absolute()

    @property
    def progress(self) -> tuple[int, int]:
        """Which measurement of how many comes next; a case of the user's own may add some."""
        number = len(self.measurements) + 1
        return number, max(number, len(self.selected))

    @property
    def compares(self) -> bool:
        """Whether there is something to compare with: not in the first nights of a history."""
        return self.history is None or self.baseline is not None

    @property
    def against(self) -> str:
        """The second server's address, for a reader; empty without one."""
        return self.other.served.endpoint.base_url if self.other else ""

    @property
    def runs(self) -> int:
        return int(self.option("--repeat"))


STATE = pytest.StashKey[Session]()
MEASURED = pytest.StashKey[list[Measurement]]()  # what a case has measured


def concerns_us(config: pytest.Config) -> bool:
    """Whether this run is about a benchmark: of our points, or of a user's own cases with one of our options."""
    defaults = {o.dest: o.kwargs.get("default") for o in OPTIONS}
    given = any(getattr(config.option, dest, default) != default for dest, default in defaults.items())
    return given or is_ours(config)


def is_ours(config: pytest.Config) -> bool:
    """Whether this run collects our points at all: the suite's own tests and other projects' run without them."""
    if config.option.pyargs and any(arg.partition("::")[0].split(".")[0] == PACKAGE.name for arg in config.args):
        return True
    named = [Path(arg.partition("::")[0]).absolute() for arg in config.args]
    # a folder above it counts in a checkout alone: a project may have this suite installed somewhere below it
    return any(path == PACKAGE or PACKAGE in path.parents or (CHECKOUT and path in PACKAGE.parents) for path in named)
