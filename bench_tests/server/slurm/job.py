"""A server in a Slurm job: submitted, waited for in words, attached to, watched while it is measured, and cancelled.

`python -m bench_tests.server.slurm options PROFILE` prints what sbatch is to be asked for.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench_tests.errors import ServerError
from bench_tests.net import clear_proxy
from bench_tests.paths import workspace
from bench_tests.server.client import get, must_ask_for_its_key
from bench_tests.server.info import ServerInfo, remove_if_ours
from bench_tests.server.process import log_tail
from bench_tests.server.served import Endpoint, Say
from bench_tests.server.slurm import control as slurm_control
from bench_tests.server.slurm.control import Job, SlurmAway
from bench_tests.server.slurm.joblog import last_words
from bench_tests.server.slurm.node import must_be_submittable
from bench_tests.server.slurm.request import (
    SERVE_SCRIPT,
    gpus_per_node,
    job_environment,
    profile_arguments,
    sbatch_options,
)
from bench_tests.server.slurm.seen import InfoFile, Seen, refuses_connections
from bench_tests.server.slurm.start import wait_until_serving
from bench_tests.server.slurm.words import cause_in_log, pending_words
from bench_tests.server.start_times import start_times
from bench_tests.sweep.profile import Profile

__all__ = ["SlurmServer"]

_POLL_S = 1.0
_CANCEL_TIMEOUT_S = 90.0  # Slurm's KillWait is 30 s by default


class SlurmServer:
    """A `Served` in a Slurm job. `stop` cancels the job only if `submit` started it and it is not to be kept."""

    kind = "slurm"

    def __init__(self, profile: Profile, job_id: str, info_path: Path, *, ours: bool) -> None:
        """Use `submit`, `attach` or `adopt`."""
        self.endpoint = Endpoint("")
        self.job_id = job_id
        self.info: ServerInfo | None = None
        self._profile, self._info_path, self._ours = profile, info_path, ours
        self._like = Endpoint("")  # its key, where server_info.txt has none, its headers and TLS
        self._log: Path | None = None
        self._seen, self._file = Seen(job_id), InfoFile(info_path)
        self._incarnation = (0, "")  # restarts and start time when we attached
        self._log_from = 0  # what the log had when we attached, bytes
        self.start_s: dict[str, float] = {}
        self._stopped = False
        self._watched = True
        self._version: str | None = None

    @classmethod
    async def submit(
        cls, profile: Profile, info_path: Path, log_dir: Path, say: Say, keep: bool = False
    ) -> SlurmServer:
        """Submit the profile's server and wait until it serves; what Slurm says meanwhile is told in words.

        Raises ServerError when Slurm refuses it, when waiting cannot help, when it ends (with its log's last lines),
        or when a timeout of the profile is over. The job is cancelled then, and after Ctrl-C too.
        """
        info_path, log_dir = info_path.absolute(), log_dir.absolute()
        options = sbatch_options(profile)
        for doubt in must_be_submittable(profile, os.environ):
            say(f"warning: {doubt}")
        log_dir.mkdir(parents=True, exist_ok=True)
        place = ["--export=ALL", f"--chdir={workspace()}", f"--output={log_dir}/serve-{profile.label}-%j.log"]
        arguments = [*profile_arguments(profile), "--server-info", str(info_path)]
        job_id = await slurm_control.submit(
            [*options, *place], str(SERVE_SCRIPT), arguments, job_environment(os.environ)
        )
        server = cls(profile, job_id, info_path, ours=not keep)
        server._log = log_dir / f"serve-{profile.label}-{job_id}.log"
        return await server._wait(profile, say, f"submitted job {job_id} ({' '.join(options)}), log {server._log}")

    async def _wait(self, profile: Profile, say: Say, news: str = "") -> SlurmServer:
        try:
            if news:
                say(news)
            atexit.register(self._stop_at_exit)
            await wait_until_serving(self, profile, say)
        except BaseException:
            self._ours = True  # `keep` keeps a server, not a failed start
            await self.stop()
            raise
        return self

    @classmethod
    async def attach(
        cls, info: ServerInfo, profile: Profile, info_path: Path, say: Say, *, like: Endpoint | None = None
    ) -> SlurmServer:
        """Use the job that server_info.txt names; `stop` leaves it. Raises ServerError when it does not run.

        A job that Slurm does not know has ended, or is another cluster's: its server is used if it opens to the file's key,
        which is that start's alone. `like`: whose key is used where the file has none, and whose headers and TLS.
        """
        server = cls(profile, info.job_id or "", info_path.absolute(), ours=False)
        server._like = like or Endpoint("")
        job, forgotten = Job(server.job_id, "UNKNOWN"), False
        if server.job_id.isdigit():
            with contextlib.suppress(SlurmAway):
                job = await server.look(10.0)
                forgotten = job.state == "UNKNOWN"
        if job.state not in ("RUNNING", "UNKNOWN"):
            fix = "wait for it" if job.waiting else f"the file is stale: remove it, or submit {SERVE_SCRIPT.name} again"
            raise ServerError(f"{info_path} names job {info.job_id}, which {job.words()}; {fix}")
        if forgotten and not info.api_key:
            raise ServerError(
                f"{info_path} names job {info.job_id}, which {job.words()}, and has no key that would show whether a server at "
                f"{info.url} is still that job's; remove the file, or measure whatever answers there: --base-url {info.url}"
            )
        if not await server.take(info, job):
            fix = "the file is stale: remove it" if job.state == "UNKNOWN" else "is it reachable from this host?"
            raise ServerError(
                f"{info_path}: {info.url} does not answer, and its job {info.job_id} {job.words()}; {fix}"
            )
        # a job of another cluster, or of none, serves as well; its end is then seen by its silence alone
        server._watched = job.state == "RUNNING"
        unseen = "; Slurm does not know it (any more), so its end will show in its silence alone" if forgotten else ""
        say(f"attached to job {info.job_id} on {job.nodes or info.hostname} at {info.url}{unseen}")
        return server

    @classmethod
    async def adopt(cls, job_id: str, profile: Profile, info_path: Path, say: Say, keep: bool = False) -> SlurmServer:
        """Use a job that an earlier session has submitted for this server and left: waited for, and cancelled at the end.

        Raises ServerError as `submit` does.
        """
        server = cls(profile, job_id, info_path.absolute(), ours=not keep)
        say(f"job {job_id} of {profile.label} is there from a session that was killed: it is used")
        return await server._wait(profile, say)

    async def gone(self) -> str | None:
        """Why the job no longer serves, in words; None while nothing speaks against it.

        Slurm is asked at most once a second, for at most 3 s; an unreachable slurmctld is no reason. A server whose port
        refuses connections is waited for up to 5 s, until Slurm says what became of its job.
        """
        if self._stopped:
            return f"job {self.job_id} was stopped by this session"
        if not self._watched:
            return None
        try:
            job = await self.look(3.0, max_age_s=_POLL_S)
        except SlurmAway:
            return None
        same = (job.restarts, job.start) == self._incarnation
        if job.state == "RUNNING" and same:
            if not await refuses_connections(self.endpoint):
                return None
            job = await self._seen.settled(job)  # Slurm is seconds late: the server goes first, then its job
            if job.state == "RUNNING":
                return None  # whether a server that refuses connections comes back is its asker's to judge
        cause = self._cause(job)
        # a job that has begun again, or is to: one that ran and is pending was requeued, whatever its count says yet
        if (not same or job.state == "PENDING") and not job.ended:
            return f"job {self.job_id} {cause or 'was taken off its node'} and requeued: it now {job.words()}"
        return f"job {self.job_id} {cause if cause and job.state == 'COMPLETING' else job.words()}"

    async def wait_for_return(self, say: Say) -> bool:
        """Wait until a requeued or suspended job serves again (slurm.return_timeout at most); `endpoint` may change."""
        if not self._watched:
            return False
        end = time.monotonic() + self._profile.slurm.return_timeout
        told = ""
        while time.monotonic() < end and not self._stopped:
            try:
                job = await self.look(10.0)
            except SlurmAway:
                await asyncio.sleep(_POLL_S)
                continue
            if job.ended:
                return False
            if job.waiting and pending_words(job.reason)[1]:
                return False
            if job.words() != told:
                told = job.words()
                say(f"waiting for job {self.job_id} to serve again: it {told}")
            info = self.published() if job.state == "RUNNING" else None
            same = (job.restarts, job.start) == self._incarnation  # it was suspended, not requeued
            if info and (same or info.started != (self.info and self.info.started)) and await self.take(info, job):
                say(f"job {self.job_id} serves again at {info.url}")
                return True
            await asyncio.sleep(_POLL_S)
        return False

    def facts(self) -> dict[str, Any]:
        """Job id, node list, GPUs of the job (over all nodes), partition, restarts, Slurm's version."""
        job = self._seen.job or Job(self.job_id, "UNKNOWN")
        return {
            "kind": self.kind,
            "job_id": self.job_id,
            "nodes": job.nodes,
            "num_nodes": job.num_nodes,
            "job_gpus": gpus_per_node(self._profile) * self._profile.server.nodes if job.gpus is None else job.gpus,
            "job_cpus": job.cpus or None,
            "partition": job.partition,
            "restarts": job.restarts,
            "slurm_version": self._version,
            **({"power_file": self.info.power_file} if self.info and self.info.power_file else {}),
        }

    async def stop(self) -> None:
        """Cancel the job if it is ours, and wait until nothing of it runs. May be called twice."""
        if self._stopped or not self._ours:
            self._stopped = True
            return
        self._stopped = True
        end = time.monotonic() + _CANCEL_TIMEOUT_S
        while not await slurm_control.cancel(self.job_id) and time.monotonic() < end:
            await asyncio.sleep(_POLL_S)  # slurmctld is away: the job must not stay for that
        atexit.unregister(self._stop_at_exit)  # not before: a second Ctrl-C may come while Slurm is told
        while time.monotonic() < end:
            try:
                if (await slurm_control.look(self.job_id)).ended:
                    break
            except SlurmAway:
                pass
            await asyncio.sleep(0.25)
        else:
            print(f"job {self.job_id} could not be seen to end; see `squeue -j {self.job_id}`", file=sys.stderr)
        remove_if_ours(self._info_path, self.job_id)  # its own script has done so, unless its node went down

    def _stop_at_exit(self) -> None:
        self._stopped = False  # that it was begun before is not enough
        asyncio.run(self.stop())

    async def look(self, timeout_s: float, max_age_s: float = 0.0) -> Job:
        """The job as Slurm sees it, at most so old. Raises SlurmAway."""
        return await self._seen.look(timeout_s, max_age_s)

    def published(self) -> ServerInfo | None:
        """server_info.txt, if it is there and names this job. Raises UsageError where it stays unreadable."""
        info = self._file.read()
        return info if info is not None and info.job_id == self.job_id else None

    async def take(self, info: ServerInfo, job: Job) -> bool:
        """Use this server from now on, if it answers and opens to its key. Raises ServerError if it refuses the key."""
        endpoint = replace(self._like, base_url=info.url, api_key=info.api_key or self._like.api_key)
        if why := clear_proxy(endpoint.base_url):
            raise ServerError(f"{self._info_path}: {why}")
        models = await get(endpoint, "/v1/models", 5.0)
        if models is None:
            return False
        if models.status == 401:
            whose = f"the key of {self._info_path}" if info.api_key or not self._like.api_key else "$OPENAI_API_KEY"
            raise ServerError(f"{info.url} refuses {whose}; another server has its port")
        if models.status != 200:
            return False
        await must_ask_for_its_key(endpoint, info.api_key)
        if self._version is None:
            self._version = await slurm_control.version()
        self.info, self.endpoint, self._incarnation = info, endpoint, (job.restarts, job.start)
        log = self._log or Path(job.log or os.devnull)
        self._log_from = log.stat().st_size if log.exists() else 0
        ready_s = float(info.ready_s) if info.ready_s else None
        self.start_s = start_times(ready_s, log if log.exists() else None)
        return True

    def _cause(self, job: Job) -> str | None:
        log = self._log or (Path(job.log) if job.log else None)
        return cause_in_log(log_tail(log, 1000, since=self._log_from)) if log else None

    def last_lines(self, job: Job) -> str:
        """The log's end, as the rest of an error's message."""
        log = self._log or (Path(job.log) if job.log else None)
        return f"; last lines of {log}:\n{last_words(log)}" if log else ""

    def last_line(self) -> str:
        """The log's last line, as the rest of a line of news."""
        return f"; its log says: {log_tail(self._log, 1)}" if self._log else ""
