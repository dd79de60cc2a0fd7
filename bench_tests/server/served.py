"""What every kind of server gives to the rest: where it is, whether it lives, and how it is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

__all__ = ["Endpoint", "Say", "Served"]

Say = Callable[[str], None]  # tells a person what is being waited for, one line at a time


@dataclass(frozen=True)
class Endpoint:
    """Where a server answers. The key never shows in a repr, and so in no traceback or report."""

    base_url: str  # without a trailing slash, without /v1 and without a query
    api_key: str | None = field(default=None, repr=False)
    insecure: bool = False  # TLS is not verified; recorded in the result
    extra: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # further headers, by --header; may hold keys
    query: str = field(default="", repr=False)  # what each URL ends with, such as api-version=1; may hold a key

    @property
    def headers(self) -> dict[str, str]:
        """The headers of each request to it. One that --header names takes the place of the key's."""
        own = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        named = {name.lower() for name, _ in self.extra}
        return {name: value for name, value in own.items() if name.lower() not in named} | dict(self.extra)

    @property
    def secrets(self) -> tuple[str, ...]:
        """All that must show in no message and no file."""
        return tuple(value for value in (self.api_key, *(value for _, value in self.extra)) if value)

    def url(self, path: str) -> str:
        """The full URL of a path such as /v1/models."""
        return f"{self.base_url}{path}{'?' + self.query if self.query else ''}"


@runtime_checkable
class Served(Protocol):
    """A server of any origin: attached, local, in a Slurm job, simulated."""

    kind: str  # attach, local, slurm, sim
    endpoint: Endpoint

    # who starts a server also has `start_s`: how long that took, by ready, load and compile

    async def gone(self) -> str | None:
        """Why it is no longer there, in words for a person; None while nothing speaks against it. Cheap."""

    async def wait_for_return(self, say: Say) -> bool:
        """After `gone`: wait for it to come back (a requeued job). True when it serves again, maybe elsewhere."""

    def facts(self) -> dict[str, Any]:
        """What results say of its origin (job id, node list, ...). Holds no secret."""

    async def stop(self) -> None:
        """Stop what was started by us, and only that. May be called twice."""
