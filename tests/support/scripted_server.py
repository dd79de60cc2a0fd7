"""A server of a few lines for what the simulated one cannot do: each connection is given to a function of the test's."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType


class ScriptedServer:
    """Listens on a free port; `serve(conn)` runs in a thread a connection and may do with the socket what it likes."""

    def __init__(self, serve: Callable[[socket.socket], None], backlog: int = 128) -> None:
        self.serve = serve
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.connections = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def _accept(self) -> None:
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._run, args=(conn,), daemon=True).start()

    def _run(self, conn: socket.socket) -> None:
        with contextlib.suppress(OSError), conn:
            self.serve(conn)

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join(5)


def read_request(conn: socket.socket) -> tuple[bytes, bytes] | None:
    """Head and body of the next request on the connection; None at its end."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = conn.recv(1 << 16)
        if not part:
            return None
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        part = conn.recv(1 << 16)
        if not part:
            return None
        body += part
    return head, body
