"""What every kind of server gives to the rest: where it is, whether it lives, and how it is left.

Knows the errors only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

__all__ = ["Endpoint", "Say", "Served"]

Say = Callable[[str], None]  # tells a person what is being waited for, one line at a time


@dataclass(frozen=True)
class Endpoint:
    """Where a server answers. The key never shows in a repr, and so in no traceback or report."""

    base_url: str  # without a trailing slash and without /v1
    api_key: str | None = field(default=None, repr=False)
    insecure: bool = False  # TLS is not verified; recorded in the result

    @property
    def headers(self) -> dict[str, str]:
        """The headers of each request to it."""
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}


@runtime_checkable
class Served(Protocol):
    """A server of any origin: attached, local, in a Slurm job, simulated."""

    kind: str  # attach, local, slurm, sim
    endpoint: Endpoint

    def gone(self) -> str | None:
        """Why it is no longer there, in words for a person; None while nothing speaks against it. Cheap."""

    def wait_for_return(self, say: Say) -> bool:
        """After `gone`: wait for it to come back (a requeued job). True when it serves again, maybe elsewhere."""

    def facts(self) -> dict[str, Any]:
        """What results say of its origin (job id, node list, ...). Holds no secret."""

    def stop(self) -> None:
        """Stop what was started by us, and only that. May be called twice."""
