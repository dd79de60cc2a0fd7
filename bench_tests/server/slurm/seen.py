"""A job as Slurm sees it: asked at most as often as the answer ages, and less often while slurmctld is away; and its file."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from bench_tests.errors import ServerError, UsageError
from bench_tests.net import clear_proxy
from bench_tests.server.client import get
from bench_tests.server.info import ServerInfo, read_server_info
from bench_tests.server.served import Endpoint
from bench_tests.server.slurm import control as slurm_control
from bench_tests.server.slurm.control import Job, SlurmAway

__all__ = ["InfoFile", "Seen", "looked", "opens_to_its_key", "refuses_connections"]

_AWAY_FACTOR = 5  # a slurmctld that does not answer is asked less often: each question costs seconds
_HALF_WRITTEN_S = 10.0
_SETTLE_S = 5.0  # from a server's end to Slurm's word on its job


class Seen:
    """The latest answer of Slurm on one job."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.job: Job | None = None
        self._asked_at = -1e9  # time.monotonic() of the last look, successful or not
        self._away = False  # the last look got no answer

    async def look(self, timeout_s: float, max_age_s: float = 0.0) -> Job:
        """The job as Slurm sees it, at most so old. Raises SlurmAway."""
        age_s = time.monotonic() - self._asked_at
        if self._away and age_s < max_age_s * _AWAY_FACTOR:
            raise SlurmAway("asked a moment ago")
        if self.job is not None and age_s < max_age_s:
            return self.job
        self._away = True
        try:
            self.job = await slurm_control.look(self.job_id, timeout_s)
            self._away = False
        finally:
            self._asked_at = time.monotonic()
        return self.job

    async def settled(self, job: Job) -> Job:
        """The job as soon as Slurm says more than RUNNING of one that is about to end."""
        end = time.monotonic() + _SETTLE_S
        while job.state == "RUNNING" and time.monotonic() < end:
            await asyncio.sleep(0.25)
            try:
                job = await self.look(3.0)
            except SlurmAway:
                break
        return job


class InfoFile:
    """server_info.txt, looked at again and again: over NFS it is half there, or gone, for a moment."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unreadable_since: float | None = None

    def read(self) -> ServerInfo | None:
        """What it says; None while there is none. Raises UsageError where it has been unreadable for 10 s."""
        try:
            info = read_server_info(self._path) if self._path.exists() else None
        except UsageError:
            now = time.monotonic()
            self._unreadable_since = now if self._unreadable_since is None else self._unreadable_since
            if self._path.exists() and now - self._unreadable_since > _HALF_WRITTEN_S:
                raise
            return None
        self._unreadable_since = None
        return info


async def opens_to_its_key(info: ServerInfo) -> bool:
    """The server that the file names answers to the file's key; False where the file has none."""
    if not info.api_key or clear_proxy(info.url):
        return False
    models = await get(Endpoint(info.url, info.api_key), "/v1/models", 5.0)
    return models is not None and models.status == 200


async def refuses_connections(endpoint: Endpoint, timeout_s: float = 1.0) -> bool:
    """Its host says that nobody listens there. A host that says nothing does not refuse. Costs the server no request."""
    from yarl import URL

    url = URL(endpoint.base_url)
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(url.host or "", url.port), timeout_s)
    except ConnectionRefusedError:
        return True
    except OSError as why:  # TimeoutError is one; a name with several addresses gives one error for all
        return "refused" in str(why).lower()
    writer.close()
    return False


async def looked(job_id: str) -> Job:
    try:
        return await slurm_control.look(job_id)
    except SlurmAway as why:
        raise ServerError(f"Slurm does not answer ({why}); see `scontrol ping`") from why
