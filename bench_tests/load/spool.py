"""Bytes that only grow, kept in memory up to a chunk and then in an unnamed file, so that an hour's load does not swell.

Knows files and the errors. A point of up to 250,000 events fills no chunk and touches no disk.
"""

from __future__ import annotations

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
            try:
                self._file.seek(0)
                while part := self._file.read(16 << 20):
                    whole += part
            except OSError as why:
                raise NotMeasured(f"temporary folder: {why.strerror}; records are kept there (set $TMPDIR)") from why
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
        if not self._unwritten:  # the file holds what came first
            whole = 0
            try:
                if self._file is None:
                    self._file = tempfile.TemporaryFile(prefix="bench-records-", buffering=0)  # noqa: SIM115  # closed in close
                whole = self._file.tell()
                rest = memoryview(full)
                while rest:
                    rest = rest[self._file.write(rest) :]
                return
            except OSError:
                if self._file is not None:
                    self._file.truncate(whole)
        self._unwritten.append(full)
