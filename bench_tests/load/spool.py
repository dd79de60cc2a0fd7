"""Bytes that only grow, kept in memory up to a chunk and then in an unnamed file, so that an hour's load does not swell.

Knows nothing but files. The usual point never fills a chunk and so never touches a disk.
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
        self._thread: ThreadPoolExecutor | None = None
        self._failed: OSError | None = None

    def append(self, data: bytes) -> None:
        """Keep these bytes. Raises NotMeasured when an earlier chunk could not be written."""
        self._tail += data
        if len(self._tail) >= self.chunk:
            self._check()
            full, self._tail = self._tail, bytearray()
            self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="spool")
            self._thread.submit(self._write, full)

    def read(self) -> bytearray:
        """All bytes so far, and the end of appending. Raises NotMeasured when a chunk could not be written or read."""
        if self._thread is not None:
            self._thread.shutdown()  # waits for what is being written
        self._check()
        whole = bytearray()
        if self._file is not None:
            self._file.seek(0)
            try:
                while part := self._file.read(16 << 20):
                    whole += part
            except OSError as why:
                self._failed = why
            self._check()
        whole += self._tail
        return whole

    def close(self) -> None:
        """Give the file back; nothing can be read after."""
        if self._thread is not None:
            self._thread.shutdown()
        if self._file is not None:
            self._file.close()

    def _check(self) -> None:
        if self._failed is not None:
            raise NotMeasured(f"temporary folder: {self._failed.strerror}; records are kept there (set $TMPDIR)")

    def _write(self, full: bytearray) -> None:
        if self._failed is not None:
            return  # what lies behind a gap is of no use
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="bench-records-", buffering=0)  # noqa: SIM115  # until close
            rest = memoryview(full)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as why:
            self._failed = why
