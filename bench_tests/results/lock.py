"""One sweep a folder: a second one would replace results of the first under the same names."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from typing import IO

__all__ = ["FolderLock"]

_NAME = ".sweep.lock"


class FolderLock:
    """Holds a results folder while a sweep writes into it. It is let go with the process, however that ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: IO[str] | None = None

    def take(self) -> str:
        """Take the folder; empty when it was free, else who has it. A folder that cannot be locked is taken as free."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = open(self.folder / _NAME, "a+", encoding="utf-8")  # noqa: SIM115  # it is held until release()
        except OSError:
            return ""  # what cannot be written is told where results are written
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            said = "".join(c for c in file.read(200) if c.isprintable())
            file.close()
            return said or "another process"
        except OSError:
            file.close()
            return ""  # a file system without locks
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        self._file = file
        return ""

    def release(self) -> None:
        """Let the folder go; the lock's file goes too."""
        if self._file is not None:
            (self.folder / _NAME).unlink(missing_ok=True)
            self._file.close()
            self._file = None
