"""What pytest reports of a case, the session's exit code, and the summary at its end."""

from __future__ import annotations

import os
import shlex
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench_tests.compare.baseline import save_baseline
from bench_tests.errors import BenchError, NotMeasured, ServerGone
from bench_tests.pytest_plugin import history
from bench_tests.pytest_plugin.anywhere import what_there_is
from bench_tests.pytest_plugin.cases import our_fixtures
from bench_tests.pytest_plugin.ci import github_annotations, summary_markdown
from bench_tests.pytest_plugin.pictures import draw
from bench_tests.pytest_plugin.state import MEASURED, STATE
from bench_tests.verdict.decide import ERROR, PASSED


@pytest.hookimpl(optionalhook=True)
def pytest_json_runtest_metadata(item: pytest.Item, call: pytest.CallInfo[None]) -> dict[str, Any]:
    """pytest-json-report: the case's whole result goes into the session's index."""
    found = item.stash.get(MEASURED, None)
    return {"bench": dict(found[-1].result)} if found else {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report: Any = yield
    state = item.config.stash[STATE]
    ours = our_fixtures(item)
    if not ours:
        state.breaches += report.failed  # a test of another kind: that it failed must not hide behind our exit code
        return report
    # without an exception: a case that was to fail, and passed
    said_so = call.excinfo is None or call.excinfo.errisinstance((AssertionError, pytest.fail.Exception))
    breached = call.when == "call" and report.failed and said_so
    # whatever else ended a case, a defect of ours included, has said nothing of the server
    state.not_measured |= report.failed and not breached
    if call.excinfo is not None and call.excinfo.errisinstance(BenchError):
        report.longrepr = str(call.excinfo.value)  # one line: a traceback into this suite helps nobody
        if call.excinfo.errisinstance(ServerGone):
            item.session.shouldstop = str(call.excinfo.value)
        if call.when == "call":
            report.when = (
                "setup"  # ERROR and no failure, as where a fixture could not measure: pytest goes by the phase
            )
    found = item.stash.get(MEASURED, [])
    if breached:
        state.breaches += 1
        if call.excinfo is not None and {"measured", "capacity"} & ours:
            report.longrepr = str(call.excinfo.value).partition("\nassert ")[0]
    # told below the table, with its run, its limit and unit: not once more among pytest's failures and in its summary
    report.bench_told = (
        report.failed
        and isinstance(report.longrepr, str)
        and any(measurement.verdict.word != PASSED for measurement in found)
    )
    if found and state.budgeted is None and (call.when == "call" or (call.when == "setup" and report.failed)):
        for measurement in found:
            state.terminal.point(measurement)
    return report


def pytest_report_teststatus(
    report: pytest.TestReport | pytest.CollectReport, config: pytest.Config
) -> tuple[str, str, str] | None:
    """Points have lines of their own; the dot would stand in them."""
    if report.nodeid not in config.stash[STATE].cases:
        return None
    when = getattr(report, "when", "")
    if when == "call" and report.outcome in ("passed", "failed"):
        return report.outcome, "", report.outcome.upper()
    return ("error", "", "ERROR") if when in ("setup", "teardown") and report.failed else None


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before the JSON report, which writes the status down
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, None, None]:
    state = session.config.stash[STATE]
    history.end(state)
    if state.no_server:
        session.exitstatus = ServerGone.exit_code
    elif exitstatus == pytest.ExitCode.TESTS_FAILED and state.not_measured and not state.breaches:
        session.exitstatus = NotMeasured.exit_code
    yield
    if state.interrupted and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.INTERRUPTED


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around pytest's own, which lists the failures
def pytest_terminal_summary(
    terminalreporter: Any, exitstatus: int, config: pytest.Config
) -> Generator[None, None, None]:
    stats = terminalreporter.stats
    counted = {word: stats[word] for word in ("failed", "error") if word in stats}
    for word, reports in counted.items():
        stats[word] = [report for report in reports if not getattr(report, "bench_told", False)]
    try:
        yield
    finally:
        stats.update(counted)  # the last line counts them


@pytest.hookimpl(specname="pytest_terminal_summary")
def pytest_terminal_summary_of_sweep(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    state = config.stash[STATE]
    measurements = list(state.measurements.values())
    if not measurements:
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and state.typed_keyword and state.points:
            terminalreporter.write_line(what_there_is(state.typed_keyword, state.points))
        return
    say = terminalreporter.write_line
    state.terminal.summary(measurements, state.comparison, state.capacities, state.against)
    history.tell(state, terminalreporter)
    if folder := state.option("--save-baseline"):
        try:
            count = save_baseline(Path(folder), [m.path for m in measurements if m.verdict.word != ERROR])
            say(f"baseline: {count} result{'s' * (count != 1)} kept in {folder}")
        except NotMeasured as why:
            say(f"no baseline kept: {why}")
    pictures = [] if state.option("--no-plot") else draw(state, say, details=False)
    compared = state.against or state.option("--baseline")
    own, page = state.option("--summary-md"), os.environ.get("GITHUB_STEP_SUMMARY")
    for file, place in ((own, Path(own or ".").absolute().parent), (page, None)):
        if not file:
            continue
        try:
            with open(file, "a", encoding="utf-8") as out:
                out.write(
                    summary_markdown(measurements, state.comparison, compared, pictures, state.terminal.further, place)
                )
        except OSError as why:
            say(f"no summary in {file}: {why.strerror}")
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in github_annotations(measurements, state.comparison):
            say(line)
    if exitstatus == pytest.ExitCode.INTERRUPTED:
        say(f"to go on where this ended: {resume_command(config.invocation_params.args)}")


def resume_command(args: Sequence[str]) -> str:
    """The command of this session, with --resume."""
    return shlex.join(["pytest", *args, *(["--resume"] if "--resume" not in args else [])])
