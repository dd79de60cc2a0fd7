"""A server as a child of ours: started under a keeper, and stopped with everything that it started.

Standard library alone and without an event loop: the job's own side on Slurm uses it as well.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench_tests.errors import ServerError
from bench_tests.masking import masked

__all__ = ["Readiness", "ServerProcess", "log_tail"]

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
        self.log_start = log.stat().st_size if log.exists() else 0
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
        return masked(log_tail(self.log, lines, since=self.log_start), self.secret)

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


class Readiness:
    """Judges what a starting server answers, without asking itself: by the job's own side and by the control plane.

    It is ready when /health answers and its key opens /v1/models: another server may have taken the port meanwhile.
    """

    def __init__(self, url: str, process: ServerProcess, timeout_s: float, say: Callable[[str], None]) -> None:
        self.url, self.process, self.timeout_s, self.say = url, process, timeout_s, say
        self.began = self.told = time.monotonic()
        self.pause_s = 0.05 / 1.3  # how long to wait before /health is asked again

    def must_run(self) -> None:
        """Raises ServerError with the log's last lines when the server has ended."""
        how = self.process.ended()
        if how is not None:
            raise ServerError(f"the server {how} before /health answered; {self._log()}")

    def healthy(self, status: int | None) -> bool:
        """Whether /health's answer (None: none) is that of a server that is up; it tells of a long wait.

        Raises ServerError when the time is over.
        """
        if status == 200:
            return True
        now = time.monotonic()
        waited = now - self.began
        if waited > self.timeout_s:
            state = f"answers HTTP {status}" if status else "does not answer"
            raise ServerError(f"{self.url}/health {state} after {waited:.0f} s (server.startup_timeout); {self._log()}")
        if now - self.told > _SAY_EVERY_S:
            self.told = now
            last = self.process.tail(1) or "(nothing)"
            self.say(f"waiting for {self.url}/health, {waited:.0f} s; its log says: {last}")
        self.pause_s = min(self.pause_s * 1.3, 1.0)
        return False

    def must_be_ours(self, status: int | None) -> None:
        """Raises ServerError unless /v1/models opened to our key."""
        if status != 200:
            said = f"HTTP {status}" if status else "nothing"
            raise ServerError(
                f"{self.url}/v1/models answers {said} to this server's key; another server may have the port, or this "
                f"one did not start well; {self._log()}"
            )

    def must_ask_for_its_key(self, keyless: int | None) -> None:
        """Raises ServerError where /v1/models opened without a key (`keyless`: its status): it serves everybody."""
        if keyless is not None and keyless < 400:
            raise ServerError(
                f"the server answers without its key (HTTP {keyless}), so anybody could use it, and it is stopped; "
                f"$VLLM_API_KEY did not reach server.serve_command, or that program does not read it; {self._log()}"
            )

    def _log(self) -> str:
        return f"last lines of {self.process.log}:\n{self.process.tail()}"
