"""The fixtures: the session's server, and the measurement of a case's point."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from bench_tests.calibration.store import load_calibrations
from bench_tests.compare.history.trend import Trend
from bench_tests.compare.regression import SweepComparison
from bench_tests.compare.sides import compare_sides
from bench_tests.compare.words import change_line
from bench_tests.errors import NotMeasured, ServerGone, ServerStuck, UsageError
from bench_tests.load.hosts import load_hosts
from bench_tests.measure.point import Measurement, Sweep
from bench_tests.pytest_plugin import against, budget, history
from bench_tests.pytest_plugin.bench import Bench
from bench_tests.pytest_plugin.lanes import Lanes
from bench_tests.pytest_plugin.leave import leave
from bench_tests.pytest_plugin.servers import Servers, check, or_leave
from bench_tests.pytest_plugin.state import MEASURED, STATE, Session
from bench_tests.results.lock import FolderLock
from bench_tests.server.choose import choose
from bench_tests.sweep.point import Point
from bench_tests.verdict.decide import ERROR


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(fixturedef: Any, request: pytest.FixtureRequest) -> Generator[None, Any, Any]:
    """A cancellation that a signal asked for, when what was measured has been kept, is pytest's KeyboardInterrupt."""
    try:
        return (yield)
    except asyncio.CancelledError:
        if request.config.stash[STATE].interrupt.came:
            raise KeyboardInterrupt from None
        raise


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    try:
        return (yield)
    except asyncio.CancelledError:
        if pyfuncitem.config.stash[STATE].interrupt.came:
            raise KeyboardInterrupt from None
        raise


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def servers(request: pytest.FixtureRequest) -> AsyncIterator[Servers]:
    """The session's servers, each started when its first case comes, and stopped before the next one's."""
    state = request.config.stash[STATE]
    state.interrupt.install()
    state.interrupt.works()
    lock, found = FolderLock(state.results_dir), None
    try:
        if other := lock.take():
            with state.terminal.uncaptured() as say:
                say(f"warning: another sweep writes into {state.results_dir} ({other}): results of the same name replace each "
                    "other; give one of them another --results-dir")  # fmt: skip
        with or_leave(state):
            choice = state.choice = state.choice or await choose(state.option)
            check(state, choice)
            hosts = load_hosts(state.option("--load-hosts")) if state.option("--load-hosts") else []
        metadata = dict(request.config.getoption("metadata", None) or ())  # pytest-metadata's --metadata KEY VALUE
        found = Servers(state, choice, hosts, metadata, load_calibrations())
        first = found.first or await found.at("")
        state.run_id = first.run_id
        with or_leave(state):
            await against.begin(state, first)
        yield found
    finally:
        lock.release()
        if found is not None:
            await found.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def lanes(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Lanes | None]:
    """With --parallel-configs: what measures the configurations side by side."""
    state = request.config.stash[STATE]
    if int(state.option("--parallel-configs")) == 1 or not servers.choice.configs:
        yield None
        return
    found = Lanes(state, servers, partial(measure, alone=False))
    try:
        yield found
    finally:
        with state.terminal.uncaptured():
            await found.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sweep(request: pytest.FixtureRequest, servers: Servers) -> Sweep:
    """The session's one server, looked at before the first load, and what is measured on it. Ends the session without."""
    state, configs = request.config.stash[STATE], servers.choice.configs
    state.interrupt.works()
    with or_leave(state):
        if len(configs) > 1:
            raise UsageError(f"{servers.choice.profile.source}: a case of yours needs one server, and the profile has "
                             f"{len(configs)} configurations; name one: --config {configs[0]}")  # fmt: skip
    return await servers.at(configs[0] if configs else "")


@pytest_asyncio.fixture(loop_scope="session")
async def measured(request: pytest.FixtureRequest, servers: Servers, lanes: Lanes | None) -> Measurement:
    """The measurement of this case's point. Raises NotMeasured (pytest's ERROR) when it could not be measured."""
    state = request.config.stash[STATE]
    point, run = request.param
    state.interrupt.works()  # a start of the server is ended in order too
    if state.other is not None:
        sweep = await servers.at(point.config)
        counts = await against.measure_round(state, sweep, state.other, point, run, measure)
        for number in (2 * run - 1, 2 * run):
            attach(request.node, state.measurements[point, number])
        if counts.verdict.word == ERROR:
            raise NotMeasured("; ".join(counts.verdict.messages))
        return counts
    if state.budget_s is not None:
        sweep = await servers.at(point.config)
        return _of_case(request.node, await budget.measured(state, sweep, point, run, measure))
    found = state.measurements.get((point, run))
    if found is None and lanes is not None:
        found = await lanes.get(point, run)
    elif found is None:
        sweep = await servers.at(point.config, run)
        found = state.measurements[point, run] = await measure(state, sweep, point, run)
    return _of_case(request.node, found)


def _of_case(item: Any, found: Measurement) -> Measurement:
    """The measurement as its case has it. Raises NotMeasured (pytest's ERROR) where it says nothing of the server."""
    attach(item, found)
    if found.verdict.word == ERROR:
        raise NotMeasured("; ".join(found.verdict.messages))
    return found


@pytest_asyncio.fixture(loop_scope="session")
async def bench(request: pytest.FixtureRequest, sweep: Sweep) -> Bench:
    """What a case of the user's own measures with: `run = await bench.load(isl=2048, osl=128, conc=32)`."""
    state = request.config.stash[STATE]

    async def load(mine: Sweep, point: Point, run: int) -> Measurement:
        found = state.measurements[point, run] = await measure(state, mine, point, run)
        attach(request.node, found)
        return found

    return Bench(sweep, load, lambda point, run: (point, run) in state.measurements)


def attach(item: Any, found: Measurement) -> None:
    """Give a measurement's figures to its case's report: JUnit's properties, the JSON index, the terminal."""
    item.stash.setdefault(MEASURED, []).append(found)
    item.user_properties += _properties(found)


async def measure(state: Session, sweep: Sweep, point: Point, run: int, *, alone: bool = True) -> Measurement:
    """One run of a point: a reused result, or a new one, once more where the server came back.

    Raises ServerGone; for a configuration NotMeasured, as its other points will, for the next one has another server.
    `alone`: nothing else is measured meanwhile, so that this task is the one to cancel and has the terminal.
    """
    if state.option("--resume"):
        kept = sweep.kept(point, run)
        if kept is not None:
            state.terminal.pace.end((point, run), loaded=False)
            return kept
    if alone:
        state.interrupt.works()
    for last_try in (False, True):
        try:
            with state.terminal.live((point, run), *state.progress) if alone else nullcontext() as show:
                return await sweep.measure(point, run, show)
        except ServerGone as why:
            with state.terminal.uncaptured() if alone else nullcontext(state.terminal.say) as say:
                say(str(why))
                if last_try or isinstance(why, ServerStuck) or not await sweep.served.wait_for_return(say):
                    if point.config:
                        sweep.refused = str(why)
                        raise NotMeasured(str(why)) from None
                    state.no_server = str(why)
                    raise
        except UsageError as why:
            leave(why)
    raise AssertionError("unreachable")


def _properties(measurement: Measurement) -> list[tuple[str, object]]:
    """The figures of a case for JUnit and the JSON report, in plain types: a numpy scalar would drop them all."""
    result = measurement.result
    numbers = [(k, v) for k, v in result.items() if isinstance(v, bool | int | float | str) and k != "schema_version"]
    return [*numbers, ("verdict", measurement.verdict.word), ("result", measurement.path.name)]


@pytest.fixture(scope="session")
def comparison(request: pytest.FixtureRequest) -> SweepComparison:
    """This session's measurements against --baseline. Raises NotMeasured where there is nothing to compare."""
    from bench_tests.compare.baseline import compare

    state = request.config.stash[STATE]
    if state.other is not None:
        a, b = ({key: (m.path, m.result) for key, m in side.items()} for side in (state.measurements, state.others))
        state.comparison = compare_sides(a, b, state.other.profile.regression)
        return state.comparison
    if state.baseline is None:
        raise NotMeasured("there is no baseline; name one with --baseline DIR")
    measured = [(m.path, m.result) for m in state.measurements.values()]
    state.comparison, state.different = compare(
        measured,
        state.baseline,
        allow_different=bool(state.option("--allow-different")),
        rule=history.rule_of(state),
    )
    return state.comparison


@pytest.fixture
def compared(request: pytest.FixtureRequest, comparison: SweepComparison) -> Point:
    """This case's point, when it is in the comparison. Raises NotMeasured (pytest's ERROR) when it is not."""
    point: Point = request.param
    state = request.config.stash[STATE]
    if changes := comparison.of(point):
        request.node.user_properties += [(change.metric, change_line(change)) for change in changes]
        return point
    if state.other is not None:
        raise NotMeasured(f"{point}: there is no round in which both servers were measured")
    if point in state.different:
        raise NotMeasured(f"{point}: not comparable with the baseline: {'; '.join(state.different[point])}; compare "
                          "all the same with --allow-different")  # fmt: skip
    if point in comparison.new:
        raise NotMeasured(f"{point}: not in the baseline; keep one that has it with --save-baseline")
    raise NotMeasured(f"{point}: not measured, so not compared")


@pytest.fixture(scope="session")
def trend(request: pytest.FixtureRequest) -> Trend:
    """The history with this session in it. Raises NotMeasured where nothing of it was measured or it cannot be written."""
    found = history.keep(request.config.stash[STATE])
    if found is None:
        raise NotMeasured("nothing was measured, so the history has no session of it")
    return found
