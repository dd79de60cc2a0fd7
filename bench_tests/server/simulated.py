"""The simulated server as a server to measure, described by a profile's [sim] table."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from bench_tests.server.served import Endpoint, Say
from bench_tests.server.sim_settings import sim_spec
from bench_tests.sim.simulator import Simulator
from bench_tests.sweep.profile import Profile

__all__ = ["SimulatedServer"]


@dataclass
class SimulatedServer:
    """Runs the simulated server as a child process. Everything measured on it is marked SIMULATED."""

    simulator: Simulator
    endpoint: Endpoint
    kind: str = "sim"
    start_s: dict[str, float] = field(default_factory=dict)

    @classmethod
    async def start(cls, profile: Profile) -> SimulatedServer:
        """Start it with the engine that the profile's [sim] describes. Raises ServerError."""
        simulator, began = Simulator(sim_spec(profile)), time.monotonic()
        url = simulator.start()
        return cls(simulator, Endpoint(url), start_s={"ready": round(time.monotonic() - began, 3)})

    async def gone(self) -> str | None:
        return None if self.simulator.alive else "the simulated server has ended"

    async def wait_for_return(self, say: Say) -> bool:
        return False

    def facts(self) -> dict[str, Any]:
        return {"kind": self.kind, "pids": self.simulator.pids}

    async def stop(self) -> None:
        await asyncio.to_thread(self.simulator.stop)
