"""The clocks of the timed loop: stepped, stopped, or made to wait for a core."""

from __future__ import annotations

import time
from pathlib import Path

__all__ = ["ClockWatch", "run_delay_s"]

NS = 1_000_000_000


def realtime_offset_ns() -> int:
    """CLOCK_REALTIME − CLOCK_MONOTONIC, from the tightest of a few brackets."""
    best, offset = 1 << 62, 0
    for _ in range(3):
        before = time.monotonic_ns()
        real = time.time_ns()
        after = time.monotonic_ns()
        if after - before < best:
            best, offset = after - before, real - (before + after) // 2
    return offset


def run_delay_s() -> float:
    """How long this thread stood ready without a core so far, seconds; 0 where the kernel does not say."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / NS
    except (OSError, ValueError, IndexError):
        return 0.0


class ClockWatch:
    """Watches CLOCK_REALTIME, which the kernel stamps arrivals with, against CLOCK_MONOTONIC, which nobody sets."""

    def __init__(self) -> None:
        self._offset = realtime_offset_ns()
        self.worst_step_ns = 0

    def look(self) -> None:
        """Compare once; a step between two polls is kept when it is the largest. NTP's slewing is 0.5 ms/s at most."""
        offset = realtime_offset_ns()
        self.worst_step_ns = max(self.worst_step_ns, abs(offset - self._offset))
        self._offset = offset
