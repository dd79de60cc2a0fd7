"""Processes of this machine, for tests that must leave none, and waiting for what others do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["alive", "wait_for"]


def alive(marker: str) -> list[int]:
    """Processes whose command line holds the marker; this one and zombies (which have none) left out."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and marker in (entry / "cmdline").read_bytes().decode("utf-8", "replace"):
                found.append(int(entry.name))
        except OSError:
            pass
    return [pid for pid in found if pid != os.getpid()]


def wait_for(condition: Callable[[], object], timeout_s: float = 20.0) -> bool:
    """True as soon as it holds, False when it does not in time."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return bool(condition())
