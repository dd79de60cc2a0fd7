"""Ctrl-C and SIGTERM: the first ends the running point in order, with what was measured kept; a second ends at once."""

from __future__ import annotations

import asyncio
import signal
from types import FrameType
from typing import Any

__all__ = ["Interrupt"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """The handler of both signals while a session runs.

    It cancels the task that works for us, and leaves that time to keep what it has; where none does, or at the second
    signal, it raises KeyboardInterrupt. SIGINT stays ignored where it was (a shell's `&`); SIGTERM works there all the
    same.
    """

    def __init__(self) -> None:
        self.came = False
        self._task: asyncio.Task[Any] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """Take the signals over. May be called twice."""
        for one in SIGNALS:
            if one not in self._before and signal.getsignal(one) is not signal.SIG_IGN:
                self._before[one] = signal.signal(one, self)

    def remove(self) -> None:
        """Give the signals back."""
        while self._before:
            signal.signal(*self._before.popitem())

    def works(self) -> None:
        """The caller's task is the one to cancel."""
        self._task = asyncio.current_task()

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        task = self._task
        if self.came or task is None or task.done():
            raise KeyboardInterrupt
        self.came = True
        task.cancel()
        task.get_loop().call_soon_threadsafe(lambda: None)  # it may be waiting for sockets
