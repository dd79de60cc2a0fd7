"""What runs inside a server's job: `python -m bench_tests.server.serve --profile NAME --server-info PATH`.

Starts the profile's serve command (in its container, where it has one), publishes server_info.txt when /health answers,
waits, passes TERM on, and takes the file away if it is still its own.
"""

from __future__ import annotations

import argparse
import os
import signal
import stat
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bench_tests.errors import BenchError, ServerError
from bench_tests.server.command import Command, lease_port, new_api_key, reachable_host, resolved, serve_command
from bench_tests.server.info import ServerInfo, default_server_info, remove_if_ours, write_server_info
from bench_tests.server.launch import launch_digest
from bench_tests.server.process import ServerProcess
from bench_tests.server.served import Endpoint
from bench_tests.server.slurm.ending import Stop, end, wait_for_end
from bench_tests.server.slurm.near import answers, wait_until_ready
from bench_tests.server.slurm.node import (
    cpu_warning,
    make_folders,
    must_have_gpus,
    reachable_address,
    reachable_name,
    with_defaults,
)
from bench_tests.server.slurm.power import JobPower
from bench_tests.server.slurm.request import profile_argument
from bench_tests.server.slurm.step import Head, as_step, is_step, on_each
from bench_tests.sweep.profile import Profile, in_config, load_profile

__all__ = ["main"]

_TERMINATED = 128 + signal.SIGTERM


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop. Exit status: the server's own; 143 after TERM; 4 wrong usage; 13 no server."""
    parser = argparse.ArgumentParser(prog="python -m bench_tests.server.serve", description=__doc__)
    parser.add_argument("--profile", default="kimi_k2", help="a profile's name or TOML file (default: kimi_k2)")
    parser.add_argument("--config", metavar="NAME", help="which of the profile's configurations")
    parser.add_argument("--server-info", type=Path, default=default_server_info(), metavar="PATH")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: all; a key guards it)")
    parser.add_argument("--no-container", action="store_true", help="even where the profile names an image")
    options = parser.parse_args(argv)
    # one log for the job: ours and the server's, both appending, so that neither writes over the other
    log = _job_log()
    try:
        profile = in_config(load_profile(options.profile), options.config)
        return _serve(profile, options.server_info.absolute(), options.host, options.no_container, log)
    except BenchError as why:
        text = str(why).partition("; last lines of ")[0] if log else str(why)  # they are right above, in this log
        print(f"serve: {text}", file=sys.stderr, flush=True)
        return 13 if isinstance(why, ServerError) else 4


def _serve(profile: Profile, path: Path, host: str, no_container: bool, log: Path | None) -> int:
    environ = with_defaults(os.environ)
    must_have_gpus(profile, environ)
    make_folders(profile, environ)
    doubt = cpu_warning(profile, environ)
    if doubt:
        _say(f"warning: {doubt}")
    name = reachable_name(environ)
    job_id = environ.get("SLURM_JOB_ID") or f"{name}-{os.getpid()}"
    log = log or Path(environ["LOGS_DIR"]) / f"{profile.name}-{job_id}.log"
    key = new_api_key()
    lease, meeting = lease_port(profile.server.port, host), lease_port(0, host)
    try:
        contained = bool(profile.container.image) and not no_container
        step = is_step(profile, contained)
        command = serve_command(profile, host=host, port=lease.port, api_key=key, environ=environ)
        if step and not contained:
            command = Command(resolved(command.argv, environ, profile.source), command.env)
        head = Head(name, meeting.port, reachable_address(name))
        command = on_each(command, profile, environ, head, contained=contained)
        if step:
            command = as_step(command, profile, environ, contained=contained)
        env = {**({} if step else environ), "PYTHONUNBUFFERED": "1", **command.env}
        argv = resolved(command.argv, env, profile.source)
        stop = Stop()  # before the server is there: a TERM that comes while it starts must find the handler
        process = ServerProcess(argv, env, log, stop_timeout_s=profile.server.stop_timeout, secret=key)
        power = JobPower(profile, environ, job_id)
        try:
            near = Endpoint(_at(host, lease.port), key)
            return _publish_and_wait(profile, path, near, process, stop, name, job_id, power.file or None)
        finally:
            power.end()
            stop.unpublish()
            end(process, job_id if step else None, profile.server.stop_timeout, _say)
            if stop.asked:
                _say("stopped after TERM")
    finally:
        lease.release()
        meeting.release()


def _publish_and_wait(
    profile: Profile,
    path: Path,
    near: Endpoint,
    process: ServerProcess,
    stop: Stop,
    name: str,
    job_id: str,
    power_file: str | None,
) -> int:
    port = int(near.base_url.rpartition(":")[2])
    began = time.monotonic()
    url, started = f"http://{name}:{port}", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    _say(f"starting {profile.model.id} ({profile.source}), to be at {url}, job {job_id}, log {process.log}")
    try:
        ready = wait_until_ready(
            near, process, timeout_s=profile.server.startup_timeout, say=_say, stopping=lambda: stop.asked
        )
    except ServerError:
        if stop.asked:
            return _TERMINATED
        raise
    if not ready:
        return _TERMINATED
    if answers(Endpoint(url), "/health") is None:
        _say(f"warning: {url} does not answer from this host itself; does its name resolve, and is the port open?")
    named = profile_argument(profile)  # the name of a file's profile would say nothing to a session elsewhere
    stop.unpublish = partial(remove_if_ours, path, job_id, started)
    if stop.asked:
        return _TERMINATED
    info = ServerInfo(
        url, named, profile.model.id, job_id, near.api_key, started, name, port, power_file=power_file,
        ready_s=f"{time.monotonic() - began:.3f}",
        config=profile.config.name if profile.config else None,
        launch=launch_digest(profile) if profile.config else None,
    )  # fmt: skip
    write_server_info(path, info)
    if stop.asked:  # it came while the file was written
        return _TERMINATED
    _say(f"serving {profile.model.id} (profile {profile.name}) at {url}, job {job_id}, see {path}")
    wait_for_end(process, stop)
    if stop.asked:
        return _TERMINATED
    how = process.ended()
    raise ServerError(f"the server {how}" if process.exit_code else "the server ended by itself")


def _at(host: str, port: int) -> str:
    return f"http://{reachable_host(host)}:{port}"


def _job_log() -> Path | None:
    try:
        if not stat.S_ISREG(os.fstat(1).st_mode) or "SLURM_JOB_ID" not in os.environ:
            return None
        path = Path(os.readlink("/proc/self/fd/1"))
        handle = os.open(path, os.O_WRONLY | os.O_APPEND)
    except OSError:
        return None
    same = os.path.samestat(os.fstat(1), os.fstat(2))
    os.dup2(handle, 1)
    if same:
        os.dup2(handle, 2)
    os.close(handle)
    return path


def _say(text: str) -> None:
    print(f"serve: {text}", flush=True)
