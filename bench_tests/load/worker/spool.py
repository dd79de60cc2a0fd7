"""Bytes that only grow, kept in memory up to a chunk and then in an unnamed file, so that an hour's load does not swell.

A point of up to 260,000 events and 14,000 requests fills no chunk and touches no disk.
"""

from __future__ import annotations

import contextlib
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from bench_tests.errors import NotMeasured

__all__ = ["Spool"]

CHUNK = 2 << 20


class Spool:
    """Append bytes, and read all of them back at the end. A thread writes the full chunks: a disk may be slow."""

    def __init__(self, chunk: int = CHUNK) -> None:
        self.chunk = chunk
        self._tail = bytearray()
        self._file: IO[bytes] | None = None
        self._written = 0  # bytes of whole chunks in the file
        self._unwritten: list[bytearray] = []  # what the disk did not take: nothing that was measured is lost by it
        self._thread: ThreadPoolExecutor | None = None

    def append(self, data: bytes) -> None:
        """Keep these bytes."""
        self._tail += data
        if len(self._tail) >= self.chunk:
            full, self._tail = self._tail, bytearray()
            self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="spool")
            self._thread.submit(self._write, full)

    def read(self) -> bytearray:
        """All bytes so far, and the end of appending. Raises NotMeasured when the file cannot be read."""
        if self._thread is not None:
            self._thread.shutdown()  # waits for what is being written
        whole = bytearray()
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.seek(0)
                while len(whole) < self._written and (
                    part := self._file.read(min(16 << 20, self._written - len(whole)))
                ):
                    whole += part
            if len(whole) < self._written:
                raise NotMeasured(
                    f"temporary folder: {self._written} bytes of records were written and {len(whole)} could be read; "
                    "records are kept there (set $TMPDIR)"
                )
        for kept in (*self._unwritten, self._tail):
            whole += kept
        return whole

    def close(self) -> None:
        """Give the file back; nothing can be read after."""
        if self._thread is not None:
            self._thread.shutdown()
        if self._file is not None:
            self._file.close()

    def _write(self, full: bytearray) -> None:
        self._unwritten.append(full)  # first of all: whatever goes wrong below, it is kept
        if len(self._unwritten) > 1:
            return  # the disk has refused an earlier one: the file holds what came before that
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="bench-records-", buffering=0)  # noqa: SIM115  # until close
            self._file.seek(self._written)
            rest = memoryview(full)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            return
        self._written += len(full)
        self._unwritten.clear()
