"""One sweep a server: two that load it at once measure each other."""

from __future__ import annotations

import hashlib
import socket
import sys

__all__ = ["ServerLock"]

_HERE = ("localhost", "0.0.0.0", "::1", "::")


class ServerLock:
    """Holds a server's address among the sweeps of this host. It is let go with the process, however that ends.

    An abstract socket: it leaves no file, and the users of one host share it. Sweeps of other hosts are not seen by it;
    the server's own counters tell of those (the check `other_load`).
    """

    def __init__(self, base_url: str) -> None:
        self._name = f"\0bench_tests-sweep-{hashlib.sha256(_address(base_url).encode()).hexdigest()[:32]}"
        self._socket: socket.socket | None = None

    def take(self) -> bool:
        """Whether no other sweep of this host has the server. True where that cannot be found out."""
        if not sys.platform.startswith("linux"):
            return True
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            lock.bind(self._name)
        except OSError:
            lock.close()
            return False
        self._socket = lock
        return True

    def release(self) -> None:
        """Let the server go."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _address(base_url: str) -> str:
    """Host, port and path; this host is one host, by whichever of its usual names."""
    from yarl import URL

    url = URL(base_url, encoded=True)
    host = (url.host or "").lower()
    return f"{'127.0.0.1' if host in _HERE else host}:{url.port}{url.raw_path.rstrip('/')}"
