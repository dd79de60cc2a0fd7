"""One load process of a run: started, told, and ended. What it says is heard by the team."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from bench_tests.errors import NotMeasured
from bench_tests.load.plan import LoadPlan
from bench_tests.paths import ROOT

__all__ = ["LoadProcess"]

LINE_LIMIT = 1 << 24  # bytes of one line that it says
EXIT_S = 5.0  # for a process that is done to end by itself


@dataclass
class LoadProcess:
    """A process that carries its share of a plan."""

    plan: LoadPlan
    process: asyncio.subprocess.Process
    stderr: IO[bytes]
    state: str = "starting"  # starting, prepared, warm, done
    facts: dict[str, Any] = field(default_factory=dict)
    records: bytes = b""
    measured: bool = False  # its part of a staggered start's measured requests has ended

    @classmethod
    async def start(cls, plan: LoadPlan, prefix: Sequence[str]) -> LoadProcess:
        """Start it behind the command `prefix` (empty: on this host) and tell it its plan. Raises OSError."""
        stderr = tempfile.TemporaryFile()  # noqa: SIM115  # read when the process dies without a word
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        try:
            process = await asyncio.create_subprocess_exec(
                *prefix, sys.executable, "-m", "bench_tests.load.worker",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=stderr,
                start_new_session=True,  # Ctrl-C is for the suite, which then stops the load in order
                limit=LINE_LIMIT,
                env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        except BaseException:
            stderr.close()
            raise
        self = cls(plan, process, stderr)
        self.tell(plan.to_json())  # the key is in it: kept in no variable that a traceback could show
        return self

    @property
    def out(self) -> asyncio.StreamReader:
        """What it says."""
        if self.process.stdout is None:  # pragma: no cover  # it was asked for as a pipe
            raise AssertionError
        return self.process.stdout

    def tell(self, line: str) -> None:
        """Write a line to it without waiting for it to be read; one that has died says so by its output."""
        with contextlib.suppress(OSError, RuntimeError):
            if self.process.stdin is not None and not self.process.stdin.is_closing():
                self.process.stdin.write(line.encode() + b"\n")

    async def death(self) -> NotMeasured:
        """Why it ended without its records: its status, and the last line of its standard error."""
        status = await self.process.wait()
        self.stderr.seek(0)
        said = self.stderr.read().decode("utf-8", "replace").strip().splitlines()
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return NotMeasured(
            f"load process {self.plan.worker} ended with {how}: {said[-1] if said else 'it said nothing'}"
        )

    def kill(self) -> None:
        """End it now."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def close(self) -> None:
        """Wait for its end, which comes by itself when it is done; else it is killed."""
        if self.state != "done":
            self.kill()
        elif self.process.stdin is not None:
            self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), EXIT_S)
        except TimeoutError:
            self.kill()
            await self.process.wait()
        finally:
            self.stderr.close()
