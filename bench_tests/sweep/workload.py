"""What a profile can say of loads that are not random prompts at one rate: `[workload]`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bench_tests.errors import UsageError
from bench_tests.sweep.keys import key, maybe, number, one_of, whole
from bench_tests.sweep.ramp import parse_ramp
from bench_tests.sweep.sessions import SYNTHETIC
from bench_tests.sweep.units import parse_duration_s

__all__ = ["TRACE_FORMATS", "Workload", "window_s"]

TRACE_FORMATS = ("auto", "mooncake", "bailian", "burstgpt", "azure")


def window_s(text: str, where: str = "--window") -> tuple[float, float]:
    """The two ends of `FROM:TO` in seconds; an empty end is the trace's own. Raises UsageError."""
    low, colon, high = text.partition(":")
    start_s = 0.0 if low.strip() in ("", "0", "0s", "0m", "0h") else parse_duration_s(low, where)
    end_s = math.inf if not high.strip() else parse_duration_s(high, where)
    if not colon or not start_s < end_s:
        raise UsageError(f"{where}: {text!r}; expected FROM:TO such as 10m:20m, FROM before TO")
    return start_s, end_s


def _window(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{where}: {value!r}; expected FROM:TO such as 10m:20m")
    if value:
        window_s(value, where)
    return value


def _ramp(value: object, where: str) -> str:
    return str(parse_ramp(value, where) or "")  # one spelling: results compare by it


@dataclass(frozen=True)
class Workload:
    """Where requests come from when they are not random prompts of a point's lengths."""

    trace: str = key(
        maybe, "", "a recorded trace: its file; arrivals, lengths and shared content are from there", shapes=False
    )
    trace_format: str = key(one_of(*TRACE_FORMATS), "auto", "the trace's format; auto: by its first line", shapes=False)
    speed: float = key(number(0, above=True), 1.0, "a trace is replayed so many times as fast")
    window: str = key(_window, "", "the part of a trace that is replayed, FROM:TO of its own time; empty: all of it")
    tick_spread: str = key(
        one_of("none", "uniform"),
        "none",
        "requests that share a time of a trace: together, or spread up to its next time",
    )
    dataset: str = key(maybe, "", "prompts of a file: ShareGPT's JSON, or JSONL of prompts or messages", shapes=False)
    dataset_order: str = key(one_of("shuffled", "file", "longest"), "shuffled", "the order in which they are sent")
    dataset_osl: int = key(whole(0), 0, "output tokens of each; 0: as the file says, else its answer's length")
    min_isl: int = key(whole(1), 4, "shorter prompts of a dataset are not drawn, tokens")
    max_isl: int = key(whole(1), 8192, "longer prompts of a dataset are not drawn, tokens")
    sessions: str = key(
        maybe, "", "conversations of several turns: synthetic ([sessions]), or a file of them", shapes=False
    )
    ramp: str = key(_ramp, "", "a rate that changes: LOW:HIGH/DURATION, with /STEPS in so many steps")

    @property
    def closed_loop(self) -> bool:
        """Whether requests can wait for others to end: a trace and a ramp say themselves when each starts."""
        return not (self.trace or self.ramp or self.sessions)

    @property
    def name(self) -> str:
        """What points and files of this workload are called; empty for random prompts."""
        file, kind = (self.trace, "trace") if self.trace else (self.dataset, "dataset")
        if self.sessions:
            file, kind = ("" if self.sessions == SYNTHETIC else self.sessions), "sessions"
        if not file:
            return kind if self.sessions else "ramp" if self.ramp else ""
        stem = re.sub(r"[^a-z0-9]+", "_", Path(file).stem.lower()).strip("_")[:40]
        return f"{kind}_{stem}" if stem else kind

    def of_users(self, users: int) -> str:
        """What a point of so many users is called: `users32`, with a file `sessions_mine_users32`."""
        return f"users{users}" if self.sessions == SYNTHETIC else f"{self.name}_users{users}"

    def shape(self) -> dict[str, Any]:
        """What of it shapes the load, by key, as far as it is said: results of random prompts stay as they were."""
        said = {f.name: getattr(self, f.name) for f in fields(self) if f.metadata["shapes"]}
        return {name: value for name, value in said.items() if value != type(self).__dataclass_fields__[name].default}
