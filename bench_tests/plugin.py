"""The pytest plugin: the only room that knows pytest. It collects points, measures them, and reports."""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from bench_tests.choose import Choice, choose, obtain
from bench_tests.errors import BenchError, NotMeasured, ServerError, ServerGone, UsageError
from bench_tests.measure import Measurement, Sweep
from bench_tests.options import OPTIONS, selected_points
from bench_tests.reporting import Terminal
from bench_tests.server.attach import look_at
from bench_tests.server.endpoint import Served
from bench_tests.sweep.point import Point, keyword_tokens, rewrite_keyword
from bench_tests.verdict.decide import ERROR, FAILED

NOT_MEASURED, NO_SERVER = 12, 13
STATE = pytest.StashKey["Session"]()
MEASURED = pytest.StashKey[Measurement]()


class Session:
    """What one pytest session of this suite knows."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.choice: Choice | None = None
        self.points: list[Point] = []
        self.measurements: dict[tuple[Point, int], Measurement] = {}
        self.not_measured = False  # something could not be measured
        self.no_server = ""  # why there is no server (any more)
        self.terminal = Terminal(config)

    def option(self, flag: str) -> Any:
        """The value of one of our options, or of another plugin's that owns the flag."""
        named = next(option for option in OPTIONS if option.flag == flag)
        if named.dest in self.config.option:
            return getattr(self.config.option, named.dest)
        value = self.config.getoption(flag, None)
        if value in (None, "") and flag == "--base-url":
            # pytest-base-url owns the flag; its ini value is no command of ours
            return None
        return value

    @property
    def results_dir(self) -> Path:
        return Path(self.option("--results-dir")).absolute()

    @property
    def runs(self) -> int:
        return int(self.option("--repeat"))


# ---------------------------------------------------------------------------------------------------------- options


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("bench", "LLM serving benchmark")
    for option in OPTIONS:
        kwargs = {"dest": option.dest, "help": option.help.replace("%", "%%"), **option.kwargs}
        try:
            group.addoption(option.flag, **kwargs)
        except (ValueError, argparse.ArgumentError):
            pass  # another plugin owns this flag (pytest-base-url has --base-url): its value is used


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """--plot draws and leaves: no server, no collection."""
    if getattr(config.option, "bench_plot", False):
        session = Session(config)
        return _draw(session, session.terminal.say_plain)
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    session = config.stash[STATE] = Session(config)
    if getattr(config.option, "numprocesses", None):
        raise pytest.UsageError(
            "-n: points are measured one at a time, since they share a server; leave out pytest-xdist"
        )
    if config.option.keyword:
        config.option.keyword = rewrite_keyword(config.option.keyword)
    if hasattr(config.option, "json_report") and not config.option.collectonly and _ours(config):
        config.option.json_report = True
        if config.option.json_report_file == ".report.json":
            config.option.json_report_file = str(session.results_dir / "report.json")


def _ours(config: pytest.Config) -> bool:
    """Whether this run collects our points at all: the suite's own tests run without them."""
    folder = Path(__file__).parent
    named = [Path(arg.partition("::")[0]).absolute() for arg in config.args]
    return any(path == folder or folder in path.parents or path in folder.parents for path in named)


def pytest_sessionstart(session: pytest.Session) -> None:
    state = session.config.stash[STATE]
    if not _ours(session.config):
        return
    try:
        state.choice = choose(state.option)
        state.points = selected_points(state.choice.profile, state.option("--point"))
    except UsageError as why:
        raise pytest.UsageError(str(why)) from None
    except ServerError as why:
        pytest.exit(str(why), returncode=NO_SERVER)
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """SIGTERM ends a session as Ctrl-C does: the point is ended in order and all that was measured is kept."""
    raise KeyboardInterrupt


# ---------------------------------------------------------------------------------------------------------- collection


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "measured" not in metafunc.fixturenames:
        return
    state = metafunc.config.stash[STATE]
    runs = state.runs
    cases = [(point, run) for run in range(1, runs + 1) for point in state.points]
    ids = [str(point) + (f"-run{run}" if runs > 1 else "") for point, run in cases]
    metafunc.parametrize("measured", cases, ids=ids, indirect=True)


def pytest_itemcollected(item: pytest.Item) -> None:
    item.extra_keyword_matches |= keyword_tokens(item.name)


# ---------------------------------------------------------------------------------------------------------- measuring


@pytest.fixture(scope="session")
def sweep(request: pytest.FixtureRequest) -> Iterator[Sweep]:
    """The session's server, looked at before the first load, and what is measured on it. Ends the session without."""
    state = request.config.stash[STATE]
    choice = state.choice
    if choice is None:
        raise pytest.UsageError("the points of bench_tests were not among this session's arguments")
    served: Served | None = None
    try:
        with state.terminal.uncaptured() as say:
            served = obtain(choice, state.results_dir / "logs", bool(state.option("--keep-server")), say)
            model = look_at(served.endpoint, choice.profile.model.id)
        metadata = dict(request.config.getoption("metadata", None) or ())  # pytest-metadata's --metadata KEY VALUE
        found = Sweep(choice.profile, served, model, state.results_dir, metadata)
        state.terminal.header(found, list(state.points), state.runs)
        yield found
    except ServerError as why:
        state.no_server = str(why)
        pytest.exit(str(why), returncode=NO_SERVER)
    except UsageError as why:
        pytest.exit(str(why), returncode=pytest.ExitCode.USAGE_ERROR)
    finally:
        if served is not None:
            with state.terminal.uncaptured():
                served.stop()


@pytest.fixture
def measured(request: pytest.FixtureRequest, sweep: Sweep) -> Measurement:
    """The measurement of this case's point. Raises NotMeasured (pytest's ERROR) when it could not be measured."""
    state = request.config.stash[STATE]
    point, run = request.param
    found = state.measurements.get((point, run))
    if found is None:
        found = state.measurements[point, run] = _measure(state, sweep, point, run)
    request.node.stash[MEASURED] = found
    request.node.user_properties += _properties(found)
    if found.verdict.word == ERROR:
        raise NotMeasured("; ".join(found.verdict.messages))
    return found


def _measure(state: Session, sweep: Sweep, point: Point, run: int) -> Measurement:
    if state.option("--resume"):
        kept = sweep.kept(point, run)
        if kept is not None:
            return kept
    for last_try in (False, True):
        try:
            with state.terminal.live(str(point), len(state.measurements) + 1, len(state.points) * state.runs) as show:
                return sweep.measure(point, run, show)
        except ServerGone as why:
            with state.terminal.uncaptured() as say:
                say(str(why))
                if last_try or not sweep.served.wait_for_return(say):
                    state.no_server = str(why)
                    raise
        except UsageError as why:
            pytest.exit(str(why), returncode=pytest.ExitCode.USAGE_ERROR)
    raise AssertionError("unreachable")


def _properties(measurement: Measurement) -> list[tuple[str, object]]:
    """The figures of a case for JUnit and the JSON report, in plain types: a numpy scalar would drop them all."""
    result = measurement.result
    numbers = [(k, v) for k, v in result.items() if isinstance(v, bool | int | float | str) and k != "schema_version"]
    return [*numbers, ("verdict", measurement.verdict.word), ("result", measurement.path.name)]


@pytest.hookimpl(optionalhook=True)
def pytest_json_runtest_metadata(item: pytest.Item, call: pytest.CallInfo[None]) -> dict[str, Any]:
    """pytest-json-report: the case's whole result goes into the session's index."""
    found = item.stash.get(MEASURED, None)
    return {"bench": dict(found.result)} if found is not None and call.when == "setup" else {}


# ---------------------------------------------------------------------------------------------------------- reporting


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    state = item.config.stash[STATE]
    if "measured" not in getattr(item, "fixturenames", ()):
        return
    if call.excinfo is not None and call.excinfo.errisinstance(BenchError):
        report.longrepr = str(call.excinfo.value)  # one line: a traceback into this suite helps nobody
        state.not_measured = True
        if call.excinfo.errisinstance(ServerGone):
            item.session.shouldstop = str(call.excinfo.value)
    found = item.stash.get(MEASURED, None)
    if call.when == "call" and report.failed and found is not None and found.verdict.word == FAILED:
        report.longrepr = "\n".join(found.verdict.messages)
    if found is not None and (call.when == "call" or (call.when == "setup" and report.failed)):
        state.terminal.point(found)


def pytest_report_teststatus(report: pytest.TestReport | pytest.CollectReport) -> tuple[str, str, str] | None:
    """Points have lines of their own; the dot would stand in them."""
    if "bench_tests/test_" in report.nodeid and getattr(report, "when", "") == "call" and report.passed:
        return "passed", "", "PASSED"
    return None


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    state = session.config.stash[STATE]
    if state.no_server:
        session.exitstatus = NO_SERVER
    elif exitstatus == pytest.ExitCode.TESTS_FAILED and state.not_measured:
        breached = any(m.verdict.word == FAILED for m in state.measurements.values())
        others = session.testsfailed > sum(m.verdict.word == ERROR for m in state.measurements.values())
        session.exitstatus = pytest.ExitCode.TESTS_FAILED if breached and others else NOT_MEASURED


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    state = config.stash[STATE]
    if not state.measurements:
        return
    state.terminal.summary(list(state.measurements.values()))
    if not state.option("--no-plot"):
        _draw(state, terminalreporter.write_line)


def _draw(state: Session, say: Any) -> int:
    """Draw the results directory's pictures; the plotting package is imported only now."""
    start = time.monotonic()
    from plotting import draw_all

    folder = state.results_dir
    try:
        drawn = draw_all(folder, folder / "plots", report=None)
    except UsageError as why:
        say(f"no pictures: {why}")
        return int(pytest.ExitCode.USAGE_ERROR)
    for left in drawn.left_out:
        say(f"left out: {left.path}: {left.reason}")
    for file in drawn.files:
        say(f"drawn: {os.path.relpath(file)}")
    say(f"{len(drawn.files)} pictures in {time.monotonic() - start:.1f} s")
    return 0
