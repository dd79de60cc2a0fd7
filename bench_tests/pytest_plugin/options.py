"""The command line, and what happens before anything is collected: the choice of profile and server."""

from __future__ import annotations

import argparse
import asyncio
import inspect
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench_tests.compare.baseline import read_baseline
from bench_tests.errors import NotMeasured, ServerError, UsageError
from bench_tests.load.workload.source import lines_of
from bench_tests.pytest_plugin import against, budget, history
from bench_tests.pytest_plugin.anywhere import check_keyword, find_cases, refuse_plugins
from bench_tests.pytest_plugin.leave import leave
from bench_tests.pytest_plugin.pictures import draw
from bench_tests.pytest_plugin.state import STATE, Session, concerns_us, is_ours
from bench_tests.server.choose import choose
from bench_tests.sweep.find import find_of, searched
from bench_tests.sweep.options import ALSO, OPTIONS, hints
from bench_tests.sweep.point import rewrite_keyword
from bench_tests.sweep.selected import selected_points

WRITTEN = ("--save-baseline", "--summary-md", "--report")


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    group = parser.getgroup("bench", "LLM serving benchmark")
    _rename(parser, "--trace", "--pdb-trace")
    for flag, hint in hints(sys.argv[1:]).items():
        parser.extra_info[flag] = hint  # shown below pytest's own words, where it refuses the flag
    for option in OPTIONS:
        also = (ALSO[option.flag],) if option.flag in ALSO else ()
        kwargs = {"dest": option.dest, "help": option.help.replace("%", "%%"), **option.kwargs}
        try:
            group.addoption(option.flag, *also, **kwargs)
        except (ValueError, argparse.ArgumentError):
            # another plugin owns this flag. pytest-base-url means the same by --base-url: its value is used
            given = any(arg.partition("=")[0] == option.flag for arg in sys.argv[1:])
            if given and option.flag != "--base-url":
                name = _owner(option.flag, pluginmanager)
                raise pytest.UsageError(
                    f"{option.flag}: the plugin {name} has an option of this name too; leave that plugin out: -p no:{name}"
                ) from None


def _rename(parser: pytest.Parser, flag: str, name: str) -> None:
    """Give an option of pytest's own another name where a name of ours is the same.

    pytest's `--trace` (the debugger at the start of each test) takes no value: a load's `--trace FILE` would never be read.
    `--trace=FILE` is refused by pytest before it loads any plugin: there the option has its other name.
    """
    for group in parser._groups:
        for option in group.options:
            if flag not in option.names():
                continue
            action = getattr(option, "_action", None)
            if action is None:  # pytest 8 makes its parser later, from these names
                option._long_opts = [name]  # type: ignore[attr-defined]
                return
            known = group._arggroup._option_string_actions
            action.option_strings = [name]
            known[name] = known.pop(flag)
            return


def _owner(flag: str, plugins: pytest.PytestPluginManager) -> str:
    """The name, as `-p no:NAME` takes it, of the plugin whose source has this option."""
    for name, plugin in plugins.list_name_plugin():
        if (
            plugin is None
            or not hasattr(plugin, "pytest_addoption")
            or getattr(plugin, "__name__", "").startswith("bench_tests")
        ):
            continue
        try:
            module: Any = inspect.getmodule(plugin.pytest_addoption) or plugin
            source = inspect.getsource(module)
        except (OSError, TypeError):
            continue
        if f'"{flag}"' in source or f"'{flag}'" in source:
            return name
    return "that owns it"


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """--plot draws and leaves, --calibrate measures this client and leaves: no server, no collection."""
    if getattr(config.option, "bench_plot", False) and getattr(config.option, "bench_calibrate", False):
        raise pytest.UsageError("--plot and --calibrate: each leaves when it is done; give one of them")
    if getattr(config.option, "bench_plot", False):
        session = Session(config)
        drawn = draw(session, session.terminal.say_plain, details=True)
        if session.interrupted:
            return int(pytest.ExitCode.INTERRUPTED)
        return int(pytest.ExitCode.OK if drawn else pytest.ExitCode.USAGE_ERROR)
    if getattr(config.option, "bench_calibrate", False):
        from bench_tests.calibration.ladder import calibrate_command

        session = Session(config)
        return calibrate_command(session.option, session.terminal.say_plain, NotMeasured.exit_code)
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    session = config.stash[STATE] = Session(config)
    find_cases(config)
    if not concerns_us(config):
        return
    # our cases and fixtures name their loop themselves: that pytest-asyncio's default is not set says nothing to a user
    warnings.filterwarnings("ignore", 'The configuration option "asyncio_default_fixture_loop_scope"')
    refuse_plugins(config)
    if config.option.keyword:
        check_keyword(config)
        session.typed_keyword = config.option.keyword
        config.option.keyword = rewrite_keyword(config.option.keyword)
    if hasattr(config.option, "json_report") and not config.option.collectonly:
        config.option.json_report = True
        if config.option.json_report_file == ".report.json":
            config.option.json_report_file = str(session.results_dir / "report.json")


def pytest_sessionstart(session: pytest.Session) -> None:
    state = session.config.stash[STATE]
    if not is_ours(session.config):
        return
    try:
        state.choice = asyncio.run(choose(state.option))
        _writable(state)
        state.points = selected_points(state.choice.profile, state.option("--point"))
        against.check(state)
        budget.check(state)
        state.find = find_of(state.option)
        if state.find:
            state.points = searched(state.find, state.choice.profile, state.points)
        names = state.choice.configs
        state.points = [replace(point, config=name) for name in names or ("",) for point in state.points]
        if not session.config.option.collectonly:
            history.begin(state)
        if state.option("--baseline") and not session.config.option.collectonly:
            figures = history.rule_of(state).figures
            state.baseline = read_baseline(Path(state.option("--baseline")), figures=figures)
        state.workload_lines = lines_of(state.choice.profile.workload, state.choice.profile.sessions)
    except UsageError as why:
        raise pytest.UsageError(str(why)) from None
    except ServerError as why:
        leave(why, early=True)
    state.interrupt.install()
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.showfspath = False  # each point has a line of its own


def pytest_unconfigure(config: pytest.Config) -> None:
    if STATE in config.stash:
        config.stash[STATE].interrupt.remove()


def _writable(state: Session) -> None:
    """Whether what is to be written at the end can be: told before the sweep, not after it. Raises UsageError."""
    folder = state.option("--save-baseline")
    if folder and Path(folder).resolve() == state.results_dir.resolve():
        raise UsageError(
            f"--save-baseline {folder}: that is the folder of the results (--results-dir), which the next sweep writes into; "
            "name another one"
        )
    try:
        if not state.config.option.collectonly:
            state.results_dir.mkdir(parents=True, exist_ok=True)
    except OSError as why:
        raise UsageError(
            f"results cannot be written to {state.results_dir}: {why.strerror}; choose another --results-dir"
        ) from why
    try:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
        for file in filter(None, (state.option("--summary-md"), state.option("--report"))):
            Path(file).parent.mkdir(parents=True, exist_ok=True)
        if file := state.option("--summary-md"):
            with open(file, "a", encoding="utf-8"):
                pass
    except OSError as why:
        flag = next(
            (flag for flag in WRITTEN if state.option(flag) and str(why.filename) == str(state.option(flag))), ""
        )
        place = f"{flag} {why.filename}".lstrip()
        raise UsageError(f"{place}: {why.strerror}; choose a place that can be written") from why
    if (history_dir := state.option("--history")) and Path(history_dir).exists() and not Path(history_dir).is_dir():
        raise UsageError(f"--history {history_dir}: it is a file; name a folder, which need not be there yet")
    if (report := state.option("--report")) and Path(report).is_dir():
        raise UsageError(
            f"--report {report}: it is a folder; name the file in it, such as {Path(report) / 'report.html'}"
        )
