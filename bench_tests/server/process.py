"""A server as a child of ours: started under a keeper, waited for, and stopped with everything that it started.

Knows the errors only.
"""

from __future__ import annotations

import atexit
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from bench_tests.errors import ServerError
from bench_tests.masking import masked
from bench_tests.server.client import tls_context
from bench_tests.server.served import Endpoint, Say

__all__ = ["ServerProcess", "answers", "log_tail", "refuses", "wait_until_ready"]

_KEEPER = Path(__file__).with_name("keeper.py")
_TAIL_LINES = 20
_TAIL_BYTES = 64 * 1024
_SAY_EVERY_S = 15.0

_running: weakref.WeakSet[ServerProcess] = weakref.WeakSet()


class ServerProcess:
    """A started server. `stop` ends it and all its descendants, and so does the end of this process, of any kind."""

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        log: Path,
        *,
        stop_timeout_s: float,
        secret: str | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Start `argv` with exactly `env`; its output is appended to `log`. `secret` never shows in what we tell."""
        self.argv, self.log, self.secret = tuple(argv), log, secret
        self._stop_timeout_s = stop_timeout_s
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log_start = log.stat().st_size if log.exists() else 0
        with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab") as out:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_KEEPER), str(stop_timeout_s), *argv],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,  # a terminal's Ctrl-C is for us; the server is stopped in order
            )
        self.pid = self._keeper.pid
        _running.add(self)

    def ended(self) -> str | None:
        """How it ended, in words; None while it runs."""
        code = self._keeper.poll()
        if code is None:
            return None
        code = 128 - code if code < 0 else code
        if code > 128 and code - 128 in {number.value for number in signal.Signals}:
            return f"was killed by {signal.Signals(code - 128).name}"
        return f"ended with exit code {code}"

    @property
    def exit_code(self) -> int | None:
        """The server's exit status as a shell gives it; None while it runs."""
        return self._keeper.poll()

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait until it ends; its exit status. Raises subprocess.TimeoutExpired."""
        return self._keeper.wait(timeout_s)

    def tail(self, lines: int = _TAIL_LINES) -> str:
        """The last lines it has written, without the key."""
        return masked(log_tail(self.log, lines, since=self._log_start), self.secret)

    def terminate(self) -> None:
        """Ask it to stop and do not wait."""
        if self._keeper.poll() is None:
            self._keeper.terminate()

    def stop(self) -> None:
        """TERM, KILL after the stop timeout, and wait until nothing of it is left. May be called twice."""
        self.terminate()
        try:
            self._keeper.wait(self._stop_timeout_s + 10.0)
        except subprocess.TimeoutExpired:  # a process that even KILL does not end hangs in the kernel
            self._keeper.kill()
            self._keeper.wait()
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()
        _running.discard(self)


@atexit.register
def _stop_all() -> None:
    for process in list(_running):
        process.terminate()
    for process in list(_running):
        process.stop()


def log_tail(log: Path, lines: int = _TAIL_LINES, *, since: int = 0) -> str:
    """The last lines of a log, at most 64 KiB of it, nothing before the byte `since`; control characters taken out."""
    try:
        with open(log, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since, size - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError as why:
        return f"({log}: {why.strerror})"
    shown = [
        "".join(c for c in line.rsplit("\r", 1)[-1] if c.isprintable() or c == "\t")  # a progress bar's last state
        for line in text.replace("\r\n", "\n").split("\n")
    ]
    return "\n".join([line for line in shown if line.strip()][-lines:])


def answers(endpoint: Endpoint, path: str, timeout_s: float = 5.0) -> tuple[int, bytes] | None:
    """Status and body (64 KiB at most) of a GET with the endpoint's key; None when nobody answers."""
    parts = urlsplit(endpoint.base_url)
    host = parts.hostname or ""
    try:
        connection = http.client.HTTPConnection(host, parts.port, timeout=timeout_s)
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(host, parts.port, timeout=timeout_s, context=tls_context(endpoint))
        try:
            connection.request("GET", parts.path + path, headers=endpoint.headers)
            reply = connection.getresponse()
            return reply.status, reply.read(64 * 1024)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return None


def refuses(endpoint: Endpoint, timeout_s: float = 1.0) -> bool:
    """Its host says that nobody listens there. A host that says nothing does not refuse. Costs the server no request."""
    parts = urlsplit(endpoint.base_url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), timeout_s).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def wait_until_ready(
    endpoint: Endpoint,
    process: ServerProcess,
    *,
    timeout_s: float,
    say: Say,
    stopping: Callable[[], bool] = lambda: False,
) -> bool:
    """Wait for /health, then see that our key opens /v1/models: another server may have taken the port meanwhile.

    True when it is ready, False when `stopping` became true. Raises ServerError with the log's last lines when the
    server ends, when the time is over, or when another one answers there.
    """
    began, told = time.monotonic(), time.monotonic()
    pause_s = 0.05
    while not stopping():
        how = process.ended()
        if how is not None:
            raise ServerError(
                f"the server {how} before /health answered; last lines of {process.log}:\n{process.tail()}"
            )
        reply = answers(endpoint, "/health", 5.0)
        if reply is not None and reply[0] == 200:
            _must_be_ours(endpoint, process)
            return True
        waited = time.monotonic() - began
        if waited > timeout_s:
            state = f"answers HTTP {reply[0]}" if reply else "does not answer"
            raise ServerError(
                f"{endpoint.base_url}/health {state} after {waited:.0f} s (server.startup_timeout); "
                f"last lines of {process.log}:\n{process.tail()}"
            )
        if time.monotonic() - told > _SAY_EVERY_S:
            told = time.monotonic()
            last = process.tail(1) or "(nothing)"
            say(f"waiting for {endpoint.base_url}/health, {waited:.0f} s; its log says: {last}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.3, 1.0)
    return False


def _must_be_ours(endpoint: Endpoint, process: ServerProcess) -> None:
    reply = answers(endpoint, "/v1/models", 30.0)
    status = f"HTTP {reply[0]}" if reply else "nothing"
    if reply is None or reply[0] != 200:
        raise ServerError(
            f"{endpoint.base_url}/v1/models answers {status} to this server's key; another server may have the port, "
            f"or this one did not start well; last lines of {process.log}:\n{process.tail()}"
        )
