"""Which job serves a session: the live one that its server_info.txt names, or a new one."""

from __future__ import annotations

from pathlib import Path

from bench_tests.errors import ServerError
from bench_tests.server.client import get
from bench_tests.server.info import ServerInfo, read_server_info
from bench_tests.server.launch import launch_digest
from bench_tests.server.served import Endpoint, Say
from bench_tests.server.slurm.control import Job
from bench_tests.server.slurm.job import SlurmServer
from bench_tests.server.slurm.seen import looked, opens_to_its_key
from bench_tests.server.slurm.start import submitted_for
from bench_tests.sweep.profile import Profile

__all__ = ["obtain_job"]


async def obtain_job(profile: Profile, info_path: Path, log_dir: Path, say: Say, keep: bool = False) -> SlurmServer:
    """Attach to the live job that server_info.txt names if it serves this profile's model; else submit one.

    A configuration's file is its own, so what is there is of a sweep that was killed: its job is used, and ended with
    this session. Raises ServerError when another live server is named there: its file must not be written over.
    """
    if info_path.exists():
        info = read_server_info(info_path)
        if info.job_id and info.job_id.isdigit():
            job = await looked(info.job_id)
            serves = job.state == "RUNNING" or (job.state == "UNKNOWN" and await opens_to_its_key(info))
            if job.ended and not serves:
                say(f"{info_path} is stale: it names job {info.job_id}, which {job.words()}")
            else:
                _must_be_of(profile, info_path, info, job)
                if serves and profile.config is None:
                    return await SlurmServer.attach(info, profile, info_path, say)
        elif await get(Endpoint(info.url, info.api_key), "/v1/models", 5.0) is not None:
            raise ServerError(
                f"{info_path} names {info.url}, which answers and is no job of Slurm; its file would be "
                f"written over: use --server attach for it, or another --server-info PATH"
            )
    if profile.config is not None and (left := await submitted_for(info_path)) is not None:
        server = await SlurmServer.adopt(left.job_id, profile, info_path, say, keep)
        if server.info is None or server.info.launch != launch_digest(profile):
            await server.stop()
            raise ServerError(f"job {left.job_id} served {profile.config.name} by other settings than the profile has now, and "
                              "is cancelled; start the sweep again")  # fmt: skip
        return server
    return await SlurmServer.submit(profile, info_path, log_dir, say, keep)


def _must_be_of(profile: Profile, path: Path, info: ServerInfo, job: Job) -> None:
    other = ""
    if info.model != profile.model.id:
        other = f"serves {info.model}, not {profile.model.id}"
    elif profile.config is not None and info.launch != launch_digest(profile):
        other = f"serves {profile.config.name} by other settings than the profile has now"
    if other:
        raise ServerError(
            f"{path} names job {info.job_id}, which {job.words()} and {other}; use another --server-info PATH, or "
            f"`scancel {info.job_id}`"
        )
