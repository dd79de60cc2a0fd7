"""What a check of a run is, and what the checks are told beside its records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench_tests.sweep.point import Point
from bench_tests.sweep.slo import Objective

__all__ = ["Check", "RunFacts"]


@dataclass(frozen=True)
class Check:
    """One reason to doubt a run, looked into. `text` says what is wrong and what to do; a note when `ok`.

    Where `made` is false it could not be looked into, and `text` says why.
    """

    name: str
    ok: bool
    figure: float | None
    limit: float | None
    unit: str
    text: str = ""
    made: bool = True

    @classmethod
    def not_made(cls, name: str, why: str) -> Check:
        """A check for which the run has no data."""
        return cls(name, True, None, None, "", why, made=False)

    def as_dict(self) -> dict[str, Any]:
        if not self.made:
            return {"name": self.name, "why": self.text}
        return {key: value for key, value in self.__dict__.items() if key != "made"}


@dataclass(frozen=True)
class RunFacts:
    """What the checks need beside the records."""

    point: Point
    num_prompts: int
    prefix_len: int = 0  # tokens that each prompt shares with others
    prefix_hit: int = 0  # of them those that a cache of whole blocks must hit, where they are shared on purpose
    chat: bool = False  # the load was a chat
    models: int = 1  # that the requests name, by turns
    primes: int = 0  # requests that put the prefixes into the cache
    shareable: int = 0  # prompt tokens that a trace has in common with earlier requests of its own, at most
    request_rate: float = math.inf
    client: Sequence[Mapping[str, Any]] = ()  # one entry a load process, as it describes itself
    stopped: str = ""
    cached_tokens: float | None = None  # by the server's own counters, warm-ups included
    preemptions: float = 0.0  # requests that the server took back and computed again
    not_counted: str = ""  # why the server's counters are not used, in words
    server_changes: Sequence[str] = ()  # what was another before than after, in words
    asserted: Sequence[Objective] = ()
    calibrated_events_per_s: float | None = None  # up to which one load process was found true here
    calibrated_bound: float | None = None  # beyond it one was found not to be; None: no such load is known
    calibration_file: str = ""
    server_side: Mapping[str, Any] = field(default_factory=dict)  # `server_side` of the result
    speculative: bool = False  # whether the server drafts tokens, by its own counters
    extra: Sequence[Check] = field(default_factory=tuple)
