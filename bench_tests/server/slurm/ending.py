"""How a server's job ends in order: TERM is noted, the server unpublished at once, and then told to stop where it runs.

A step is told by Slurm and not by its srun, which answers TERM by killing the step.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable
from types import FrameType

from bench_tests.server.process import ServerProcess

__all__ = ["Stop", "end", "wait_for_end"]

_POLL_S = 0.1
_ASK_S = 10.0


class Stop:
    """TERM and INT, noted. `unpublish` is called at the first: nobody is to find a server that is going down."""

    def __init__(self) -> None:
        self.asked = False
        self.unpublish: Callable[[], object] = lambda: None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self.unpublish()


def wait_for_end(process: ServerProcess, stop: Stop) -> None:
    """Return when the server has ended or we were told to stop."""
    while process.ended() is None and not stop.asked:
        time.sleep(_POLL_S)


def end(process: ServerProcess, job_id: str | None, timeout_s: float, say: Callable[[str], None]) -> None:
    """Stop the server in order, within `timeout_s`, then by force. `job_id`: its steps are the server; None: a child is."""
    if job_id is not None and process.ended() is None:
        told = _term_steps(job_id)
        if told:
            say(f"TERM to the server ({told})")
        limit = time.monotonic() + timeout_s
        while process.ended() is None and time.monotonic() < limit:
            time.sleep(_POLL_S)
        if process.ended() is None:
            say(f"the server did not stop within {timeout_s:g} s of TERM (server.stop_timeout): it is killed")
    process.stop()


def _term_steps(job_id: str) -> str:
    """Signal the job's own steps; what was signalled, in words. Nothing while Slurm itself ends the job: it has told them."""
    state = _slurm("squeue", "-h", "-o", "%T", "-j", job_id).strip()
    if state not in ("RUNNING", "SIGNALING", ""):
        return ""
    steps = re.findall(rf"^{re.escape(job_id)}\.\d+$", _slurm("squeue", "-h", "-s", "-o", "%i", "-j", job_id), re.M)
    asked = steps or [job_id]  # without the batch step: that is us
    _slurm("scancel", "--signal=TERM", *asked)
    return f"step {' '.join(steps)}" if steps else f"the steps of job {job_id}"


def _slurm(*argv: str) -> str:
    try:
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_ASK_S
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
