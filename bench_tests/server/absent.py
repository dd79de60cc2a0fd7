"""A server that did not start, or that need not: what results say of it is what its profile says."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from bench_tests.server.attach import ENGINES, ServedModel
from bench_tests.server.served import Endpoint, Say
from bench_tests.sweep.profile import Profile

__all__ = ["AbsentServer", "expected_model"]


def expected_model(profile: Profile, kind: str) -> ServedModel:
    """What a server that has not been started would say of itself, as far as the profile tells."""
    command = " ".join(profile.server.serve_command)
    simulated = kind == "sim" or "bench_tests.server.simulator" in command
    words = re.split(r"[^a-z.]+", command.lower())
    engine = "sim" if simulated else next((engine for engine in ENGINES if engine in words), "")
    model = profile.model.id or ("simulated" if simulated else "")
    return ServedModel(model, (), None, "", simulated, engine=engine)


@dataclass
class AbsentServer:
    """Stands for a server that did not start, or that need not be started: nothing is sent to it."""

    kind: str
    endpoint: Endpoint = field(default_factory=lambda: Endpoint(""))

    async def gone(self) -> str | None:
        return "it was not started"

    async def wait_for_return(self, say: Say) -> bool:
        return False

    def facts(self) -> dict[str, Any]:
        return {"kind": self.kind}

    async def stop(self) -> None:
        return
