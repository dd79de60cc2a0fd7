"""Runs a server and sees to it that nothing of it outlives us: not its workers, not after `kill -9` of pytest.

Started as a script, `python -I keeper.py STOP_TIMEOUT_S PROGRAM ARGS...`, with a pipe as stdin that nobody writes to.
It stops the server and all its descendants (TERM, then KILL) on TERM or INT, when the pipe closes, which it does
however the starter ends, and when the server ends by itself and leaves workers. It exits as the server did.
Standard library alone, so that it starts in milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LEFTOVER_TIMEOUT_S = 3.0  # workers of a server that has already ended


def _prctl(option: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _descendants() -> list[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    stat = file.read()
            except OSError:
                continue
            state, parent = stat[stat.rindex(b")") + 2 :].split()[:2]  # the name in brackets may hold anything
            if state != b"Z":
                children.setdefault(int(parent), []).append(int(name))
    found, todo = [], [os.getpid()]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def _signal_all(server: int, number: int) -> None:
    for pid in _descendants():
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
    try:
        os.killpg(server, number) if number == signal.SIGKILL else None
    except (ProcessLookupError, PermissionError):
        pass


class _Keeper:
    def __init__(self, server: int, wake: int) -> None:
        self.server, self.wake = server, wake
        self.code: int | None = None  # the server's exit status once it has ended

    def reap(self) -> None:
        """Collect whatever ended: as a subreaper we are the parent of the server's orphans too."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.server:
                self.code = os.waitstatus_to_exitcode(status)

    def wait_for_a_reason(self) -> None:
        """Return when the server has ended, or we were told to stop, or the starter has gone."""
        starter = os.getppid()
        while self.code is None:
            ready, _, _ = select.select([0, self.wake], [], [], 1.0)
            if self.wake in ready and any(number != signal.SIGCHLD for number in os.read(self.wake, 512)):
                return
            if (0 in ready and not os.read(0, 512)) or os.getppid() != starter:
                return
            self.reap()

    def stop(self, timeout_s: float) -> None:
        """TERM to all of it, KILL to what is left after the timeout."""
        _signal_all(self.server, signal.SIGTERM)
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            self.reap()
            if self.code is not None and not _descendants():
                return
            time.sleep(0.02)
        for _ in range(250):  # a process that forks while it is killed needs more than one round
            _signal_all(self.server, signal.SIGKILL)
            self.reap()
            if self.code is not None and not _descendants():
                return
            time.sleep(0.02)


def main(stop_timeout_s: float, argv: list[str]) -> int:
    """Run the server; the exit status as a shell gives it: 128 + N after signal N, 127 when it cannot be started."""
    wake, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    server = os.fork()
    if server == 0:
        try:
            os.setpgid(0, 0)
            _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # even a killed keeper leaves no server
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.execvp(argv[0], argv)
        except OSError as why:
            sys.stderr.write(f"{argv[0]}: {why.strerror}\n")
            sys.stderr.flush()
        finally:
            os._exit(127)
    keeper = _Keeper(server, wake)
    keeper.wait_for_a_reason()
    keeper.stop(stop_timeout_s if keeper.code is None else min(_LEFTOVER_TIMEOUT_S, stop_timeout_s))
    code = 137 if keeper.code is None else keeper.code
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
