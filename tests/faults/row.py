"""One row of the fault matrix: a fault, how it is provoked, and what it must lead to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ERROR", "FAILED", "NOTHING", "PASSED", "Row"]

PASSED, FAILED, ERROR, NOTHING = "PASSED", "FAILED", "ERROR", "–"  # NOTHING: no point was begun


@dataclass(frozen=True)
class Row:
    """`words` must be in what is printed or kept; `verdict` is the worst one of all result files."""

    name: str
    fault: str  # what goes wrong, for a reader
    verdict: str
    exit: int
    words: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()  # of the simulated server
    spec: Mapping[str, Any] = field(default_factory=dict)  # other settings of it: it gets a server of its own
    options: tuple[str, ...] = ()
    profile: str = ""  # TOML that the row's profile has beyond the common one
    provoke: str = ""  # a function of provoke_servers.py or provoke_here.py
    how: str = ""  # in words, where the switches do not say it
    traceback: bool = False  # one is expected, and must not hold the key
    own_server: bool = False  # a fresh simulated server, because the fault outlives the row or counts requests

    @property
    def told_how(self) -> str:
        """How it is provoked, for the documentation."""
        if self.how:
            return self.how
        parts = [f"`{' '.join(f'--fault {s}' for s in self.switches)}`"] if self.switches else []
        parts += [f"`--{k.replace('_', '-')} {v}` of the simulated server" for k, v in self.spec.items()]
        parts += [f"`{' '.join(self.options)}`"] if self.options else []
        if not parts and self.profile:
            parts = ["`" + " ".join(self.profile.split()) + "` in the profile"]
        return ", ".join(parts) or "nothing"
