"""The fixture `capacity`: the outcome of a case's search."""

from __future__ import annotations

import pytest
import pytest_asyncio

from bench_tests.compare.capacity import Capacity
from bench_tests.errors import NotMeasured
from bench_tests.measure.capacity import find_capacity
from bench_tests.measure.point import Measurement, Sweep
from bench_tests.pytest_plugin.fixtures import measure
from bench_tests.pytest_plugin.servers import Servers
from bench_tests.pytest_plugin.state import STATE
from bench_tests.sweep.point import Point


@pytest_asyncio.fixture(loop_scope="session")
async def capacity(request: pytest.FixtureRequest, servers: Servers) -> Capacity:
    """The capacity at this case's ISL and OSL. Raises NotMeasured (pytest's ERROR) where nothing can be said of it."""
    state = request.config.stash[STATE]
    start: Point = request.param
    assert state.find is not None

    async def probe(mine: Sweep, point: Point, run: int) -> Measurement:
        found = state.measurements[point, run] = await measure(state, mine, point, run)
        with state.terminal.uncaptured():
            state.terminal.point(found)
        return found

    state.interrupt.works()
    sweep = await servers.at(start.config)
    found = await find_capacity(sweep, state.find, start, probe)
    state.capacities.append(found)
    request.node.user_properties += [("capacity", found.words), ("within", found.lo), ("beyond", found.hi)]
    if found.unclear:
        raise NotMeasured(found.unclear)
    return found
