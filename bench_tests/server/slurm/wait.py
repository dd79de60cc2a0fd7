"""`python -m bench_tests.server.wait`: waits until the server of server_info.txt answers, for scripts.

Where there is a Slurm it is asked about the server's job as a session asks: a job that has ended, or that will never start,
ends the waiting with its reason and its log's lines.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench_tests.errors import BenchError, ServerError, UsageError
from bench_tests.net import clear_proxy
from bench_tests.server.info import ServerInfo, default_server_info, read_server_info
from bench_tests.server.served import Endpoint, Say
from bench_tests.server.slurm.control import SlurmAway, look
from bench_tests.server.slurm.joblog import LINES, last_words
from bench_tests.server.slurm.near import answers
from bench_tests.server.slurm.start import failed_for, submitted_for
from bench_tests.server.slurm.words import pending_words

__all__ = ["main", "wait_for_server"]

_POLL_S = 1.0
_ASK_SLURM_S = 5.0
_SAY_EVERY_S = 60.0
_HALF_WRITTEN_S = 10.0  # a file that cannot be read may be one that somebody is just writing


class _JobWatch:
    """The job that is to publish the file, as far as Slurm is there and knows one."""

    def __init__(self, path: Path, job_id: str) -> None:
        self.job_id, self._path, self._named = job_id, path, job_id
        self._asked_at, self._hopeless = -1e9, 0
        self._there = shutil.which("squeue") is not None
        self.words = ""  # what the job does, for a person

    def ask(self, info: ServerInfo | None) -> None:
        """Look at the job, now and then. Raises ServerError when it will not serve any more."""
        if not self._there or time.monotonic() - self._asked_at < _ASK_SLURM_S:
            return
        self._asked_at = time.monotonic()
        if not self._named:
            alive = asyncio.run(submitted_for(self._path))
            if alive is not None:
                self.job_id = alive.job_id
            elif not self.job_id and info is not None and info.job_id and info.job_id.isdigit():
                self.job_id = info.job_id
            elif not self.job_id:
                failed = asyncio.run(failed_for(self._path))
                self.job_id = failed.job_id if failed is not None else ""
        if self.job_id:
            self._look()

    def _look(self) -> None:
        try:
            job = asyncio.run(look(self.job_id))
        except SlurmAway as why:
            self.words = f"; Slurm does not answer ({why})"
            return
        self.words = f"; job {self.job_id} {job.words()}"
        if job.state == "UNKNOWN":
            return  # another cluster's, or forgotten: nothing speaks against the file
        if job.ended:
            log = f"; last {LINES} lines of {job.log}:\n{last_words(Path(job.log))}" if job.log else ""
            raise ServerError(f"job {self.job_id} {job.words()}, and no server answers{log}")
        self._hopeless = self._hopeless + 1 if job.waiting and pending_words(job.reason)[1] else 0
        if self._hopeless > 1:
            raise ServerError(f"job {self.job_id} {job.words()}; waiting will not help")


def wait_for_server(path: Path, timeout_s: float, say: Say, job_id: str = "") -> None:
    """Return when the server that the file names answers. `job_id`: its job, where it is not to be looked for.

    Raises ServerError when the time is over, or when the server's job has ended or will never start.
    """
    watch = _JobWatch(path, job_id)
    began, told, told_at, unreadable_since = time.monotonic(), "", 0.0, None
    while True:
        now, info = time.monotonic(), None
        words = f"waiting for {path}"
        try:
            info = read_server_info(path) if path.exists() else None
            unreadable_since = None
        except UsageError as why:
            unreadable_since = unreadable_since or now
            if path.exists() and now - unreadable_since > _HALF_WRITTEN_S:
                raise
            words = str(why)
        if info is not None:
            if refused := clear_proxy(info.url):
                raise ServerError(f"{path}: {refused}")
            reply = answers(
                Endpoint(info.url, info.api_key), "/v1/models"
            )  # it decides, as for a session; a key is its own matter
            if reply is not None and reply[0] in (200, 401, 403):
                say(f"{info.model or 'a server'} answers at {info.url}")
                return
            words = f"{info.url} of {path} does not answer yet (job {info.job_id or 'unknown'})"
        watch.ask(info)
        words += watch.words
        if now - began > timeout_s:
            raise ServerError(f"{words}, for {now - began:.0f} s; is its job running? See `squeue` and its log")
        if words != told or now - told_at > _SAY_EVERY_S:
            told, told_at = words, now
            say(words)
        time.sleep(_POLL_S)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when it answers, 4 for an unreadable file, 13 when its job has ended or the time is over."""
    parser = argparse.ArgumentParser(prog="python -m bench_tests.server.wait", description=main.__doc__)
    parser.add_argument("--server-info", type=Path, default=default_server_info(), metavar="PATH")
    parser.add_argument("--job", default="", metavar="ID", help="the server's job; else it is found in the queue")
    parser.add_argument("--timeout", type=float, default=4 * 3600.0, metavar="SECONDS")
    options = parser.parse_args(argv)
    try:
        wait_for_server(
            options.server_info.absolute(),
            options.timeout,
            lambda text: print(f"wait: {text}", flush=True),
            options.job,
        )
    except BenchError as why:
        print(f"wait: {why}", file=sys.stderr)
        return 13 if isinstance(why, ServerError) else 4
    return 0
