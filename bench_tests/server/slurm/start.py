"""The time from a submitted job to a server that answers: waiting for it with what Slurm says in words, and finding it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Protocol

from bench_tests.errors import ServerError
from bench_tests.server.info import ServerInfo
from bench_tests.server.served import Say
from bench_tests.server.slurm import control as slurm_control
from bench_tests.server.slurm.control import Job, Queued, SlurmAway
from bench_tests.server.slurm.request import SERVE_SCRIPT
from bench_tests.server.slurm.words import WAITING, pending_words
from bench_tests.sweep.profile import Profile

__all__ = ["Startable", "failed_for", "submitted_for", "wait_until_serving"]

_POLL_S = 1.0
_SAY_EVERY_S = 60.0
_ENDING_S = 60.0  # Slurm says how a job ended only when all of it has
_UNREACHABLE_S = 60.0  # server_info.txt is there and its /health still does not answer from here
_ASK_S = 5.0  # who only wants the simulated server is not kept waiting by a Slurm that is away
_FAILED = frozenset({"FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "LAUNCH_FAILED", "DEADLINE"})


class Startable(Protocol):
    """What is asked of a server's job while it starts."""

    job_id: str

    async def look(self, timeout_s: float) -> Job: ...

    def published(self) -> ServerInfo | None: ...

    async def take(self, info: ServerInfo, job: Job) -> bool: ...

    def last_lines(self, job: Job) -> str: ...

    def last_line(self) -> str: ...


async def wait_until_serving(server: Startable, profile: Profile, say: Say) -> None:
    """Until the job serves. Raises ServerError for each way in which it never will."""
    began, running_since, published_since, ending_since = time.monotonic(), None, None, None
    told, told_at, hopeless = "", 0.0, 0
    while True:
        now = time.monotonic()
        try:
            job = await server.look(10.0)
            words = job.words()
        except SlurmAway as why:
            job, words = None, f"is out of sight: Slurm does not answer ({why})"
        ending_since = (ending_since or now) if job is not None and job.state == "COMPLETING" else None
        if job is not None and (job.ended or (ending_since and now - ending_since > _ENDING_S)):
            raise ServerError(f"job {server.job_id} {words} before it served{server.last_lines(job)}")
        if job is not None and job.waiting:
            running_since = published_since = None
            hopeless = hopeless + 1 if pending_words(job.reason)[1] else 0
            if hopeless > 1:  # seen twice, for Slurm changes its mind at the start
                raise ServerError(f"job {server.job_id} {words}; waiting will not help, so it is cancelled")
            if now - began > profile.slurm.pending_timeout:
                raise ServerError(f"job {server.job_id} {words}, for {now - began:.0f} s (slurm.pending_timeout)")
        elif job is not None and job.state == "RUNNING":
            running_since = running_since or now
            info = server.published()
            published_since = (published_since or now) if info else None
            if info and await server.take(info, job):
                say(f"job {server.job_id} serves on {job.nodes} at {info.url}")
                return
            if published_since and now - published_since > _UNREACHABLE_S and info:
                raise ServerError(f"job {server.job_id} serves at {info.url}, which does not answer from this host")
            if now - running_since > profile.server.startup_timeout:
                raise ServerError(
                    f"job {server.job_id} {words}, and did not serve within {now - running_since:.0f} s "
                    f"(server.startup_timeout){server.last_lines(job)}"
                )
            words += ", not ready yet"
        if words != told or now - told_at > _SAY_EVERY_S:
            last = server.last_line() if words == told and running_since else ""
            told, told_at = words, now
            say(f"job {server.job_id} {words}{last}")
        await asyncio.sleep(_POLL_S / 2 if running_since else _POLL_S)


async def submitted_for(info_path: Path) -> Queued | None:
    """The user's own job of slurm/serve.sh that waits, starts or runs and is to publish this file; None without one.

    A Slurm that does not answer has none. The file that $SERVER_INFO named at its submission is not seen in the queue.
    """
    jobs = await _jobs_of(info_path)
    return next((job for job in jobs if job.state in WAITING or job.state == "RUNNING"), None)


async def failed_for(info_path: Path) -> Queued | None:
    """The user's last job of slurm/serve.sh for this file, if it failed and Slurm still remembers it."""
    jobs = sorted(await _jobs_of(info_path, ended=True), key=lambda job: int(job.job_id.partition("_")[0]))
    return jobs[-1] if jobs and jobs[-1].state in _FAILED else None


async def _jobs_of(info_path: Path, *, ended: bool = False) -> list[Queued]:
    try:
        return [job for job in await slurm_control.queued(_ASK_S, ended=ended) if _publishes(job, info_path)]
    except (SlurmAway, ServerError):
        return []


def _publishes(job: Queued, info_path: Path) -> bool:
    folder = Path(job.folder)
    # by its command, not its name: sbatch's -J may have given it any
    if job.command.startswith(f"{SERVE_SCRIPT} "):
        words = job.command.removeprefix(str(SERVE_SCRIPT)).split()
    else:
        script, *words = job.command.split() or [""]
        if (folder / script).resolve() != SERVE_SCRIPT:
            return False
    for number, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag == "--server-info":
            value = value if equals else next(iter(words[number + 1 :]), "")
            return (folder / value).resolve() == info_path.resolve()
    return True
