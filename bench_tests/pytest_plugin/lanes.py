"""`--parallel-configs K`: the configurations side by side, K at a time, each with a server and a load of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from bench_tests.errors import NotMeasured
from bench_tests.measure.point import Measurement, Sweep
from bench_tests.pytest_plugin.servers import Servers
from bench_tests.pytest_plugin.state import Session
from bench_tests.sweep.point import Point

__all__ = ["Lanes"]

Measure = Callable[[Session, Sweep, Point, int], Awaitable[Measurement]]


@dataclass
class Lanes:
    """Measures all cases of the session in tasks beside the cases, which wait for their own."""

    state: Session
    servers: Servers
    measure: Measure
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _found: dict[tuple[Point, int], asyncio.Future[Measurement]] = field(default_factory=dict)

    async def get(self, point: Point, run: int) -> Measurement:
        """The measurement of this case. Raises what measuring it raised; cancelled, it ends all of them in order."""
        if not self._tasks:
            self._begin()
        with self.state.terminal.uncaptured():
            try:
                return await asyncio.shield(self._found[point, run])
            except asyncio.CancelledError:
                await self.stop()
                raise

    def _begin(self) -> None:
        loop, wide = asyncio.get_running_loop(), int(self.state.option("--parallel-configs"))
        configs = list(dict.fromkeys(point.config for point, _ in self.state.selected))
        wide = min(wide, len(configs))
        hosts = list(self.servers.hosts)
        places: asyncio.Queue[list[str]] = asyncio.Queue()
        for place in range(wide):
            places.put_nowait(hosts[place::wide] if len(hosts) >= wide else hosts)
        if wide > 1 and len(hosts) < wide:
            where = f"{len(hosts)} load host(s)" if hosts else "this host"
            self.state.terminal.say(
                f"note: {wide} configurations are loaded at a time from {where}: their clients share its CPUs"
            )
        self._found = {case: loop.create_future() for case in self.state.selected}
        self._tasks = [loop.create_task(self._lane(config, places)) for config in configs]

    async def _lane(self, config: str, places: asyncio.Queue[list[str]]) -> None:
        hosts = await places.get()
        server = self.servers.of(config, hosts)
        server.beside = True
        try:
            for point, run in server.cases:
                await self._case(server.at(run), point, run)
        finally:
            await server.stop()
            places.put_nowait(hosts)

    async def _case(self, at: Awaitable[Sweep], point: Point, run: int) -> None:
        future = self._found[point, run]
        try:
            found = self.state.measurements[point, run] = await self.measure(self.state, await at, point, run)
        except asyncio.CancelledError:
            future.cancel()
            raise
        except NotMeasured as why:  # the others of this configuration say so too
            _fail(future, why)
        except Exception as why:  # wrong usage, or a defect of ours: its case tells it
            _fail(future, why)
            raise
        else:
            future.set_result(found)

    async def stop(self) -> None:
        """End what still runs, with what was measured kept, and wait for it. May be called twice."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


def _fail(future: asyncio.Future[Measurement], why: Exception) -> None:
    future.set_exception(why)
    future.exception()  # seen: a case that is never asked for it is no defect
