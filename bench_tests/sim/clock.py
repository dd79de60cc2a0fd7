"""Calls at absolute times, to some microseconds, inside an asyncio loop (whose own timers round up to 1 ms)."""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import os
import time
from typing import Protocol

__all__ = ["Clock", "Due", "die_with_parent", "now_ns", "real_minus_mono_ns"]

now_ns = time.monotonic_ns
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLOCK_MONOTONIC, _NONBLOCK, _CLOEXEC, _ABSTIME = 1, 0o4000, 0o2000000, 1
_PR_SET_PDEATHSIG, _PR_SET_TIMERSLACK = 1, 29
_TURN_NS = 4_000_000  # after this long in one burst the loop may read its sockets


class Due(Protocol):
    """What the clock calls."""

    def fire(self, due: int) -> int:
        """Called at or just after `due` (ns, CLOCK_MONOTONIC); returns when to be called again, 0 for never."""


class _TimerSpec(ctypes.Structure):
    # struct itimerspec: interval, then value
    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns")]


def die_with_parent(signal: int) -> None:
    """Ask the kernel for `signal` when the thread that started this process ends (prctl PR_SET_PDEATHSIG)."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0)


def real_minus_mono_ns() -> int:
    """CLOCK_REALTIME − CLOCK_MONOTONIC, from the tightest of five brackets."""
    best = offset = 0
    for _ in range(5):
        before = now_ns()
        real = time.time_ns()
        after = now_ns()
        if not best or after - before < best:
            best, offset = after - before, real - (before + after) // 2
    return offset


class Clock:
    """A heap of deadlines behind one timerfd; busy-waits for the last `spin_us` before each."""

    def __init__(self, loop: asyncio.AbstractEventLoop, spin_us: float) -> None:
        _LIBC.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
        self._loop = loop
        self._spin = int(spin_us * 1000)
        self._heap: list[tuple[int, int, Due]] = []
        self._count = 0
        self._armed = 0
        self._turning = False
        self._spec = _TimerSpec(0, 0, 0, 0)
        self._fd = _LIBC.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK | _CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed; the simulated server needs Linux")
        loop.add_reader(self._fd, self._wake)

    def at(self, due: int, what: Due) -> None:
        """Fire `what` at `due`."""
        self._count += 1
        heapq.heappush(self._heap, (due, self._count, what))
        if not self._turning and self._heap[0][0] == due:
            self._arm()

    def close(self) -> None:
        """Forget all deadlines."""
        self._heap.clear()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _arm(self) -> None:
        due = self._heap[0][0] - self._spin
        if due == self._armed:
            return
        self._armed = due
        due = max(due, 1)  # zero would disarm; what is past fires at once
        self._spec.at_s, self._spec.at_ns = divmod(due, 1_000_000_000)
        _LIBC.timerfd_settime(self._fd, _ABSTIME, ctypes.byref(self._spec), None)

    def _wake(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # armed again in the meantime
        self._armed = 0
        self._turn()

    def _turn(self) -> None:
        heap, spin, now = self._heap, self._spin, now_ns
        replace, pop = heapq.heapreplace, heapq.heappop
        self._turning = True
        end = now() + _TURN_NS
        while heap:
            entry = heap[0]
            due = entry[0]
            t = now()
            if due > t:
                if due - t > spin:
                    break
                while now() < due:
                    pass
            elif t > end:
                self._loop.call_soon(self._turn)  # late: let requests in and answers out, then go on
                return
            what = entry[2]
            try:
                again = what.fire(due)
            except Exception as why:  # one stream's fault must not stop the others' clock
                again = 0
                self._loop.call_exception_handler({"message": "simulated server", "exception": why})
            if heap[0] is not entry:  # something was put before it meanwhile
                heap.remove(entry)
                heapq.heapify(heap)
                if again:
                    heapq.heappush(heap, (again, entry[1], what))
            elif again:
                replace(heap, (again, entry[1], what))
            else:
                pop(heap)
        self._turning = False
        if heap:
            self._arm()
