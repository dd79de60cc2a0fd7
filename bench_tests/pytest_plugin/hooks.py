"""The pytest plugin: the only room that knows pytest. It collects points, measures them, and reports."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from bench_tests.calibration.store import load_calibrations
from bench_tests.compare.baseline import save_baseline
from bench_tests.compare.regression import SweepComparison
from bench_tests.errors import BenchError, NotMeasured, ServerError, ServerGone, ServerStuck, UsageError
from bench_tests.load.hosts import load_hosts
from bench_tests.measure.point import Measurement, Sweep
from bench_tests.paths import PACKAGE
from bench_tests.pytest_plugin.ci import github_annotations, summary_markdown
from bench_tests.pytest_plugin.terminal import Terminal
from bench_tests.server.attach import look_at
from bench_tests.server.choose import Choice, choose, obtain
from bench_tests.server.served import Served
from bench_tests.sweep.options import OPTIONS, selected_points
from bench_tests.sweep.point import Point, keyword_tokens, rewrite_keyword
from bench_tests.verdict.decide import ERROR

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
        self.selected: list[tuple[Point, int]] = []  # what this session measures
        self.breaches = 0  # cases that failed: beyond an objective, or slower than the baseline
        self.comparison: SweepComparison | None = None
        self.different: dict[Point, list[str]] = {}
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
    """--plot draws and leaves, --calibrate measures this client and leaves: no server, no collection."""
    if getattr(config.option, "bench_plot", False):
        session = Session(config)
        drawn = _draw(session, session.terminal.say_plain, details=True)
        return int(pytest.ExitCode.OK if drawn else pytest.ExitCode.USAGE_ERROR)
    if getattr(config.option, "bench_calibrate", False):
        from bench_tests.calibration.ladder import calibrate_command

        session = Session(config)
        return calibrate_command(session.option, session.terminal.say_plain, NOT_MEASURED)
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
    folder = PACKAGE
    named = [Path(arg.partition("::")[0]).absolute() for arg in config.args]
    return any(path == folder or folder in path.parents or path in folder.parents for path in named)


def pytest_sessionstart(session: pytest.Session) -> None:
    state = session.config.stash[STATE]
    if not _ours(session.config):
        return
    try:
        state.choice = asyncio.run(choose(state.option))
        _writable(state)
        state.points = selected_points(state.choice.profile, state.option("--point"))
    except UsageError as why:
        raise pytest.UsageError(str(why)) from None
    except ServerError as why:
        pytest.exit(str(why), returncode=NO_SERVER)
    signal.signal(signal.SIGTERM, _interrupt)
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.showfspath = False  # each point has a line of its own


def _writable(state: Session) -> None:
    """Whether what is to be written at the end can be: told before the sweep, not after it. Raises UsageError."""
    folder = state.option("--save-baseline")
    try:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
        for file in filter(None, (state.option("--summary-md"), state.option("--report"))):
            Path(file).parent.mkdir(parents=True, exist_ok=True)
        if file := state.option("--summary-md"):
            with open(file, "a", encoding="utf-8"):
                pass
    except OSError as why:
        raise UsageError(f"{why.filename}: {why.strerror}; choose a place that can be written") from why


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """SIGTERM ends a session as Ctrl-C does: the point is ended in order and all that was measured is kept."""
    raise KeyboardInterrupt


# ---------------------------------------------------------------------------------------------------------- collection


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    state = metafunc.config.stash[STATE]
    if "compared" in metafunc.fixturenames:
        metafunc.parametrize("compared", state.points, ids=list(map(str, state.points)), indirect=True)
    if "measured" not in metafunc.fixturenames:
        return
    runs = state.runs
    cases = [(point, run) for run in range(1, runs + 1) for point in state.points]
    ids = [str(point) + (f"-run{run}" if runs > 1 else "") for point, run in cases]
    metafunc.parametrize("measured", cases, ids=ids, indirect=True)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without a baseline there is nothing to compare, and no case that says so."""
    if collection_path.name == "test_regression.py" and collection_path.parent == PACKAGE:
        return not config.stash[STATE].option("--baseline") or None
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A comparison needs all points first: its cases go behind the sweep's."""
    items.sort(key=lambda item: "comparison" in getattr(item, "fixturenames", ()))


def pytest_itemcollected(item: pytest.Item) -> None:
    item.extra_keyword_matches |= keyword_tokens(item.name)


def pytest_collection_finish(session: pytest.Session) -> None:
    cases = (getattr(item, "callspec", None) for item in session.items)
    found = (case.params["measured"] for case in cases if case is not None and "measured" in case.params)
    session.config.stash[STATE].selected = list(dict.fromkeys(found))


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
            hosts = load_hosts(state.option("--load-hosts")) if state.option("--load-hosts") else []
            served = asyncio.run(obtain(choice, state.results_dir / "logs", bool(state.option("--keep-server")), say))
            model = asyncio.run(look_at(served.endpoint, choice.profile.model.id))
        metadata = dict(request.config.getoption("metadata", None) or ())  # pytest-metadata's --metadata KEY VALUE
        found = Sweep(choice.profile, served, model, state.results_dir, metadata, load_calibrations(), hosts=hosts)
        if state.option("--resume"):
            found.pass_over_prompts()
        state.terminal.header(found, state.selected)
        yield found
    except ServerError as why:
        state.no_server = str(why)
        pytest.exit(str(why), returncode=NO_SERVER)
    except UsageError as why:
        pytest.exit(str(why), returncode=pytest.ExitCode.USAGE_ERROR)
    finally:
        if served is not None:
            with state.terminal.uncaptured():
                asyncio.run(served.stop())


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


@pytest.fixture(scope="session")
def comparison(request: pytest.FixtureRequest) -> SweepComparison:
    """This session's measurements against --baseline. Raises NotMeasured where there is nothing to compare."""
    from bench_tests.compare.baseline import compare, read_baseline

    state = request.config.stash[STATE]
    try:
        baseline = read_baseline(Path(state.option("--baseline")))
    except UsageError as why:
        raise NotMeasured(str(why)) from None
    measured = [(m.path, m.result) for m in state.measurements.values()]
    state.comparison, state.different = compare(
        measured, baseline, allow_different=bool(state.option("--allow-different"))
    )
    return state.comparison


@pytest.fixture
def compared(request: pytest.FixtureRequest, comparison: SweepComparison) -> Point:
    """This case's point, when it is in the comparison. Raises NotMeasured (pytest's ERROR) when it is not."""
    point: Point = request.param
    state = request.config.stash[STATE]
    if comparison.of(point):
        return point
    if point in state.different:
        raise NotMeasured(f"{point}: not the same question as the baseline's: {'; '.join(state.different[point])}; compare "
                          "all the same with --allow-different")  # fmt: skip
    if point in comparison.new:
        raise NotMeasured(f"{point}: not in the baseline; keep one that has it with --save-baseline")
    raise NotMeasured(f"{point}: not measured, so not compared")


def _measure(state: Session, sweep: Sweep, point: Point, run: int) -> Measurement:
    if state.option("--resume"):
        kept = sweep.kept(point, run)
        if kept is not None:
            return kept
    for last_try in (False, True):
        try:
            with state.terminal.live(str(point), len(state.measurements) + 1, len(state.selected)) as show:
                return sweep.measure(point, run, show)
        except ServerGone as why:
            with state.terminal.uncaptured() as say:
                say(str(why))
                if last_try or isinstance(why, ServerStuck) or not asyncio.run(sweep.served.wait_for_return(say)):
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
    if not {"measured", "comparison"} & set(getattr(item, "fixturenames", ())):
        return
    breached = call.when == "call" and call.excinfo is not None and call.excinfo.errisinstance(AssertionError)
    # whatever else ended a case, a defect of ours included, has said nothing of the server
    state.not_measured |= report.failed and not breached
    if call.excinfo is not None and call.excinfo.errisinstance(BenchError):
        report.longrepr = str(call.excinfo.value)  # one line: a traceback into this suite helps nobody
        if call.excinfo.errisinstance(ServerGone):
            item.session.shouldstop = str(call.excinfo.value)
    found = item.stash.get(MEASURED, None)
    if breached and call.excinfo is not None:
        state.breaches += 1
        report.longrepr = str(call.excinfo.value).partition("\nassert ")[0]
    if found is not None and (call.when == "call" or (call.when == "setup" and report.failed)):
        state.terminal.point(found)


def pytest_report_teststatus(report: pytest.TestReport | pytest.CollectReport) -> tuple[str, str, str] | None:
    """Points have lines of their own; the dot would stand in them."""
    if not report.nodeid.startswith("bench_tests/test_"):
        return None
    when = getattr(report, "when", "")
    if when == "call" and report.outcome in ("passed", "failed"):
        return report.outcome, "", report.outcome.upper()
    return ("error", "", "ERROR") if when in ("setup", "teardown") and report.failed else None


@pytest.hookimpl(tryfirst=True)  # before the JSON report, which writes the status down
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    state = session.config.stash[STATE]
    if state.no_server:
        session.exitstatus = NO_SERVER
    elif exitstatus == pytest.ExitCode.TESTS_FAILED and state.not_measured and not state.breaches:
        session.exitstatus = NOT_MEASURED


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    state = config.stash[STATE]
    measurements = list(state.measurements.values())
    if not measurements:
        return
    say = terminalreporter.write_line
    state.terminal.summary(measurements, state.comparison)
    if folder := state.option("--save-baseline"):
        try:
            count = save_baseline(Path(folder), [m.path for m in measurements if m.verdict.word != ERROR])
            say(f"baseline: {count} results kept in {folder}")
        except NotMeasured as why:
            say(f"no baseline kept: {why}")
    pictures = [] if state.option("--no-plot") else _draw(state, say, details=False)
    text = summary_markdown(measurements, state.comparison, state.option("--baseline"), pictures)
    for file in filter(None, (state.option("--summary-md"), os.environ.get("GITHUB_STEP_SUMMARY"))):
        try:
            with open(file, "a", encoding="utf-8") as out:
                out.write(text)
        except OSError as why:
            say(f"no summary in {file}: {why.strerror}")
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in github_annotations(measurements, state.comparison):
            say(line)


def _draw(state: Session, say: Any, details: bool) -> list[Path]:
    """Draw the results directory's pictures; the plotting package is imported only now."""
    start = time.monotonic()
    from plotting import draw_all

    folder = state.results_dir / "plots"
    try:
        report = Path(state.option("--report") or folder / "report.html")
        drawn = draw_all(state.results_dir, folder, report=report, details=details)
    except (UsageError, OSError) as why:  # a full disk must not end the session with the code of a breach
        say(f"no pictures: {why}")
        return []
    for left in drawn.left_out:
        say(f"left out: {left.path}: {left.reason}")
    for note in drawn.notes:
        say(note)
    for file in drawn.files:
        say(f"drawn: {os.path.relpath(file)}")
    say(f"{len(drawn.files)} files in {time.monotonic() - start:.1f} s")
    return list(drawn.files)
